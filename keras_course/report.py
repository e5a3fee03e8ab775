"""The report of a run: one HTML file with its results, its figures and its settings.

It is made only from files in the run directory, so it can be made again at any time:

- ``metrics.json``: one flat object of numbers and texts, such as ``accuracy`` or ``rmse``, ``loss``, ``parameters``,
  ``seconds``, ``steps_per_second``, ``seed``, ``backend``, ``device``, ``precision``, ``lesson``, ``data`` and
  ``command``; also ``loss_name`` (the name of the loss, such as "mean squared error"), ``versions`` (by package)
  and, as ``evaluation.per_class`` returns it, ``per_class``. None is required.
- ``history.csv``: a header and one row for each epoch.
- ``figures/*.png``, ``figures/*.gif``: the figures and animations. If both have the same name, the PNG is shown to
  readers who prefer no motion, and in print.

The page contains its figures and its style, loads nothing from the network, runs no script and has no date: the same
folder gives the same bytes.
"""

import csv
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_course.arguments import is_number
from keras_course.documents import NOTHING, Html, data_address, document, element, image, number_table, section
from keras_course.errors import CourseError
from keras_course.files import replacing

_NO_MOTION = "(prefers-reduced-motion: reduce), print"
_ABSENT = "–"
_REMEDY = "run the lesson again to write it"


def write_report(
    run_directory: str | os.PathLike[str],
    *,
    title: str,
    captions: Mapping[str, str] | None = None,
    sections: Mapping[str, str] | None = None,
    trained: bool = True,
) -> Path:
    """Writes ``report.html`` from the files in a run directory, and returns its path.

    The page is written under a temporary name and renamed, so there is never an incomplete one.

    Args:
        run_directory: A folder with ``metrics.json``, ``figures/`` and, if anything was trained, ``history.csv``.
        title: The heading of the page.
        captions: The figures to show, in this order: the file name without its suffix, and the caption, which a screen
            reader also reads. Without it, all figures in ``figures/`` are shown, sorted by name.
        sections: Texts before the results: headings and plain texts, with an empty line between paragraphs.
        trained: Whether a model was trained, so that there is a history.
    """
    folder = Path(run_directory)
    metrics = read_metrics(folder / "metrics.json")
    history = read_history(folder / "history.csv") if trained else {}
    if captions is None:
        found = {path.stem for ending in ("png", "gif") for path in (folder / "figures").glob(f"*.{ending}")}
        captions = {stem: _label(stem).capitalize() for stem in sorted(found)}
    sources = ", history.csv and figures/" if trained else " and figures/"
    body = [
        element("h1", title),
        _summary(metrics),
        *(_text_section(heading, text) for heading, text in (sections or {}).items()),
        _facts(metrics),
        _figures(folder / "figures", captions),
        *([_epochs(history)] if trained else []),
        _classes(metrics.get("per_class"), folder / "metrics.json"),
        _command(metrics.get("command")),
        element("footer", f"Read from metrics.json{sources} in the folder of this page."),
    ]
    page = folder / "report.html"
    with replacing(page) as file:
        file.write(document(title, body).encode())
    return page


