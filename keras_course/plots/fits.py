"""Models on their training points: lines, curves and probabilities; and their error by the size of the model."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from keras_course.errors import CourseError
from keras_course.plots import checks
from keras_course.plots.checks import Numbers
from keras_course.plots.style import (
    COLORS,
    LINE_STYLES,
    count_in_whole_numbers,
    grid_shape,
    in_course_style,
    legend_below,
    make_logarithmic,
    new_figure,
    ring_best,
    series_look,
    shared_panels,
    spans_sizes,
)


@in_course_style
def line_fit(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    lines: Mapping[str, tuple[float, float]],
    *,
    labels: tuple[str, str] = ("x", "y"),
    title: str | None = None,
) -> Figure:
    """Draws points and straight lines, from pale to dark in their order; the last line with its errors.

    Args:
        x: Inputs of the points, shape ``(n,)``.
        y: Targets of the points, shape ``(n,)``.
        lines: Slope and intercept (m, b) of ŷ = mx + b for each name, such as "step 5".
        labels: The names of ``x`` and ``y``, with their units.
        title: A title.

    Returns:
        A figure with one panel. It shows all points; lines are cut off far from the points.

    Raises:
        CourseError: ``x`` and ``y`` have different lengths, there is no line, or a line is not two finite numbers.

    Example:
        >>> figure = line_fit([1, 2], [3, 5], {"step 0": (-1, 5), "step 50": (2, 1)})
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['data', 'step 0', 'step 50', 'error']
    """
    across, up = checks.points("x and y", x, y)
    slopes = {name: _slope_and_intercept(name, line) for name, line in checks.named("lines", lines).items()}
    figure = new_figure(7.0, 4.8, title)
    axes = figure.subplots()
    ends = widened(across, 0.08)
    shades = matplotlib.colormaps["Blues"](np.linspace(0.35, 0.85, max(len(slopes) - 1, 1)))
    axes.plot(across, up, "o", color=COLORS["text"], markersize=9, zorder=4, label="data")
    for number, (name, (m, b)) in enumerate(slopes.items()):
        last = number == len(slopes) - 1
        color, width, order = (COLORS["validation"], 3.2, 3) if last else (to_hex(shades[number]), 2.2, 2)
        axes.plot(ends, m * ends + b, color=color, linewidth=width, zorder=order, label=name)
    errors = {"color": COLORS["validation"], "linewidth": 1.3, "linestyle": LINE_STYLES[2], "label": "error"}
    axes.vlines(across, up, m * across + b, **errors)  # of the last line
    near = np.concatenate([(m * ends + b) for m, b in slopes.values()])
    axes.set(xlim=ends, ylim=limits_near(up, near), xlabel=labels[0], ylabel=labels[1])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


@in_course_style
def regression_fits(
    train: tuple[npt.ArrayLike, npt.ArrayLike],
    valid: tuple[npt.ArrayLike, npt.ArrayLike],
    fits: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    truth: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    inside: tuple[float, float] | None = None,
    labels: tuple[str, str] = ("x", "y"),
) -> Figure:
    """Draws several fits of the same points, side by side.

    The y axis covers the points and the true curve; a fit that goes far beyond them is cut off.

    Args:
        train: x and y of the training points, each of shape ``(n,)`` or ``(n, 1)``.
        valid: x and y of the validation points, each of shape ``(n,)`` or ``(n, 1)``.
        fits: For each name, x and the predictions, both of shape ``(k,)`` or ``(k, 1)``.
        truth: x and y of the true curve.
        inside: The range of the training points; beyond it, the panel is shaded.
        labels: The names of x and y, with their units.

    Returns:
        A figure with one panel for each fit, all with the same axes.

    Raises:
        CourseError: There is no fit, or an x and its y have different lengths.

    Example:
        >>> x = np.linspace(0, 1, 5)
        >>> figure = regression_fits((x, x**2), (x, x**2), {"degree 1": (x, x), "degree 2": (x, x**2)}, inside=(0, 0.5))
        >>> [axes.get_title() for axes in figure.axes]
        ['degree 1', 'degree 2']
    """
    learned, others = checks.pair("train", train), checks.pair("valid", valid)
    predictions = {name: checks.pair(f"fits[{name!r}]", fit) for name, fit in checks.named("fits", fits).items()}
    true_curve = None if truth is None else checks.pair("truth", truth)
    if inside is not None:
        low, high = checks.column("inside", inside, length=2, finite=True)
        if not low < high:
            raise CourseError(
                f"inside is ({low:g}, {high:g}); give the smallest and the largest x of the training points"
            )
    rows, columns = grid_shape(len(predictions))
    figure = new_figure(max(4.1 * columns, 6), 3.5 * rows + 0.7)
    panels = shared_panels(figure, len(predictions), labels)
    every_x = np.concatenate([x for x, _ in (learned, others, *predictions.values())])
    every_y = np.concatenate([learned[1], others[1], *([] if true_curve is None else [true_curve[1]])])
    bottom, top = widened(every_y, 0.3)
    for axes, (name, (x, predicted)) in zip(panels, predictions.items(), strict=True):
        axes.set(xlim=widened(every_x, 0.02), ylim=(bottom, top), title=name)
        if inside is not None:
            _shade_beyond(axes, low, high)
        if true_curve is not None:
            axes.plot(*true_curve, color=COLORS["quiet"], linestyle=LINE_STYLES[1], linewidth=1.8, label="true curve")
        axes.plot(*others, "o", markerfacecolor="white", markeredgecolor=COLORS["validation"], label="validation point")
        axes.plot(*learned, "o", color=COLORS["training"], markeredgecolor="white", label="training point")
        reach = top - bottom  # beyond it, a line is invisible and its numbers can be huge
        axes.plot(x, np.clip(predicted, bottom - 99 * reach, top + 99 * reach), color=COLORS["text"], label="fit")
    legend_below(figure, panels[0])
    return figure


@in_course_style
def size_against_error(
    sizes: npt.ArrayLike,
    train: npt.ArrayLike,
    valid: npt.ArrayLike,
    *,
    x_label: str,
    loss_label: str,
    log: bool = True,
) -> Figure:
    """Draws training and validation error over the size of the model, and marks where over-fitting starts.

    If the largest size is more than 20 times the smallest, the axis of the sizes is logarithmic.

    Args:
        sizes: The sizes, such as degrees or numbers of parameters, shape ``(n,)``, increasing.
        train: The training errors, shape ``(n,)``.
        valid: The validation errors, shape ``(n,)``. NaN and infinity leave gaps.
        x_label: The name of the size.
        loss_label: The name of the error, with its unit.
        log: Whether the axis of the errors is logarithmic if they are above 0 and span more than a factor of 20.

    Returns:
        A figure with one panel; a ring marks the smallest validation error.

    Raises:
        CourseError: The lengths differ, or the sizes do not increase.

    Example:
        >>> figure = size_against_error([1, 2, 3], [4, 2, 1], [5, 3, 6], x_label="degree", loss_label="error")
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['under-fitting', 'over-fitting']
    """
    across, training = checks.points("sizes and train", sizes, train)
    validation = checks.column("valid", valid, length=len(across))
    if not (np.diff(across) > 0).all():
        raise CourseError(f"sizes are {across.tolist()!r:.60}; give them in increasing order, each once")
    training, validation = (np.where(np.isfinite(errors), errors, np.nan) for errors in (training, validation))
    figure = new_figure(7.0, 4.9)
    axes = figure.subplots()
    if spans_sizes(across):
        make_logarithmic(axes.xaxis)
    elif (across == across.round()).all():
        count_in_whole_numbers(axes.xaxis)
    if log and spans_sizes(np.append(training, validation)):
        make_logarithmic(axes.yaxis)
    axes.plot(across, training, "o-", color=COLORS["training"], label="training")
    axes.plot(across, validation, "s-", color=COLORS["validation"], label="validation")
    best = int(np.nanargmin(validation))
    ring_best(axes, across[best], validation[best], f"best: {validation[best]:.4g} at {across[best]:,g}")
    axes.set(xlabel=x_label, ylabel=loss_label)
    _name_regions(axes, float(across[best]), float(across[0]), float(across[-1]))
    legend_below(figure, axes)
    return figure


@in_course_style
def points_with_probability(
    x: npt.ArrayLike,
    labels: npt.ArrayLike,
    x_line: npt.ArrayLike,
    curves: Mapping[str, npt.ArrayLike],
    *,
    x_label: str,
    y_label: str = "probability",
) -> Figure:
    """Draws labels, 0 or 1, over one feature, and the probability of 1 that each model predicts.

    Args:
        x: The feature, shape ``(n,)`` or ``(n, 1)``.
        labels: The labels, 0 or 1, shape ``(n,)`` or ``(n, 1)``.
        x_line: The feature at which the models predict, shape ``(k,)``.
        curves: The predictions for each name, shape ``(k,)`` or ``(k, 1)``. They can be outside of 0 to 1.
        x_label: The name of the feature, with its unit.
        y_label: The name of the predictions.

    Returns:
        A figure with one panel.

    Raises:
        CourseError: The lengths differ, or a label is neither 0 nor 1.

    Example:
        >>> figure = points_with_probability([1, 3], [0, 1], [0, 2, 4], {"neuron": [0.1, 0.5, 0.9]}, x_label="hours")
        >>> figure.axes[0].get_ylabel()
        'probability'
    """
    feature, happened = checks.points("x and labels", x, labels)
    if not np.isin(happened, (0, 1)).all():
        raise CourseError(f"labels hold {happened[~np.isin(happened, (0, 1))][0]:g}; give 0 or 1 for each point")
    places = checks.column("x_line", x_line, finite=True)
    probabilities = checks.columns("curves", curves, len(places))
    figure = new_figure(7.4, 4.6)
    axes = figure.subplots()
    axes.axhline(0.5, color=COLORS["quiet"], linewidth=1.2, linestyle=LINE_STYLES[2])
    ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": COLORS["text"], "markeredgewidth": 1.3}
    for label, marker in ((0, "o"), (1, "s")):
        chosen = happened == label
        axes.plot(feature[chosen], happened[chosen], marker, **ring, alpha=0.75, label=f"label {label}")
    for position, (name, values) in enumerate(probabilities.items()):
        axes.plot(places, values, **series_look(position), label=name)
    limits = limits_near(np.array([0.0, 1.0]), np.concatenate([*probabilities.values()]))
    axes.set(xlabel=x_label, ylabel=y_label, ylim=limits, yticks=[0, 0.25, 0.5, 0.75, 1])
    axes.margins(x=0.04)
    legend_below(figure, axes)
    return figure


def widened(values: Numbers, share: float) -> Numbers:
    """Returns the range (2,) of the finite numbers with a margin, a fraction of the range, at each end."""
    finite = values[np.isfinite(values)]
    room = share * float(np.ptp(finite)) or share * max(abs(float(finite[0])), 1.0)
    return np.array([finite.min() - room, finite.max() + room])


def limits_near(data: Numbers, lines: Numbers) -> Numbers:
    """Returns the limits (2,) of an axis with all data, and lines no farther from the data than their range."""
    bounds = widened(data, 1.0)
    return widened(np.concatenate([data, np.clip(lines, *bounds)]), 0.05)


def _slope_and_intercept(name: str, line: tuple[float, float]) -> Numbers:
    both = checks.as_numbers(f"lines[{name!r}]", line)
    if both.shape != (2,) or not np.isfinite(both).all():
        raise CourseError(f"lines[{name!r}] is {line!r:.60}; give a finite m and b, from before the run diverged")
    return both


def _shade_beyond(axes: Axes, low: float, high: float) -> None:
    """Shades the panel on both sides of the training points, with a text if there is room."""
    left, right = axes.get_xlim()
    for start, stop in ((left, low), (high, right)):
        if start >= stop:
            continue
        axes.axvspan(start, stop, color=COLORS["quiet"], alpha=0.16, linewidth=0, zorder=0)
        if stop - start > 0.12 * (right - left):
            text = axes.text((start + stop) / 2, 0.96, "extrapolation", ha="center", va="top", fontsize=11, zorder=5)
            text.set(transform=axes.get_xaxis_transform(), rotation=0 if stop - start > 0.4 * (right - left) else 90)
            text.set_path_effects([withStroke(linewidth=3, foreground="#EEEEEE")])


def _name_regions(axes: Axes, best: float, first: float, last: float) -> None:
    """Writes under-fitting and over-fitting above the two sides of the best size."""
    low, high = axes.get_xlim()
    axes.set_xlim(low, high)
    axes.axvline(best, color=COLORS["highlight"], linewidth=1.4, linestyle=LINE_STYLES[2], zorder=1)
    if best > first:
        axes.annotate("under-fitting", (0, 1.02), xycoords="axes fraction", ha="left", va="bottom")
    if best < last:
        axes.axvspan(best, high, color=COLORS["validation"], alpha=0.07, linewidth=0, zorder=0)
        axes.annotate("over-fitting", (1, 1.02), xycoords="axes fraction", ha="right", va="bottom")
