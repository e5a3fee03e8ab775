"""Pictures with their labels: samples, mistakes, and the confusion matrix."""

import textwrap
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from keras_course import evaluation
from keras_course.errors import CourseError, check_positive
from keras_course.plots.style import STYLE, in_course_style, new_figure, tiled_axes, title_of_tiles, write_in_cells


@in_course_style
def sample_pictures(
    images: npt.NDArray[np.uint8],
    labels: npt.ArrayLike,
    class_names: Sequence[str],
    *,
    count: int = 25,
    columns: int | None = None,
) -> Figure:
    """Shows the first pictures of a data set with the names of their classes.

    Args:
        images: Pictures of shape ``(n, height, width, channels)``, uint8, with 1 or 3 channels.
        labels: Classes of shape ``(n,)``, integers from 0 to ``len(class_names) - 1``.
        class_names: One name for each class.
        count: The largest number of pictures.
        columns: The number of pictures side by side; without it, there are as many rows as columns.

    Returns:
        A figure with a tile for each picture.

    Raises:
        CourseError: The pictures have another dtype or shape, or a label has no picture or no name.

    Example:
        >>> digits = np.zeros((3, 28, 28, 1), dtype=np.uint8)
        >>> figure = sample_pictures(digits, [7, 2, 1], "0123456789")
        >>> [axes.get_title() for axes in figure.axes]
        ['7', '2', '1']
    """
    check_positive(count=count, **({} if columns is None else {"columns": columns}))
    check_pictures(images)
    truth = _class_numbers(labels, len(images), class_names)
    shown = min(count, len(images))
    names = [class_names[label] for label in truth[:shown]]
    titles = ["\n".join(textwrap.wrap(name, width=14)) or name for name in names]
    return _picture_grid(images[:shown], titles, tile_inches=1.5, columns=columns)


@in_course_style
def most_wrong(
    images: npt.NDArray[np.uint8],
    labels: npt.ArrayLike,
    logits: npt.ArrayLike,
    class_names: Sequence[str],
    *,
    count: int = 16,
) -> Figure:
    """Shows the mistakes with the highest confidence.

    Args:
        images: Pictures of shape ``(n, height, width, channels)``, uint8, with 1 or 3 channels.
        labels: True classes of shape ``(n,)``, integers from 0 to ``len(class_names) - 1``.
        logits: Logits of shape ``(n, len(class_names))``.
        class_names: One name for each class.
        count: The largest number of pictures.

    Returns:
        A figure whose titles have the true class, the predicted class and its probability; or a text if there is no
        mistake.

    Raises:
        CourseError: The shapes do not match, or the logits hold NaN.

    Example:
        >>> pictures = np.zeros((2, 8, 8, 1), dtype=np.uint8)
        >>> figure = most_wrong(pictures, [1, 0], [[2.0, 0.0], [1.0, 0.0]], "01")
        >>> figure.axes[0].get_title()
        'true 1, predicted 0 (88 %)'
    """
    check_positive(count=count)
    check_pictures(images)
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
        figure = new_figure(6.0, 1.6)
        message = f"No mistake: {len(images):,} of {len(images):,} right"
        figure.text(0.5, 0.5, message, ha="center", va="center", fontsize=STYLE["figure.titlesize"])
        return figure
    worst = evaluation.most_wrong(logits, truth, count)
    titles = [_mistake_title(class_names[truth[i]], class_names[said[i]], probabilities[i, said[i]]) for i in worst]
    heading = f"{mistakes:,} of {len(images):,} wrong" + (f"; the {count} most confident" if mistakes > count else "")
    return _picture_grid(images[worst], titles, tile_inches=2.15, heading=heading)


@in_course_style
def confusion_matrix(matrix: npt.ArrayLike, class_names: Sequence[str]) -> Figure:
    """Shows how often each true class was classified as each class.

    The color of a cell is its share of the pictures of the true class. The scale is not linear (power 0.4), so that one
    mistake in a hundred is visible.

    Args:
        matrix: Counts of shape ``(classes, classes)``, rows true and columns predicted, as
            ``evaluation.confusion_matrix`` returns them.
        class_names: One name for each class.

    Returns:
        A figure with the counts in the cells; a count of 0 is not written.

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
    figure = new_figure(side + 2.0 + 0.1 * longest_name, side + 1.2 + 0.1 * longest_name)
    axes = figure.subplots()
    axes.set_title(f"{np.trace(counts):,} of {counts.sum():,} right", fontsize=STYLE["figure.titlesize"], pad=10)
    picture = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.4, vmin=0, vmax=100))
    texts = {(row, column): str(counts[row, column]) for row, column in np.argwhere(counts)}
    # a size in which the longest count fits into its cell
    size = min(13.0 if classes <= 12 else 11.0, 72 * side / classes / (0.85 * len(str(counts.max()))))
    write_in_cells(axes, texts, picture.cmap(picture.norm(share)), size)
    axes.set_xticks(range(classes), class_names, rotation=90 if longest_name > 3 else 0)
    axes.set_yticks(range(classes), class_names)
    axes.set(xlabel="predicted class", ylabel="true class")
    _frame_cells(axes, classes)
    bar = figure.colorbar(picture, ax=axes, shrink=0.9, aspect=30, pad=0.03, ticks=[0, 1, 5, 20, 50, 100])
    bar.set_label("share of the true class (%)")
    bar.outline.set_visible(False)
    return figure


def _picture_grid(
    images: npt.NDArray[np.uint8],
    titles: Sequence[str],
    *,
    tile_inches: float,
    heading: str | None = None,
    columns: int | None = None,
) -> Figure:
    """Returns a figure of pictures with titles, in a grid that is nearly square."""
    columns = columns or int(np.ceil(np.sqrt(len(images))))
    rows = int(np.ceil(len(images) / columns))
    lines = [title.split("\n") for title in titles]
    # about 0.1 inch for a letter, so that titles do not overlap and the heading is not cut off
    tile_width = max(tile_inches, 0.1 * max(len(line) for title in lines for line in title))
    width = max(columns * tile_width, 0.13 * len(heading or ""))
    above = 0.06 + 0.2 * max(len(title) for title in lines)
    tile_height = tile_width * images.shape[1] / images.shape[2] + above
    figure = new_figure(width, rows * tile_height + 0.1 + (0.4 if heading else 0))
    panels = tiled_axes(figure, len(images), columns, above=above, top=title_of_tiles(figure, heading))
    for axes, image, title in zip(panels, images, titles, strict=True):
        show_picture(axes, image)
        axes.set_title(title, fontsize=12, pad=4, y=1.0)  # without y, matplotlib would search for it
    return figure


def show_picture(axes: Axes, image: npt.NDArray[np.uint8]) -> None:
    """Draws one picture (height, width, 1 or 3), pixel by pixel, from black (0) to white (255), without a frame."""
    gray = image.shape[-1] == 1
    axes.imshow(image[..., 0] if gray else image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()


def _mistake_title(true_name: str, said_name: str, probability: float) -> str:
    title = f"true {true_name}, predicted {said_name} ({100 * probability:.0f} %)"
    return title if len(title) <= 29 else title.replace(", predicted ", ",\npredicted ", 1)


def _frame_cells(axes: Axes, classes: int) -> None:
    """Draws thin white lines between the cells of a matrix and removes the frame."""
    axes.grid(visible=False)
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(visible=True, which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="both", length=0)
    axes.set_axisbelow(False)
    axes.spines[:].set_visible(False)


def check_pictures(images: npt.NDArray[np.uint8]) -> None:
    """Raises CourseError if these are not pictures: uint8 (n, height, width, 1 or 3), at least one."""
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
