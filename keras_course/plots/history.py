"""The curves of one training: loss and accuracy by epoch, loss by batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_course.errors import CourseError
from keras_course.plots.checks import Numbers
from keras_course.plots.style import (
    COLORS,
    count_in_whole_numbers,
    in_course_style,
    make_logarithmic,
    new_figure,
    ring_best,
    spans_sizes,
)


@in_course_style
def training_curves(
    history: Mapping[str, npt.ArrayLike], *, loss_label: str = "cross entropy (nats)", title: str | None = None
) -> Figure:
    """Draws loss and accuracy by epoch, for training and validation, and marks the best epoch of each.

    The best epoch has the lowest validation loss or the highest validation accuracy; without validation, those of
    training. Of equal epochs it is the first.

    Args:
        history: Columns of equal length: ``epoch``, ``loss`` and, optionally, ``accuracy``, ``val_loss`` and
            ``val_accuracy``. Losses in the unit of ``loss_label``, accuracies as fractions from 0 to 1; NaN leaves a
            gap. Other columns are not drawn.
        loss_label: The name of the loss, with its unit.
        title: A title.

    Returns:
        A figure with a panel for the loss and, if the history has accuracies, one for the accuracy.

    Raises:
        CourseError: ``epoch`` or ``loss`` is missing or empty, or the columns have different lengths.

    Example:
        >>> figure = training_curves({"epoch": [1, 2], "loss": [0.9, 0.4], "accuracy": [0.7, 0.9]})
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['cross entropy (nats)', 'accuracy (%)']
    """
    columns = _history_columns(history)
    panels = 2 if "accuracy" in columns or "val_accuracy" in columns else 1
    figure = new_figure(5.6 * panels, 4.3, title)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _draw_curves(axes[0], columns, "loss", lowest_is_best=True, form="{:.4f}")
    axes[0].set_ylabel(loss_label)
    if panels == 2:
        percent = {name: 100 * values if name.endswith("accuracy") else values for name, values in columns.items()}
        _draw_curves(axes[1], percent, "accuracy", lowest_is_best=False, form="{:.2f} %")
        axes[1].set_ylabel("accuracy (%)")
    return figure


@in_course_style
def step_curve(losses: npt.ArrayLike, *, loss_label: str = "cross entropy (nats)") -> Figure:
    """Draws the loss of every batch and its running median.

    If all losses are above 0 and the largest is more than 20 times the smallest, the axis is logarithmic, so that the
    late steps stay visible.

    Args:
        losses: The loss of each batch in the order of training, shape ``(steps,)``. NaN and infinity leave gaps.
        loss_label: The name of the loss, with its unit.

    Returns:
        A figure with a point for each batch and a line for the median.

    Raises:
        CourseError: No loss is a finite number.

    Example:
        >>> figure = step_curve([2.3, 1.9, 2.0, 1.2])
        >>> figure.axes[0].get_xlabel()
        'batch'
    """
    values = np.asarray(losses, dtype=np.float64)
    finite = np.isfinite(values)
    if values.ndim != 1 or not finite.any():
        raise CourseError(
            f"losses have shape {values.shape} and {finite.sum()} finite values; give one number for each batch"
        )
    values = np.where(finite, values, np.nan)
    steps, medians, window = _running_median(values)
    figure = new_figure(8.4, 4.3)
    axes = figure.subplots()
    crowded = len(values) > 500
    size, opacity = (2.4, 0.3) if crowded else (6, 0.6)
    dot: dict[str, Any] = {"color": COLORS["training"], "markersize": size, "markeredgewidth": 0, "alpha": opacity}
    axes.plot(np.arange(1, len(values) + 1), values, "o", **dot, label="one batch")
    axes.plot(steps, medians, color=COLORS["validation"], label=f"median of {window} batches")
    if spans_sizes(values):
        make_logarithmic(axes.yaxis)
    axes.set(xlabel="batch", ylabel=loss_label)
    count_in_whole_numbers(axes.xaxis)
    legend = axes.legend(loc="upper right")
    legend.get_lines()[0].set(alpha=1, markersize=6)  # faint dots would be invisible in the legend
    return figure


def _draw_curves(axes: Axes, columns: Mapping[str, Numbers], metric: str, *, lowest_is_best: bool, form: str) -> None:
    """Draws training and validation of one metric by epoch, with a ring around the best epoch."""
    epochs = columns["epoch"]
    curves = {"training": columns.get(metric), "validation": columns.get(f"val_{metric}")}
    few = len(epochs) <= 40  # with more, the markers would overlap
    for (name, values), marker in zip(curves.items(), "os", strict=True):
        if values is not None:
            axes.plot(epochs, values, marker=marker if few else "", color=COLORS[name], label=name)
    judged = next((v for v in reversed(curves.values()) if v is not None and np.isfinite(v).any()), None)
    if judged is not None:
        best = int(np.nanargmin(judged) if lowest_is_best else np.nanargmax(judged))
        ring_best(axes, epochs[best], judged[best], f"best: {form.format(judged[best])} in epoch {epochs[best]:.0f}")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    margin = max(0.5, 0.04 * (epochs.max() - epochs.min()))
    axes.set_xlim(epochs.min() - margin, epochs.max() + margin)
    # above the panel the legend covers no curve
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.3)


def _running_median(values: Numbers) -> tuple[npt.NDArray[np.int64], Numbers, int]:
    """Returns medians over windows of a twentieth of the steps (3 to 501), at no more than 400 places."""
    half = max(1, min(len(values) // 40, 250))
    steps = np.unique(np.linspace(0, len(values) - 1, num=min(len(values), 400)).round().astype(np.int64))
    windows = [values[max(0, step - half) : step + half + 1] for step in steps]
    medians = [np.nanmedian(window) if np.isfinite(window).any() else np.nan for window in windows]
    return steps + 1, np.array(medians), 2 * half + 1


def _history_columns(history: Mapping[str, npt.ArrayLike]) -> dict[str, Numbers]:
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in history.items()}
    missing = [name for name in ("epoch", "loss") if name not in columns]
    if missing:
        raise CourseError(f"history has no column {missing[0]!r}, only {sorted(columns)}; give at least epoch and loss")
    lengths = {name: len(values) for name, values in columns.items()}
    if 0 in lengths.values() or len(set(lengths.values())) > 1:
        raise CourseError(f"history has columns of lengths {lengths}; give every column one value for each epoch")
    return columns
