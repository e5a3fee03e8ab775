"""The page of ``keras-course play``: gradient descent to be dragged about, in one file that needs nothing else.

The page computes for itself, in JavaScript and in float64, with the course's formulas: the loss surfaces, the update
rules, and the generator that shuffles the batches. What Python knows as data (the numbers of the rules, where the
surfaces are looked at, the points of the lines) is embedded as JSON, so that no number is typed twice; the formulas are
tested against the Python ones in a real browser.

Nothing here imports Keras: the page is written in a moment.
"""

import hashlib
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from keras_course.datasets import lines
from keras_course.errors import CourseError
from keras_course.files import replacing
from keras_course.pages import assemble
from keras_course.surfaces import SURFACES
from keras_course.update_rules import UPDATE_RULES

_FOLDER = Path(__file__).parent

# One after the other they are one script: pure functions first, then what is chosen and how it is shown; page.js starts
# it.
_SCRIPTS = (
    *("threefry.js", "rules.js", "surfaces.js", "descend.js", "format.js", "charts.js"),
    *("state.js", "words.js", "show.js", "links.js", "page.js"),
)

# With which each surface is first shown: small enough to arrive, large enough not to crawl.
_LEARNING_RATES = {
    "two_points": 0.1,
    "ten_points": 0.02,
    "long_valley": 0.08,
    "curved_valley": 0.005,
    "several_minima": 0.01,
}

# How far a line's surface is shown beyond its start and its minimum, as a share of the way between them.
_MARGIN = 0.75


def write_page(path: str | os.PathLike[str]) -> Path:
    """Writes the page, whole or not at all.

    Args:
        path: The file to write, ending in ``.html``; missing folders are made.

    Returns:
        Its absolute path.

    Raises:
        CourseError: The path does not end in ``.html``, or is a folder.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> write_page(Path(folder.name, "play.html")).read_text("utf-8") == page()
        True
        >>> folder.cleanup()
    """
    target = Path(path).absolute()
    if target.suffix.lower() != ".html" or target.is_dir():
        raise CourseError(f"output is {str(path)!r}; give the name of a file that ends in .html")
    with replacing(target) as file:
        file.write(page().encode())
    return target


def page() -> str:
    """Puts the page together: text, style, script and data in one HTML document.

    Its policy makes the browser enforce that nothing is fetched and that no script runs but this one.

    Returns:
        The document, the same bytes each time.

    Example:
        >>> page().splitlines()[0]
        '<!DOCTYPE html>'
    """
    return assemble(_FOLDER, scripts=_SCRIPTS, data=_course())


def _course() -> dict[str, Any]:
    """What the page takes from the course, as it stands in the JSON."""
    return {
        "rules": {name: asdict(rule) for name, rule in UPDATE_RULES.items()},
        "surfaces": {name: _line(name) for name in lines.STARTS} | {name: _formula(name) for name in SURFACES},
        "shuffle": _stream_words("shuffle"),
    }


def _line(name: str) -> dict[str, Any]:
    x, y = (values.astype("float64") for values in lines.load_data(name))
    start = np.array(lines.STARTS[name])
    minimum = np.polyfit(x, y, 1).round(12)  # without the last bits, in which libraries differ
    margin = _MARGIN * abs(start - minimum)
    low, high = np.minimum(start, minimum) - margin, np.maximum(start, minimum) + margin
    return {
        "title": name.replace("_", " "),
        "labels": ["m", "b"],
        "bounds": np.stack([low, high], axis=1).ravel().round(6).tolist(),
        "start": start.tolist(),
        "minima": [minimum.tolist()],
        "learning_rate": _LEARNING_RATES[name],
        "data": {"x": x.tolist(), "y": y.tolist()},
    }


def _formula(name: str) -> dict[str, Any]:
    surface = SURFACES[name]
    return {
        "title": surface.title,
        "formula": surface.formula,
        "labels": ["p", "q"],
        "bounds": surface.bounds,
        "start": surface.start,
        "minima": surface.minima,
        "learning_rate": _LEARNING_RATES[name],
    }


def _stream_words(name: str) -> list[int]:
    """The two int32 words into which ``randomness.stream_key`` turns a stream's name."""
    digest = hashlib.blake2b(f"str:{name}".encode(), digest_size=8).digest()
    return np.frombuffer(digest, "<i4").tolist()
