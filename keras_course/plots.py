"""Every picture that a lesson shows.

Each function takes NumPy arrays and returns a ``matplotlib.figure.Figure`` that belongs to nobody: it is made without
pyplot, so there is no current figure, no window and nothing to close. ``save`` writes it as PNG; a notebook shows
it when it is the last value of a cell.

To add a plot: decorate it with ``_in_course_style``, start from ``_figure`` (or from ``_picture_grid``, where it is
made of pictures) and take the colours from ``COLOURS``.

Source of the line colours: M. Okabe and K. Ito, "Color Universal Design", 2008.
"""

import functools
import io
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from keras_course import evaluation
from keras_course.errors import CourseError, check_positive
from keras_course.files import replacing

COLOURS = {
    "training": "#0072B2",  # blue
    "validation": "#D55E00",  # vermilion
    "highlight": "#009E73",  # bluish green
    "text": "#222222",
    "quiet": "#8A8A8A",
}
DOTS_PER_INCH = 120

# Everything that makes our figures look alike. Sizes are chosen to be read at half size.
_STYLE: dict[str, Any] = {
    "figure.dpi": DOTS_PER_INCH,
    "figure.facecolor": "white",
    "figure.titlesize": 15,
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
    "font.size": 13,
    "axes.titlesize": 13,
    "axes.labelsize": 13,
    "axes.edgecolor": COLOURS["quiet"],
    "axes.labelcolor": COLOURS["text"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.9,
    "xtick.color": COLOURS["quiet"],
    "ytick.color": COLOURS["quiet"],
    "xtick.labelcolor": COLOURS["text"],
    "ytick.labelcolor": COLOURS["text"],
    "lines.linewidth": 2.2,
    "lines.markersize": 7,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "text.color": COLOURS["text"],
    "text.parse_math": False,  # a class called "$5 or $10" is a name, not a formula
}

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class _NotebookFigure(Figure):
    """A figure that Jupyter can show without pyplot's inline backend."""

    def _repr_png_(self) -> bytes:
        return _png_bytes(self)


@contextmanager
def _course_style() -> Iterator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a personal matplotlibrc must not change the bytes of a figure
        matplotlib.rcParams.update(_STYLE)
        yield


def _in_course_style(draw: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    @functools.wraps(draw)
    def styled(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        with _course_style():
            return draw(*args, **kwargs)

    return styled


@_in_course_style
def sample_pictures(
    images: npt.NDArray[np.uint8], labels: npt.ArrayLike, class_names: Sequence[str], *, count: int = 25
) -> Figure:
    """Show the first pictures of a data set, each under the name of its class.

    Args:
        images: Pictures of shape ``(n, height, width, channels)``, uint8, with 1 or 3 channels.
        labels: Classes of shape ``(n,)``, integers from 0 to ``len(class_names) - 1``.
        class_names: One name for each class.
        count: How many pictures to show at most.

    Returns:
        A figure with one small picture for each.

    Raises:
        CourseError: The pictures are not uint8 of that shape, or the labels do not fit them or the names.

    Example:
        >>> digits = np.zeros((3, 28, 28, 1), dtype=np.uint8)
        >>> figure = sample_pictures(digits, [7, 2, 1], "0123456789")
        >>> [axes.get_title() for axes in figure.axes]
        ['7', '2', '1']
    """
    check_positive(count=count)
    _check_pictures(images)
    truth = _class_numbers(labels, len(images), class_names)
    shown = min(count, len(images))
    titles = [_wrapped(class_names[label], width=14) for label in truth[:shown]]
    return _picture_grid(images[:shown], titles, tile_inches=1.5)


@_in_course_style
def training_curves(
    history: Mapping[str, npt.ArrayLike], *, loss_label: str = "cross entropy (nats)", title: str | None = None
) -> Figure:
    """Draw loss and accuracy over the epochs, training beside validation, and mark the best epoch of each.

    Best means the lowest validation loss and the highest validation accuracy; without validation, those of training.
    Of equally good epochs the first one counts.

    Args:
        history: Columns of equal length: ``epoch`` and ``loss``, and where there are any ``accuracy``, ``val_loss``
            and ``val_accuracy``. Losses in the unit of ``loss_label``, accuracies as fractions from 0 to 1; NaN leaves
            a gap. Other columns are not drawn.
        loss_label: What the loss measures, with its unit.
        title: A line above both panels.

    Returns:
        A figure with one panel for the loss and, where the history has accuracies, one for the accuracy.

    Raises:
        CourseError: ``epoch`` or ``loss`` is missing or empty, or the columns have different lengths.

    Example:
        >>> figure = training_curves({"epoch": [1, 2], "loss": [0.9, 0.4], "accuracy": [0.7, 0.9]})
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['cross entropy (nats)', 'accuracy (%)']
    """
    columns = _history_columns(history)
    epochs = columns["epoch"]
    has_accuracy = "accuracy" in columns or "val_accuracy" in columns
    panels = 2 if has_accuracy else 1
    figure = _figure(5.6 * panels, 4.3, title)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    _draw_curves(axes[0], epochs, columns, "loss", lowest_is_best=True, form=lambda value: f"{value:.4f}")
    axes[0].set_ylabel(loss_label)
    if has_accuracy:
        percent = {name: 100 * values for name, values in columns.items() if name.endswith("accuracy")}
        _draw_curves(axes[1], epochs, percent, "accuracy", lowest_is_best=False, form=lambda value: f"{value:.2f} %")
        axes[1].set_ylabel("accuracy (%)")
    return figure


@_in_course_style
def step_curve(losses: npt.ArrayLike, *, loss_label: str = "cross entropy (nats)") -> Figure:
    """Draw the loss of every batch and, through that noise, its running median.

    Where the losses are all above 0 and the largest is more than 20 times the smallest, their axis is logarithmic, so
    that the late steps stay visible.

    Args:
        losses: One loss for each batch in the order of training, shape ``(steps,)``. NaN and infinity leave gaps.
        loss_label: What the loss measures, with its unit.

    Returns:
        A figure with a point for each batch and a line for the median.

    Raises:
        CourseError: There is no loss, or none that is a finite number.

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
    figure = _figure(8.4, 4.3)
    axes = figure.subplots()
    crowded = len(values) > 500
    axes.plot(
        np.arange(1, len(values) + 1),
        values,
        "o",
        color=COLOURS["training"],
        markersize=2.4 if crowded else 6,
        markeredgewidth=0,
        alpha=0.3 if crowded else 0.6,
        label="one batch",
    )
    axes.plot(steps, medians, color=COLOURS["validation"], label=f"median of {window} batches")
    if 0 < 20 * np.nanmin(values) < np.nanmax(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="batch", ylabel=loss_label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    legend = axes.legend(loc="upper right")
    legend.get_lines()[0].set(alpha=1, markersize=6)  # the faint dots of the plot would be invisible here
    return figure


@_in_course_style
def confusion_matrix(matrix: npt.ArrayLike, class_names: Sequence[str]) -> Figure:
    """Show how often each true class was taken for each class.

    A cell is coloured by its share of the pictures of its true class. The scale is bent (power 0.4), so that one
    picture in a hundred is already visible beside a diagonal of ninety-nine.

    Args:
        matrix: Counts of shape ``(classes, classes)``, rows true and columns predicted, as
            ``evaluation.confusion_matrix`` returns them.
        class_names: One name for each class.

    Returns:
        A figure with the counts written into the cells; empty cells stay empty.

    Raises:
        CourseError: The matrix is not square, holds something other than counts, or does not fit the names.

    Example:
        >>> figure = confusion_matrix([[9, 1], [0, 8]], ["cat", "dog"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['9', '1', '8']
    """
    counts = evaluation.checked_confusion_matrix(matrix, class_names)
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = len(class_names)
    longest_name = max(len(name) for name in class_names)
    side = max(classes * (0.66 if classes <= 12 else 0.5), 3.4)
    figure = _figure(side + 2.0 + 0.1 * longest_name, side + 1.2 + 0.1 * longest_name)
    axes = figure.subplots()
    axes.set_title(f"{np.trace(counts):,} of {counts.sum():,} right", fontsize=_STYLE["figure.titlesize"], pad=10)
    picture = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.4, vmin=0, vmax=100))
    _write_counts(axes, counts, np.asarray(picture.cmap(picture.norm(share))), cell_inches=side / classes)
    axes.set_xticks(range(classes), class_names, rotation=90 if longest_name > 3 else 0)
    axes.set_yticks(range(classes), class_names)
    axes.set(xlabel="predicted class", ylabel="true class")
    _frame_cells(axes, classes)
    bar = figure.colorbar(picture, ax=axes, shrink=0.9, aspect=30, pad=0.03, ticks=[0, 1, 5, 20, 50, 100])
    bar.set_label("share of the true class (%)")
    bar.outline.set_visible(False)
    return figure


@_in_course_style
def most_wrong(
    images: npt.NDArray[np.uint8],
    labels: npt.ArrayLike,
    logits: npt.ArrayLike,
    class_names: Sequence[str],
    *,
    count: int = 16,
) -> Figure:
    """Show the mistakes that the classifier was most sure of.

    Args:
        images: Pictures of shape ``(n, height, width, channels)``, uint8, with 1 or 3 channels.
        labels: True classes of shape ``(n,)``, integers from 0 to ``len(class_names) - 1``.
        logits: Scores of shape ``(n, len(class_names))``.
        class_names: One name for each class.
        count: How many pictures to show at most.

    Returns:
        A figure whose pictures are titled with the truth, the answer and the answer's probability; where there is no
        mistake, a figure that says so.

    Raises:
        CourseError: The arguments do not fit each other, or the logits hold NaN.

    Example:
        >>> pictures = np.zeros((2, 8, 8, 1), dtype=np.uint8)
        >>> figure = most_wrong(pictures, [1, 0], [[2.0, 0.0], [1.0, 0.0]], "01")
        >>> figure.axes[0].get_title()
        'true 1, said 0 (88 %)'
    """
    check_positive(count=count)
    _check_pictures(images)
    truth = _class_numbers(labels, len(images), class_names)
    probabilities = evaluation.softmax(logits)
    if probabilities.shape != (len(images), len(class_names)):
        raise CourseError(
            f"logits have shape {probabilities.shape}; give one row for each of {len(images)} images and one column "
            f"for each of {len(class_names)} class_names"
        )
    said = probabilities.argmax(axis=1)
    mistakes = int((said != truth).sum())
    if mistakes == 0:
        return _message_figure(f"No mistake: {len(images):,} of {len(images):,} right")
    worst = evaluation.most_wrong(logits, truth, count)
    titles = [_mistake_title(class_names[truth[i]], class_names[said[i]], probabilities[i, said[i]]) for i in worst]
    heading = f"{mistakes:,} of {len(images):,} wrong" + (f"; the {count} most confident" if mistakes > count else "")
    return _picture_grid(images[worst], titles, tile_inches=2.15, heading=heading)


def save(figure: Figure, path: str | os.PathLike[str]) -> Figure:
    """Write a figure as a PNG file that is either complete or not there.

    The bytes go into a file beside it that is then renamed. They hold no date and no version, so on one installation
    of matplotlib the same figure gives the same bytes.

    Args:
        figure: What to write.
        path: Where to, ending in ``.png``; missing folders are made.

    Returns:
        The figure, so that a notebook shows it when ``save`` is the last thing in a cell.

    Raises:
        CourseError: The path does not end in ``.png``.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name) / "figures" / "steps.png"
        >>> save(step_curve([2.0, 1.0]), path), path.exists()
        (<...Figure size ...>, True)
        >>> folder.cleanup()
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise CourseError(f"path is {str(target)!r}; give a file name that ends in .png")
    with replacing(target) as file:
        file.write(_png_bytes(figure))
    return figure


@_in_course_style
def _png_bytes(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": "keras_course"})
    figure.set_layout_engine("none")  # a second layout would start from the first one's result and shift it a little
    return buffer.getvalue()


# Shared by the plots: figures, grids of pictures, axes.


def _figure(width: float, height: float, title: str | None = None) -> Figure:
    """Make an empty figure of a size in inches."""
    figure = _NotebookFigure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title)
    return figure


def _message_figure(message: str) -> Figure:
    figure = _figure(6.0, 1.6)
    figure.text(0.5, 0.5, message, ha="center", va="center", fontsize=_STYLE["figure.titlesize"])
    return figure


def _picture_grid(
    images: npt.NDArray[np.uint8], titles: Sequence[str], *, tile_inches: float, heading: str | None = None
) -> Figure:
    """Lay out pictures with their titles, as nearly square as their number allows."""
    columns = int(np.ceil(np.sqrt(len(images))))
    rows = int(np.ceil(len(images) / columns))
    lines = [title.split("\n") for title in titles]
    # Neither a title may run into its neighbour nor the heading of a short row be cut off: about 0.1 inch a letter.
    tile_width = max(tile_inches, 0.1 * max(len(line) for title in lines for line in title))
    width = max(columns * tile_width, 0.13 * len(heading or ""))
    tile_height = tile_width * images.shape[1] / images.shape[2] + 0.22 * max(len(title) for title in lines)
    figure = _figure(width, rows * tile_height + (0.5 if heading else 0), heading)
    for position, (image, title) in enumerate(zip(images, titles, strict=True), start=1):
        axes = figure.add_subplot(rows, columns, position)
        _show_picture(axes, image)
        axes.set_title(title, fontsize=12, pad=4)
    return figure


def _show_picture(axes: Axes, image: npt.NDArray[np.uint8]) -> None:
    """Draw one picture, pixel by pixel, on a fixed scale from black (0) to white (255)."""
    grey = image.shape[-1] == 1
    axes.imshow(image[..., 0] if grey else image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width)) or text


def _mistake_title(true_name: str, said_name: str, probability: float) -> str:
    title = f"true {true_name}, said {said_name} ({100 * probability:.0f} %)"
    return title if len(title) <= 24 else title.replace(", said ", ",\nsaid ", 1)


def _draw_curves(
    axes: Axes,
    epochs: npt.NDArray[np.float64],
    columns: Mapping[str, npt.NDArray[np.float64]],
    metric: str,
    *,
    lowest_is_best: bool,
    form: Callable[[float], str],
) -> None:
    """Draw training and validation of one metric over the epochs, the best epoch ringed and named in the legend."""
    curves = {"training": columns.get(metric), "validation": columns.get(f"val_{metric}")}
    few = len(epochs) <= 40  # with more, the markers run into each other
    for (name, values), marker in zip(curves.items(), "os", strict=True):
        if values is not None:
            axes.plot(epochs, values, marker=marker if few else "", color=COLOURS[name], label=name)
    judged = next((v for v in reversed(curves.values()) if v is not None and np.isfinite(v).any()), None)
    if judged is not None:
        best = int(np.nanargmin(judged) if lowest_is_best else np.nanargmax(judged))
        axes.plot(
            epochs[best : best + 1],
            judged[best : best + 1],
            "o",
            markersize=14,
            markerfacecolor="none",
            markeredgecolor=COLOURS["highlight"],
            markeredgewidth=2.2,
            label=f"best: {form(judged[best])} in epoch {epochs[best]:.0f}",
        )
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    margin = max(0.5, 0.04 * (epochs.max() - epochs.min()))
    axes.set_xlim(epochs.min() - margin, epochs.max() + margin)
    # Above the panel a legend can cover no curve, whatever the course of the training.
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.3)


def _running_median(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], int]:
    """Take medians over windows of a twentieth of the steps (3 to 501), at no more than 400 places."""
    half = max(1, min(len(values) // 40, 250))
    steps = np.unique(np.linspace(0, len(values) - 1, num=min(len(values), 400)).round().astype(np.int64))
    windows = [values[max(0, step - half) : step + half + 1] for step in steps]
    medians = [np.nanmedian(window) if np.isfinite(window).any() else np.nan for window in windows]
    return steps + 1, np.array(medians), 2 * half + 1


def _write_counts(
    axes: Axes, counts: npt.NDArray[np.int64], cell_colours: npt.NDArray[np.float64], cell_inches: float
) -> None:
    """Write each count that is not 0 into its cell, as large as the longest one allows, dark on light."""
    longest = len(str(counts.max()))
    size = min(13.0 if len(counts) <= 12 else 11.0, 72 * cell_inches / (0.85 * longest))
    brightness = cell_colours[..., :3] @ np.array([0.299, 0.587, 0.114])
    for row, column in np.argwhere(counts):
        axes.text(
            column,
            row,
            str(counts[row, column]),
            ha="center",
            va="center",
            fontsize=size,
            color="white" if brightness[row, column] < 0.5 else COLOURS["text"],
        )


def _frame_cells(axes: Axes, classes: int) -> None:
    """Separate the cells of a matrix by thin white lines and take the frame away."""
    axes.grid(visible=False)
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(visible=True, which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="both", length=0)
    axes.set_axisbelow(False)
    axes.spines[:].set_visible(False)


# Checks of what the caller gave.


def _check_pictures(images: npt.NDArray[np.uint8]) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or images.size == 0:
        raise CourseError(
            f"images are {images.dtype} of shape {images.shape}; give uint8 of shape (n, height, width, 1 or 3)"
        )


def _class_numbers(labels: npt.ArrayLike, length: int, class_names: Sequence[str]) -> npt.NDArray[np.int64]:
    numbers = np.asarray(labels)
    classes = len(class_names)
    if numbers.shape != (length,) or not np.issubdtype(numbers.dtype, np.integer):
        raise CourseError(
            f"labels are {numbers.dtype} of shape {numbers.shape}; give one integer for each of {length} images"
        )
    if numbers.min() < 0 or numbers.max() >= classes:
        raise CourseError(
            f"labels run from {numbers.min()} to {numbers.max()} beside {classes} class_names; "
            f"give class numbers from 0 to {classes - 1}"
        )
    return numbers.astype(np.int64)


def _history_columns(history: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[np.float64]]:
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in history.items()}
    missing = [name for name in ("epoch", "loss") if name not in columns]
    if missing:
        raise CourseError(f"history has no column {missing[0]!r}, only {sorted(columns)}; give at least epoch and loss")
    lengths = {name: len(values) for name, values in columns.items()}
    if 0 in lengths.values() or len(set(lengths.values())) > 1:
        raise CourseError(f"history has columns of lengths {lengths}; give every column one value for each epoch")
    return columns
