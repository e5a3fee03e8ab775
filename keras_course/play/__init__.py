"""The page of ``keras-course play``: interactive gradient descent in one HTML file.

The page computes in JavaScript, in float64, with the course's formulas: loss surfaces, update rules, and the generator
that shuffles the batches. Numbers that Python also needs (parameters of the rules, bounds of the surfaces, points of
the lines) are embedded as JSON, so that none is typed twice. Tests compare the formulas with those in Python in a
browser.

Nothing here imports Keras, so that the page is written quickly.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from keras_course.datasets import lines
from keras_course.errors import CourseError
from keras_course.files import replacing
from keras_course.pages import assemble
from keras_course.randomness.generator import name_words
from keras_course.surfaces import SURFACES
from keras_course.update_rules import UPDATE_RULES

_FOLDER = Path(__file__).parent

# Together they are one script: first pure functions, then the state and how it is shown. page.js starts it.
_SCRIPTS = (
    *("threefry.js", "rules.js", "surfaces.js", "descend.js", "format.js", "charts.js"),
    *("state.js", "words.js", "show.js", "links.js", "page.js"),
)

# The learning rate with which each surface is shown first: it converges, and not too slowly.
_LEARNING_RATES = {
    "two_points": 0.1,
    "ten_points": 0.02,
    "long_valley": 0.08,
    "curved_valley": 0.005,
    "several_minima": 0.01,
}

# The margin around start and minimum of a line's surface, as a fraction of their distance.
_MARGIN = 0.75


def write_page(path: str | os.PathLike[str]) -> Path:
    """Writes the page to a file that ends in ``.html``, atomically, and returns its absolute path."""
    target = Path(path).absolute()
    if target.suffix.lower() != ".html" or target.is_dir():
        raise CourseError(f"output is {str(path)!r}; give the name of a file that ends in .html")
    with replacing(target) as file:
        file.write(page().encode())
    return target


def page() -> str:
    """Returns the page: text, style, script and data in one HTML document, always the same.

    With its content security policy, the browser loads nothing else and runs no other script.
    """
    return assemble(_FOLDER, scripts=_SCRIPTS, data=_course())


def _course() -> dict[str, Any]:
    """Returns the data for the JSON in the page."""
    return {
        "rules": {name: asdict(rule) for name, rule in UPDATE_RULES.items()},
        "surfaces": {name: _line(name) for name in lines.STARTS} | {name: _formula(name) for name in SURFACES},
        "shuffle": name_words("shuffle").tolist(),
    }


def _line(name: str) -> dict[str, Any]:
    x, y = (values.astype("float64") for values in lines.load_data(name))
    start = np.array(lines.STARTS[name])
    minimum = np.polyfit(x, y, 1).round(12)  # without the last bits, which differ between libraries
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