def read_metrics(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the ``metrics.json`` of a run.

    Args:
        path: The file.

    Returns:
        The values by name.

    Raises:
        CourseError: The file is missing, is not JSON, or does not hold one object.

    Example:
        >>> read_metrics("nowhere/metrics.json")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: nowhere/metrics.json is missing; run the lesson again to write it
    """
    try:
        metrics = json.loads(_read_text(Path(path)))
    except json.JSONDecodeError as error:
        raise CourseError(f"{path} is not JSON (line {error.lineno}: {error.msg}); {_REMEDY}") from error
    if not isinstance(metrics, dict):
        raise CourseError(f"{path} holds a {type(metrics).__name__} instead of an object; {_REMEDY}")
    return metrics


def read_history(path: str | os.PathLike[str]) -> dict[str, list[float]]:
    r"""Reads the ``history.csv`` of a run.

    Args:
        path: A file with a header, which contains at least ``epoch`` and ``loss``, and one row for each epoch.

    Returns:
        The values by the names of the columns, as ``plots.training_curves`` takes them; an empty cell is NaN.

    Raises:
        CourseError: The file is missing, has no epoch, or has a cell that is not a number.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = Path(folder.name, "history.csv").write_text("epoch,loss,val_loss\n1,0.5,\n2,0.25,0.75\n")
        >>> read_history(Path(folder.name, "history.csv"))
        {'epoch': [1.0, 2.0], 'loss': [0.5, 0.25], 'val_loss': [nan, 0.75]}
        >>> folder.cleanup()
    """
    rows = list(csv.reader(_read_text(Path(path)).splitlines()))
    names = rows[0] if rows else []
    if not {"epoch", "loss"} <= set(names) or len(set(names)) != len(names):
        raise CourseError(f"{path} begins with {','.join(names)!r}, not with a header of epoch, loss, ...; {_REMEDY}")
    if len(rows) == 1:
        raise CourseError(f"{path} has a header and no epoch; train for at least one epoch")
    history: dict[str, list[float]] = {name: [] for name in names}
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise CourseError(f"{path} has {len(row)} cells in line {line} under {len(names)} names; {_REMEDY}")
        for name, cell in zip(names, row, strict=True):
            try:
                history[name].append(float(cell or "nan"))
            except ValueError as error:
                raise CourseError(f"{path} has {cell!r} as {name} in line {line}, not a number; {_REMEDY}") from error
    return history


# The parts of the page, from top to bottom.


def _summary(metrics: Mapping[str, Any]) -> Html:
    """Returns the results in one line, as far as they are known."""
    parts = []
    if is_number(metrics.get("accuracy")):
        parts.append(f"{_percent(metrics['accuracy'])} accuracy")
    elif is_number(metrics.get("rmse")):
        parts.append(f"{_RESULTS['rmse'][0]} {_decimal(metrics['rmse'])}")
    if is_number(metrics.get("parameters")):
        parts.append(f"{_whole(metrics['parameters'])} parameters")
    training = [
        f"in {_duration(metrics['seconds'])}" if is_number(metrics.get("seconds")) else "",
        f"with {metrics['backend']}" if "backend" in metrics else "",
        f"on {metrics['device']}" if "device" in metrics else "",
    ]
    if any(training):
        parts.append(" ".join(["trained", *filter(None, training)]))
    return element("p", " · ".join(parts), class_="summary") if parts else NOTHING


def _text_section(heading: str, text: str) -> Html:
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return section(heading, *(element("p", paragraph) for paragraph in paragraphs if paragraph))


def _facts(metrics: Mapping[str, Any]) -> Html:
    """Returns two tables: the results, and how the model was made."""
    results = {name: metrics[name] for name in _RESULTS if name in metrics}
    elsewhere = {*results, "per_class", "command", "loss_name"}
    origin = {name: value for name, value in metrics.items() if name not in elsewhere}
    # "loss", or its name, such as "mean squared error"
    names = {
        name: label.replace("loss", str(metrics.get("loss_name", "loss"))) for name, (label, _) in _RESULTS.items()
    }
    rows = {
        "Results": [(names[name], _value(value, _RESULTS[name][1])) for name, value in results.items()],
        "How it was made": [(_label(name), _value(value, _plain)) for name, value in origin.items()],
    }
    tables = [section(heading, _fact_table(facts)) for heading, facts in rows.items() if facts]
    return element("div", *tables, class_="facts") if tables else NOTHING


def _fact_table(facts: Iterable[tuple[str, str]]) -> Html:
    rows = (element("tr", element("th", name, scope="row"), element("td", value)) for name, value in facts)
    return element("table", element("tbody", *rows))


def _figures(folder: Path, captions: Mapping[str, str]) -> Html:
    figures = [
        element("figure", _picture(folder, stem, caption), element("figcaption", caption))
        for stem, caption in captions.items()
    ]
    return section("Figures", *figures) if figures else NOTHING


def _picture(folder: Path, stem: str, caption: str) -> Html:
    """Embeds a PNG, or a GIF together with the PNG of the same name, if there is one."""
    still, moving = folder / f"{stem}.png", folder / f"{stem}.gif"
    if not moving.is_file():
        return image(still, caption)
    if not still.is_file():
        return image(moving, caption)
    source = element("source", srcset=data_address(still), media=_NO_MOTION)
    return element("picture", source, image(moving, caption))


def _epochs(history: Mapping[str, Sequence[float]]) -> Html:
    formats = {name: _history_format(name) for name in history}
    header = [_label(name) for name in history]
    rows = [
        [_value(cell, form) for cell, form in zip(row, formats.values(), strict=True)]
        for row in zip(*history.values(), strict=True)
    ]
    return section("Epochs", number_table(header, rows, "Table of epochs"))


def _classes(per_class: Any, path: Path) -> Html:
    if per_class is None:
        return NOTHING
    try:
        rows = [
            [str(scores["name"]), _percent(scores["precision"]), _percent(scores["recall"]), _whole(scores["support"])]
            for scores in per_class
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise CourseError(
            f"{path} has a malformed per_class ({type(error).__name__}: {error}); "
            "write what keras_course.evaluation.per_class returns"
        ) from error
    return section("Each class", number_table(["class", "precision", "recall", "pictures"], rows, "Table of classes"))


def _command(command: Any) -> Html:
    return section("Command", element("pre", element("code", str(command)))) if command else NOTHING


# Formats of numbers.


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _decimal(value: float) -> str:
    return f"{value:.4f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.4g}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _plain(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


# The results, in this order: the name on the page and the format.
_RESULTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "accuracy": ("accuracy", _percent),
    "val_accuracy": ("validation accuracy", _percent),
    "loss": ("loss", _decimal),
    "val_loss": ("validation loss", _decimal),
    "rmse": ("root mean squared error", _decimal),
    "val_rmse": ("validation root mean squared error", _decimal),
    "m": ("slope m", _decimal),
    "b": ("intercept b", _decimal),
    "parameters": ("parameters", _whole),
    "seconds": ("training time", _duration),
    "steps_per_second": ("steps per second", _whole),
}


def _history_format(name: str) -> Callable[[float], str]:
    if name == "epoch":
        return _whole
    if name.endswith("accuracy"):
        return _percent
    return (lambda seconds: f"{seconds:.1f}") if name == "seconds" else _decimal


def _value(value: Any, form: Callable[[float], str]) -> str:
    """Formats a value of a metric or of an epoch, of any type."""
    if value is None or value != value:  # only NaN differs from itself
        return _ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        return form(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(inner, form)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_value(inner, form) for inner in value)
    return str(value)  # a text, or an infinite number: "inf"


def _label(name: str) -> str:
    words = name.replace("_", " ").replace("-", " ")
    return f"validation {words[4:]}" if words.startswith("val ") else words


# Files.


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CourseError(f"{path} is missing; {_REMEDY}") from error
    except UnicodeDecodeError as error:
        raise CourseError(f"{path} is not UTF-8 text; {_REMEDY}") from error
