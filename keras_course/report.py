"""The page that a run leaves behind: one HTML file with its numbers, its curves and how it was made.

Everything on the page is read from the run directory, so that a report can be remade from the folder alone:

- ``metrics.json``: one flat object of numbers and texts, such as ``accuracy`` or ``rmse``, ``loss``, ``parameters``,
  ``seconds``, ``steps_per_second``, ``seed``, ``backend``, ``device``, ``precision``, ``lesson``, ``data`` and
  ``command``; also ``loss_name`` (what the loss is, such as "mean squared error"), ``versions`` (package to version)
  and, as ``evaluation.per_class`` returns it, ``per_class``. None is required.
- ``history.csv``: a header and one row for each epoch.
- ``figures/*.png``, ``figures/*.gif``: the pictures and animations. Where both have one name, the PNG is shown to a
  person who prefers no motion, and in print.

The page holds its pictures and its style, asks the network for nothing, runs no script and carries no date: the same
folder gives the same bytes.
"""

import base64
import csv
import html
import json
import math
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_course.errors import CourseError
from keras_course.files import replacing

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GIF_SIGNATURES = (b"GIF87a", b"GIF89a")
_NO_MOTION = "(prefers-reduced-motion: reduce), print"
_CSS_PIXELS_PER_PIXEL = 96 / 120  # our figures have 120 dots per inch, a browser counts 96
_ABSENT = "–"

_CSS = """
:root { color-scheme: light dark; --text: #1f2328; --quiet: #59636e; --line: #d9dee3; --page: #fff;
  --card: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ec; --quiet: #9aa4af; --line: #363c44; --page: #15181c; --card: #1d2126; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 3rem; max-width: 62rem; background: var(--page); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { margin: 0 0 .35rem; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.6rem 0 .7rem; font-size: 1.25rem; }
p { max-width: 42rem; margin: 0 0 .8rem; overflow-wrap: anywhere; }
.summary { color: var(--quiet); font-size: 1.1rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); column-gap: 3rem; }
.facts table { width: 100%; }
.facts th { width: 9.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem 1.1rem .38rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { font-weight: 500; color: var(--quiet); }
thead th { white-space: nowrap; }
td { overflow-wrap: anywhere; }
.numbers th:not(:first-child), .numbers td { text-align: right; white-space: nowrap; padding: .38rem 0 .38rem 1.6rem; }
pre { margin: 0; padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere;
  background: var(--card); border-radius: .5rem; }
code { font: .92rem/1.5 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
figure { margin: 0 0 2rem; }
img { display: block; max-width: 100%; height: auto; padding: .5rem; background: #fff; border: 1px solid var(--line);
  border-radius: .5rem; }
figcaption { margin-top: .5rem; max-width: 42rem; color: var(--quiet); overflow-wrap: anywhere; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--quiet);
  font-size: .9rem; }
"""


def write_report(
    run_directory: str | os.PathLike[str],
    *,
    title: str,
    captions: Mapping[str, str] | None = None,
    sections: Mapping[str, str] | None = None,
    trained: bool = True,
) -> Path:
    r"""Write ``report.html`` into a run directory from the files in it.

    Args:
        run_directory: A folder with ``metrics.json``, ``figures/`` and, if anything was trained, ``history.csv``.
        title: The heading of the page.
        captions: The figures to show, in this order: the name of the PNG or GIF file without its ending, and its
            caption, which is also what a screen reader says. Without it, all in ``figures/``, sorted by name.
        sections: Texts to put before the results: heading and plain text, an empty line between paragraphs.
        trained: Whether anything was trained, so that there is a history.

    Returns:
        The path of the page. It is written beside and renamed, so that a reader never meets half of it.

    Raises:
        CourseError: A file is missing or malformed.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = Path(folder.name, "metrics.json").write_text('{"accuracy": 0.9813}')
        >>> _ = Path(folder.name, "history.csv").write_text("epoch,loss\n1,0.25\n")
        >>> page = write_report(folder.name, title="Digits")
        >>> page.name, "98.13 %" in page.read_text(encoding="utf-8")
        ('report.html', True)
        >>> folder.cleanup()
    """
    folder = Path(run_directory)
    metrics = read_metrics(folder / "metrics.json")
    history = read_history(folder / "history.csv") if trained else {}
    if captions is None:
        found = {path.stem for ending in ("png", "gif") for path in (folder / "figures").glob(f"*.{ending}")}
        captions = {stem: _label(stem).capitalize() for stem in sorted(found)}
    sources = ", history.csv and figures/" if trained else " and figures/"
    body = [
        _element("h1", title),
        _summary(metrics),
        *(_text_section(heading, text) for heading, text in (sections or {}).items()),
        _facts(metrics),
        _figures(folder / "figures", captions),
        *([_epochs(history)] if trained else []),
        _classes(metrics.get("per_class"), folder / "metrics.json"),
        _command(metrics.get("command")),
        _element("footer", f"Read from metrics.json{sources} in the folder of this page."),
    ]
    page = folder / "report.html"
    with replacing(page) as file:
        file.write(_page(title, body).encode())
    return page


