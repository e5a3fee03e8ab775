"""Predictions for photos: each photo, the input of the model, and its probabilities."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from keras_course.errors import CourseError
from keras_course.plots.pictures import check_pictures, show_picture
from keras_course.plots.style import COLORS, in_course_style, new_figure


@in_course_style
def answers(
    photos: Sequence[npt.NDArray[np.uint8]],
    prepared: npt.NDArray[np.uint8],
    probabilities: Sequence[Sequence[tuple[str, float]]],
    names: Sequence[str],
) -> Figure:
    """Shows photos, the input of the model for each, and its predictions as bars.

    Args:
        photos: Pictures of any size, uint8, shape ``(height, width, 1 or 3)``.
        prepared: The input of the model, uint8, shape ``(n, height, width, 1 or 3)``.
        probabilities: Pairs of class name and probability, from 0 to 1, for each photo.
        names: The name of each photo.

    Returns:
        A figure with a row for each photo.

    Raises:
        CourseError: The arguments have different lengths, or a picture has another shape or dtype.

    Example:
        >>> gray = np.zeros((8, 8, 1), "uint8")
        >>> figure = answers([gray], gray[None], [[("A", 0.75), ("B", 0.25)]], ["photo.jpg"])
        >>> [axes.get_title() for axes in figure.axes]
        ['photo.jpg', '8 × 8 pixels', '']
    """
    check_pictures(prepared)
    if not len(photos) == len(prepared) == len(probabilities) == len(names):
        raise CourseError(
            f"there are {len(photos)} photos, {len(prepared)} prepared, {len(probabilities)} answers and {len(names)} "
            "names; give one of each for every photo"
        )
    for photo in photos:
        check_pictures(np.asarray(photo)[None])
    longest = max(len(name) for answer in probabilities for name, _ in answer)
    most = max(map(len, probabilities))
    row = max(2.0, 0.42 * most + 0.4)
    figure = new_figure(7.4 + 0.1 * longest, len(photos) * (row + 0.35) + 0.4)
    panels = figure.subplots(len(photos), 3, squeeze=False, width_ratios=[1, 1, 1.6])
    for (left, middle, right), photo, pixels, answer, name in zip(
        panels, photos, prepared, probabilities, names, strict=True
    ):
        show_picture(left, photo)
        left.set_title(name if len(name) <= 18 else f"…{name[-17:]}", fontsize=12, pad=4)
        show_picture(middle, pixels)
        middle.set_title(f"{pixels.shape[1]} × {pixels.shape[0]} pixels", fontsize=12, pad=4)
        classes, heights = [name for name, _ in answer], [100 * probability for _, probability in answer]
        bars = right.barh(range(len(classes)), heights, color=COLORS["training"], height=0.62)
        right.bar_label(bars, [f"{height:.1f} %" for height in heights], padding=4, fontsize=12)
        right.set_yticks(range(len(classes)), classes)
        right.set(xlim=(0, 128), xticks=[0, 50, 100], ylim=(max(most, 1) - 0.5, -0.5))
        right.grid(visible=False, axis="y")
    panels[-1][-1].set_xlabel("probability (%)")
    return figure
