"""Loss curves of several trainings, first as a question and then with the answer."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from keras_course.errors import CourseError
from keras_course.plots import checks
from keras_course.plots.checks import Numbers
from keras_course.plots.style import (
    COLORS,
    MARKERS,
    SERIES,
    count_in_whole_numbers,
    in_course_style,
    make_logarithmic,
    new_figure,
    ramp,
    spans_sizes,
    y_fraction,
)

_EXPLODED = 10.0  # a loss above this multiple of the largest first loss counts as diverged
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DASHED: dict[str, Any] = {"linestyle": (0, (4, 1.6)), "linewidth": 1.7}
_Losses = npt.ArrayLike | tuple[npt.ArrayLike, npt.ArrayLike]  # or x and losses
_TAG_APART = 0.085  # distance of tags, as a fraction of the height of the panel


@dataclass(frozen=True)
class _Curve:
    """A curve and its look."""

    name: str
    letter: str  # the same in question and answer
    x: Numbers  # epochs or steps
    y: Numbers  # losses; the last ones need not be finite
    diverged: bool  # the last loss is not finite, or far above the first losses of all curves
    color: str  # of the training and of the validation curve
    marker: str  # at its end


@in_course_style
def loss_curves(
    curves: Mapping[str, _Losses],
    *,
    x_label: str = "epoch",
    loss_label: str = "mean squared error",
    validation: Mapping[str, _Losses] | None = None,
    legend: bool = True,
    question: str | None = None,
    ordered: bool = False,
    log: bool | None = None,
) -> Figure:
    """Draws the losses of several trainings, each with a letter at its end and, with ``legend``, its name.

    The letters depend only on the names, and three or more letters are never in the order of the names: a figure
    without names is a question, and the same call with names is its answer. A training that diverged ends in a cross;
    it does not change the limits of the axes.

    Args:
        curves: The losses for each name, shape ``(n,)`` for x = 0, 1, ..., n - 1, or a tuple of x and losses. The
            lengths can differ. NaN leaves a gap.
        x_label: The label of the x axis, with its unit.
        loss_label: The name of the loss, with its unit.
        validation: Validation losses for some or all of the names; they are dashed.
        legend: Whether the names are shown beside the letters.
        question: A title, such as "Which curve has the largest batch size?".
        ordered: Whether the names are in the order of a quantity, such as the learning rate: with ``legend`` the curves
            are then colored from dark to light.
        log: Whether the loss axis is logarithmic. If None, it is logarithmic if all losses are above 0 and the largest
            is more than 20 times the smallest.

    Returns:
        A figure with one panel.

    Raises:
        CourseError: There is no curve, a curve has no finite loss or a wrong number of x, ``validation`` has another
            name, or ``log`` is True and a loss is not above 0.

    Example:
        >>> losses = {"size 8": [4.0, 1.0, 0.5], "size 32": [4.0, 2.0, 1.0], "size 128": [4.0, 3.0, 2.0]}
        >>> figure = loss_curves(losses, legend=False, question="Which curve has the largest batch size?")
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['B', 'C', 'A']
        >>> [text.get_text() for text in loss_curves(losses).axes[0].texts]
        ['B  size 8', 'C  size 32', 'A  size 128']
    """
    family = _family(curves, ordered=ordered and legend, by_letter=not legend)
    dashed = {name: _x_and_losses(f"validation[{name!r}]", values) for name, values in (validation or {}).items()}
    checks.known_names("validation", dashed, [curve.name for curve in family])
    seen = _values_in_view(family, dashed)
    if log and seen.min() <= 0:
        raise CourseError(f"log is True and the smallest loss is {seen.min():g}; losses above 0 can be logarithmic")
    longest = max(len(curve.name) for curve in family) if legend else 0
    figure = new_figure(7.2 + 0.1 * longest, max(4.6, 1.4 + 0.34 * len(family)), question)
    axes = figure.subplots()
    if log or (log is None and spans_sizes(seen)):
        make_logarithmic(axes.yaxis)
    _set_limits(axes, family, seen)
    for curve in family:
        axes.plot(*_within(axes, curve.x, curve.y), color=curve.color, label=curve.name if legend else curve.letter)
        if curve.name in dashed:
            axes.plot(*_within(axes, *dashed[curve.name]), color=curve.color, **_DASHED)
    axes.set(xlabel=x_label, ylabel=loss_label)
    if dashed:
        _explain_dashes(figure)
    _tag_ends(axes, family, with_names=legend)
    return figure


def _family(curves: Mapping[str, _Losses], *, ordered: bool, by_letter: bool) -> list[_Curve]:
    """Checks the curves and chooses their letters, colors and markers."""
    data = {name: _x_and_losses(f"curves[{name!r}]", values) for name, values in checks.named("curves", curves).items()}
    if len(data) > len(_LETTERS):
        raise CourseError(f"curves are {len(data)}, one letter each; give at most {len(_LETTERS)}")
    ceiling = _ceiling(data.values())
    letters = _scrambled_letters(list(data))
    ramp_colors = ramp(len(data))
    family = []
    for position, ((name, (x, y)), letter) in enumerate(zip(data.items(), letters, strict=True)):
        look = _LETTERS.index(letter) if by_letter else position
        color = ramp_colors[position] if ordered else SERIES[look % len(SERIES)]
        diverged = not np.isfinite(y[-1]) or bool(y[-1] > ceiling)
        family.append(_Curve(name, letter, x, y, diverged, color, MARKERS[look % len(MARKERS)]))
    return family


def _x_and_losses(name: str, values: _Losses) -> tuple[Numbers, Numbers]:
    if isinstance(values, tuple):
        if len(values) != 2:
            raise CourseError(f"{name} is a tuple of {len(values)}; give (x, losses), or the losses as an array")
        return checks.points(f"x of {name} and losses of {name}", *values)
    losses = checks.column(name, values)
    return np.arange(len(losses), dtype=np.float64), losses


def _ceiling(data: Iterable[tuple[Numbers, Numbers]]) -> float:
    """Returns the loss above which a training counts as diverged."""
    first = max(abs(float(y[np.isfinite(y)][0])) for _, y in data)
    return _EXPLODED * first if first > 0 else np.inf


def _scrambled_letters(names: Sequence[str]) -> list[str]:
    """Returns a letter for each name; the order depends only on the names and is neither theirs nor its reverse."""
    salt = 0
    while True:
        digests = [hashlib.sha256(f"{salt} {name} of {', '.join(names)}".encode()).digest() for name in names]
        ranks = [sorted(digests).index(digest) for digest in digests]
        if len(names) < 3 or ranks not in (sorted(ranks), sorted(ranks, reverse=True)):
            return [_LETTERS[rank] for rank in ranks]
        salt += 1


def _values_in_view(family: Sequence[_Curve], dashed: Mapping[str, tuple[Numbers, Numbers]]) -> Numbers:
    """Returns the losses that the axis shows: all of the trainings that converged, and the first of the others.

    If all diverged, these are all losses below the limit.
    """
    steady = [values for curve in family if not curve.diverged for values in (curve.y, *dashed.get(curve.name, ())[1:])]
    ceiling = _ceiling((curve.x, curve.y) for curve in family)
    lost = [curve.y for curve in family if curve.diverged]
    begun = [y[np.isfinite(y)][:1] if steady else y[y <= ceiling] for y in lost]
    values = np.concatenate([*steady, *begun])
    return values[np.isfinite(values)]


def _set_limits(axes: Axes, family: Sequence[_Curve], seen: Numbers) -> None:
    first, last = min(curve.x.min() for curve in family), max(curve.x.max() for curve in family)
    margin = 0.02 * (last - first) or 0.5
    axes.set_xlim(first - margin, last + margin)
    if all((curve.x == curve.x.round()).all() for curve in family):
        count_in_whole_numbers(axes.xaxis)
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(np.array([seen.min(), seen.max()]))
    room = (high - low) or 1.0
    headroom = 0.25 if any(curve.diverged for curve in family) else 0.05  # for the first steps of diverging trainings
    axes.set_ylim(*scale.inverted().transform(np.array([low - 0.05 * room, high + headroom * room])))


def _within(axes: Axes, x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """Cuts a curve where it leaves the panel at the top and does not come back."""
    top = axes.get_ylim()[1]
    inside = np.flatnonzero(np.isfinite(y) & (y <= top))
    stop = int(inside[-1]) + 1 if len(inside) else 0
    kept = np.where(np.isfinite(y[:stop]), y[:stop], np.nan)
    if stop in (0, len(y)) or not np.isfinite(y[stop]):
        return x[:stop], kept
    scale = axes.yaxis.get_transform()
    before, after, edge = scale.transform(np.array([y[stop - 1], y[stop], top]))
    crossing = x[stop - 1] + (edge - before) / (after - before) * (x[stop] - x[stop - 1])
    return np.append(x[:stop], crossing), np.append(kept, top)


def _explain_dashes(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=COLORS["text"], label="training"),
        Line2D([], [], color=COLORS["text"], label="validation", **_DASHED),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


def _tag_ends(axes: Axes, family: Sequence[_Curve], *, with_names: bool) -> None:
    """Marks the end of each curve, and writes letters and names beside the panel without overlap."""
    apart = min(_TAG_APART, 1 / max(1, len(family) - 1))
    steady = [curve for curve in family if not curve.diverged]
    lost = [curve for curve in family if curve.diverged]
    named_lost = lost if with_names else []
    ends = [_within(axes, curve.x, curve.y) for curve in steady]
    heights = _spread([*(y_fraction(axes, y[-1]) for _, y in ends), *[1.0] * len(named_lost)], apart)
    for curve, (x, y), height in zip(steady, ends, heights, strict=False):
        mark: dict[str, Any] = {"color": curve.color, "markersize": 9, "markeredgecolor": "white", "markeredgewidth": 1}
        axes.plot(x[-1:], y[-1:], curve.marker, **mark, clip_on=False)
        text = f"{curve.letter}  {curve.name}" if with_names else curve.letter
        line = {"arrowstyle": "-", "color": curve.color, "linewidth": 1, "shrinkA": 0, "shrinkB": 5, "relpos": (0, 0.5)}
        end = (x[-1], y[-1])
        axes.annotate(text, end, (1.05, height), textcoords="axes fraction", arrowprops=line, **_tag(curve))
    for curve, height in zip(named_lost, heights[len(steady) :], strict=True):
        text = f"{curve.letter}  {curve.name} (diverged)"
        axes.annotate(text, xy=(1.05, height), xycoords="axes fraction", **_tag(curve))
    low, high = axes.get_xlim()
    crosses = [_within(axes, curve.x, curve.y) for curve in lost]
    places = _spread([max(0.035, (x[-1] - low) / (high - low)) for x, _ in crosses], 0.055)
    for curve, (x, y), place in zip(lost, crosses, places, strict=True):
        axes.plot(x[-1:], y[-1:], "x", color=curve.color, markersize=10, markeredgewidth=3, clip_on=False)
        above = (place, y_fraction(axes, y[-1]) + 0.075)
        axes.annotate(curve.letter, above, xycoords="axes fraction", **{**_tag(curve), "ha": "center"})


def _tag(curve: _Curve) -> dict[str, Any]:
    """Returns the style of a dark text in a frame of the curve's color."""
    frame = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": curve.color, "linewidth": 1.8}
    return {"ha": "left", "va": "center", "fontsize": 12, "bbox": frame, "annotation_clip": False}


def _spread(wanted: Sequence[float], apart: float) -> list[float]:
    """Moves places between 0 and 1 as little as possible (least squares) so that they are apart, in the same order."""
    order = np.argsort(wanted, kind="stable")
    blocks: list[list[float]] = []  # neighbors with the same shift
    for rank, index in enumerate(order):
        blocks.append([wanted[index] - rank * apart])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    shifts = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks]) if blocks else np.zeros(0)
    places = np.clip(shifts, 0, max(0.0, 1 - (len(order) - 1) * apart)) + apart * np.arange(len(order))
    found = np.empty(len(order))
    found[order] = places
    return found.tolist()