def read_metrics(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the ``metrics.json`` of a run.

    Args:
        path: The file.

    Returns:
        Its object: names to values.

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
        raise CourseError(
            f"{path} is not JSON (line {error.lineno}: {error.msg}); run the lesson again to write it"
        ) from error
    if not isinstance(metrics, dict):
        raise CourseError(
            f"{path} holds a {type(metrics).__name__} instead of an object; run the lesson again to write it"
        )
    return metrics


def read_history(path: str | os.PathLike[str]) -> dict[str, list[float]]:
    r"""Read the ``history.csv`` of a run, as ``plots.training_curves`` takes it.

    Args:
        path: A file with a header, which has at least ``epoch`` and ``loss``, and one row for each epoch.

    Returns:
        Column names to values, in the order of the file; an empty cell is NaN.

    Raises:
        CourseError: The file is missing, has no epoch, or has a cell that is no number.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = Path(folder.name, "history.csv").write_text("epoch,loss,val_loss\n1,0.5,\n2,0.25,0.75\n")
        >>> read_history(Path(folder.name, "history.csv"))
        {'epoch': [1.0, 2.0], 'loss': [0.5, 0.25], 'val_loss': [nan, 0.75]}
        >>> folder.cleanup()
    """
    remedy = "run the lesson again to write it"
    rows = list(csv.reader(_read_text(Path(path)).splitlines()))
    names = rows[0] if rows else []
    if not {"epoch", "loss"} <= set(names) or len(set(names)) != len(names):
        raise CourseError(f"{path} begins with {','.join(names)!r}, not with a header of epoch, loss, ...; {remedy}")
    if len(rows) == 1:
        raise CourseError(f"{path} has a header and no epoch; train for at least one epoch")
    history: dict[str, list[float]] = {name: [] for name in names}
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise CourseError(f"{path} has {len(row)} cells in line {line} under {len(names)} names; {remedy}")
        for name, cell in zip(names, row, strict=True):
            try:
                history[name].append(float(cell or "nan"))
            except ValueError as error:
                raise CourseError(f"{path} has {cell!r} as {name} in line {line}, not a number; {remedy}") from error
    return history


# The parts of the page, from top to bottom.


class _Html(str):
    """Text that is HTML already. Every other string is escaped on its way into an element."""

    __slots__ = ()


_NOTHING = _Html("")


def _element(tag: str, *children: str, **attributes: str) -> _Html:
    inside = "".join(child if isinstance(child, _Html) else html.escape(child) for child in children)
    # Python has no keyword "class": class_ stands for it. A hyphen is written as an underscore.
    named = {name.rstrip("_").replace("_", "-"): html.escape(value) for name, value in attributes.items()}
    opening = " ".join([tag, *(f'{name}="{value}"' for name, value in named.items())])
    return _Html(f"<{opening}>" if tag in ("img", "source") else f"<{opening}>{inside}</{tag}>")


def _section(heading: str, *children: str) -> _Html:
    return _element("section", _element("h2", heading), *children)


def _page(title: str, body: Iterable[str]) -> str:
    # The policy makes the browser enforce that the page asks for nothing and runs nothing.
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>{_CSS}</style>
</head>
<body>
{_element("main", *body)}
</body>
</html>
"""


def _summary(metrics: Mapping[str, Any]) -> _Html:
    """Say the result in one line, from what there is of it."""
    parts = []
    if _is_number(metrics.get("accuracy")):
        parts.append(f"{_percent(metrics['accuracy'])} accuracy")
    elif _is_number(metrics.get("rmse")):
        parts.append(f"{_RESULTS['rmse'][0]} {_decimal(metrics['rmse'])}")
    if _is_number(metrics.get("parameters")):
        parts.append(f"{_whole(metrics['parameters'])} parameters")
    training = [
        f"in {_duration(metrics['seconds'])}" if _is_number(metrics.get("seconds")) else "",
        f"with {metrics['backend']}" if "backend" in metrics else "",
        f"on {metrics['device']}" if "device" in metrics else "",
    ]
    if any(training):
        parts.append(" ".join(["trained", *filter(None, training)]))
    return _element("p", " · ".join(parts), class_="summary") if parts else _NOTHING


def _text_section(heading: str, text: str) -> _Html:
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return _section(heading, *(_element("p", paragraph) for paragraph in paragraphs if paragraph))


def _facts(metrics: Mapping[str, Any]) -> _Html:
    """Tabulate the results and, beside them, how they came about."""
    results = {name: metrics[name] for name in _RESULTS if name in metrics}
    elsewhere = {*results, "per_class", "command", "loss_name"}
    origin = {name: value for name, value in metrics.items() if name not in elsewhere}
    # "loss" or, where a run says what its loss is, that: "mean squared error".
    names = {
        name: label.replace("loss", str(metrics.get("loss_name", "loss"))) for name, (label, _) in _RESULTS.items()
    }
    rows = {
        "Results": [(names[name], _value(value, _RESULTS[name][1])) for name, value in results.items()],
        "How it was made": [(_label(name), _value(value, _plain)) for name, value in origin.items()],
    }
    tables = [_section(heading, _fact_table(facts)) for heading, facts in rows.items() if facts]
    return _element("div", *tables, class_="facts") if tables else _NOTHING


def _fact_table(facts: Iterable[tuple[str, str]]) -> _Html:
    rows = (_element("tr", _element("th", name, scope="row"), _element("td", value)) for name, value in facts)
    return _element("table", _element("tbody", *rows))


def _figures(folder: Path, captions: Mapping[str, str]) -> _Html:
    figures = [
        _element("figure", _picture(folder, stem, caption), _element("figcaption", caption))
        for stem, caption in captions.items()
    ]
    return _section("Figures", *figures) if figures else _NOTHING


def _picture(folder: Path, stem: str, caption: str) -> _Html:
    """Embed a PNG, or a GIF and, where there is one, the PNG that stands for it."""
    still, moving = folder / f"{stem}.png", folder / f"{stem}.gif"
    if not moving.is_file():
        return _image(still, caption)
    if not still.is_file():
        return _image(moving, caption)
    source = _element("source", srcset=_data_address(still), media=_NO_MOTION)
    return _element("picture", source, _image(moving, caption))


def _image(path: Path, caption: str) -> _Html:
    width, height = _size(path)  # it lets a browser keep the place free
    return _element(
        "img",
        src=_data_address(path),
        alt=caption,
        width=str(round(width * _CSS_PIXELS_PER_PIXEL)),
        height=str(round(height * _CSS_PIXELS_PER_PIXEL)),
    )


def _data_address(path: Path) -> str:
    _size(path)  # checks that it is a picture
    return f"data:image/{path.suffix[1:]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _size(path: Path) -> tuple[int, int]:
    """Read width and height from the first bytes of a PNG or GIF file."""
    kind = path.suffix[1:].upper()
    remedy = f"draw it with keras_course.plots.{'save' if kind == 'PNG' else 'save_animation'} before the report"
    if not path.is_file():
        raise CourseError(f"{path} is missing; {remedy}")
    with path.open("rb") as file:
        head = file.read(24)
    if kind == "PNG" and len(head) == 24 and head.startswith(_PNG_SIGNATURE):
        width, height = struct.unpack(">II", head[16:24])
    elif kind == "GIF" and len(head) >= 10 and head.startswith(_GIF_SIGNATURES):
        width, height = struct.unpack("<HH", head[6:10])
    else:
        raise CourseError(f"{path} is not a {kind} picture; {remedy}")
    return width, height


def _epochs(history: Mapping[str, Sequence[float]]) -> _Html:
    formats = {name: _history_format(name) for name in history}
    header = [_label(name) for name in history]
    rows = [
        [_value(cell, form) for cell, form in zip(row, formats.values(), strict=True)]
        for row in zip(*history.values(), strict=True)
    ]
    return _section("Epochs", _number_table(header, rows, "Table of epochs"))


def _classes(per_class: Any, path: Path) -> _Html:
    if per_class is None:
        return _NOTHING
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
    return _section("Each class", _number_table(["class", "precision", "recall", "pictures"], rows, "Table of classes"))


def _number_table(header: Sequence[str], rows: Iterable[Sequence[str]], name: str) -> _Html:
    """Tabulate rows whose first cell is their heading, in a frame that scrolls sideways on a phone."""
    head = _element("thead", _element("tr", *(_element("th", cell, scope="col") for cell in header)))
    body = _element(
        "tbody",
        *(
            _element("tr", _element("th", row[0], scope="row"), *(_element("td", cell) for cell in row[1:]))
            for row in rows
        ),
    )
    table = _element("table", head, body, class_="numbers")
    return _element("div", table, class_="scroll", role="region", aria_label=name, tabindex="0")


def _command(command: Any) -> _Html:
    return _section("Command", _element("pre", _element("code", str(command)))) if command else _NOTHING


# Numbers as a person writes them.


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


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


# What counts as a result: its name on the page and how it is written, in this order.
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
    """Write one value of a metric or of an epoch, whatever it is."""
    if value is None or value != value:  # NaN alone differs from itself
        return _ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_number(value):
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
        raise CourseError(f"{path} is missing; run the lesson again to write it") from error
    except UnicodeDecodeError as error:
        raise CourseError(f"{path} is not UTF-8 text; run the lesson again to write it") from error
