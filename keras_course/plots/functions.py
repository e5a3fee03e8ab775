"""Functions of one variable: activations and their slopes, and other curves."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_course.errors import CourseError
from keras_course.plots import checks
from keras_course.plots.checks import Numbers
from keras_course.plots.style import COLORS, LINE_STYLES, in_course_style, legend_below, new_figure, series_look


@in_course_style
def activations(
    x: npt.ArrayLike,
    curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    points: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]] | None = None,
) -> Figure:
    """Draws activation functions with their slopes, side by side.

    Args:
        x: The input of a neuron's activation, shape ``(n,)``.
        curves: The value and the slope by the formula for each name, both of shape ``(n,)``.
        points: The inputs and the outputs of Keras for some or all of the names, both of shape ``(k,)``; they are drawn
            as open circles.

    Returns:
        A figure with one panel for each name.

    Raises:
        CourseError: The lengths differ, or ``points`` has another name than ``curves``.

    Example:
        >>> x = np.linspace(-2, 2, 5)
        >>> figure = activations(x, {"linear": (x, np.ones(5)), "ReLU": (np.maximum(x, 0), x > 0)})
        >>> [axes.get_title() for axes in figure.axes]
        ['linear', 'ReLU']
    """
    inputs = checks.column("x", x, finite=True)
    functions = checks.named("curves", curves)
    circles = {name: checks.pair(f"points[{name!r}]", both) for name, both in (points or {}).items()}
    checks.known_names("points", circles, functions)
    figure = new_figure(max(3.5 * len(functions), 5), 4.2)
    panels = figure.subplots(1, len(functions), squeeze=False, sharex=True)[0]
    for axes, (name, both) in zip(panels, functions.items(), strict=True):
        value, slope = _value_and_slope(name, both, len(inputs))
        axes.axhline(0, color=COLORS["quiet"], linewidth=1)
        axes.plot(inputs, value, color=COLORS["training"], label="value by the formula")
        axes.plot(inputs, slope, color=COLORS["validation"], linestyle=LINE_STYLES[1], label="slope")
        if name in circles:
            open_circle = {"markerfacecolor": "none", "markeredgecolor": COLORS["text"], "markeredgewidth": 1.4}
            axes.plot(*circles[name], "o", **open_circle, label="Keras")
        axes.set(title=name, xlabel="input")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    panels[0].set_ylabel("output, slope")
    legend_below(figure, *panels)
    return figure


@in_course_style
def curves(
    x: npt.ArrayLike,
    curves: Mapping[str, npt.ArrayLike],
    *,
    x_label: str,
    y_label: str,
    title: str | None = None,
    vertical: float | None = None,
) -> Figure:
    """Draws named lines over one axis.

    If a line goes to infinity, or a few points are much larger than all others, the panel ends below them, and an arrow
    with a number shows how far the line continues.

    Args:
        x: The variable, shape ``(n,)``.
        curves: The values for each name, shape ``(n,)``. NaN leaves a gap.
        x_label: The name of ``x``, with its unit.
        y_label: The name of the values, with their unit.
        title: A title.
        vertical: The x of a vertical line, if there is one.

    Returns:
        A figure with one panel.

    Raises:
        CourseError: There is no curve, or a curve has another length than ``x``.

    Example:
        >>> p = np.linspace(0, 1, 11)
        >>> with np.errstate(divide="ignore"):
        ...     figure = curves(p, {"cross entropy": -np.log(p)}, x_label="probability", y_label="loss")
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['to ∞']
    """
    across = checks.column("x", x, finite=True)
    lines = checks.columns("curves", curves, len(across))
    figure = new_figure(7.0, 4.6, title)
    axes = figure.subplots()
    low, high = _sensible_range(np.concatenate(list(lines.values())))
    margin = 0.05 * (high - low) or 0.5
    bottom, top = low - margin, high + margin
    if vertical is not None:
        axes.axvline(vertical, color=COLORS["quiet"], linewidth=1.4, linestyle=LINE_STYLES[2])
    reach = 9 * (top - bottom)  # huge numbers cannot be drawn
    for position, (name, values) in enumerate(lines.items()):
        axes.plot(across, np.clip(values, bottom - reach, top + reach), **series_look(position), label=name)
    axes.set(xlabel=x_label, ylabel=y_label, ylim=(bottom, top))
    for position, values in enumerate(lines.values()):
        _point_onwards(axes, across, values, series_look(position)["color"])
    axes.margins(x=0.04)
    legend_below(figure, axes)
    return figure


def _value_and_slope(name: str, both: tuple[npt.ArrayLike, npt.ArrayLike], length: int) -> tuple[Numbers, Numbers]:
    if not isinstance(both, tuple | list) or len(both) != 2:
        raise CourseError(f"curves[{name!r}] is {both!r:.60}; give a pair, the value and the slope")
    value = checks.column(f"the value in curves[{name!r}]", both[0], length=length)
    return value, checks.column(f"the slope in curves[{name!r}]", both[1], length=length)


def _sensible_range(values: Numbers) -> tuple[float, float]:
    """Returns the range of an axis: of all finite values, or of most if a few are far away."""
    finite = values[np.isfinite(values)]
    low, lower, upper, high = np.quantile(finite, (0, 0.04, 0.96, 1))
    reach = 1.5 * (upper - lower)
    if np.isposinf(values).any() or high > upper + 2 * reach:
        high = min(high, upper + 0.2 * reach)
    if np.isneginf(values).any() or low < lower - 2 * reach:
        low = max(low, lower - 0.2 * reach)
    return float(low), float(high)


def _point_onwards(axes: Axes, x: Numbers, values: Numbers, color: str) -> None:
    """Draws an arrow where a line leaves the panel, and writes how far it goes."""
    bottom, top = axes.get_ylim()
    for sign, edge in ((1.0, top), (-1.0, bottom)):
        beyond = sign * values > sign * edge
        leaving = np.flatnonzero(beyond[:-1] != beyond[1:])
        if not len(leaving):
            continue
        here = leaving[0]
        # the line is drawn up to nine panels further, also where it is infinite
        ends = np.clip(values[here : here + 2], bottom - 9 * (top - bottom), top + 9 * (top - bottom))
        place = x[here] + (edge - ends[0]) / (ends[1] - ends[0]) * (x[here + 1] - x[here])
        furthest = values[beyond][np.argmax(np.abs(values[beyond]))]
        aside, side = (14, "left") if place < np.mean(axes.get_xlim()) else (-14, "right")
        marker, upright, infinity = ("^", "top", "∞") if sign > 0 else ("v", "bottom", "−∞")
        axes.plot([place], [edge], marker, color=color, markersize=12, clip_on=False, zorder=5)
        text = f"to {infinity if np.isinf(furthest) else f'{furthest:,.3g}'}"
        axes.annotate(text, (place, edge), (aside, 0), textcoords="offset points", ha=side, va=upright)
