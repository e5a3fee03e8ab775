"""Convolutional networks: kernels, feature maps, convolutions step by step, and heat maps of Grad-CAM."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from keras_course.errors import CourseError, check_positive
from keras_course.plots import checks
from keras_course.plots.checks import Numbers
from keras_course.plots.pictures import check_pictures
from keras_course.plots.style import (
    COLORS,
    LUMA,
    in_course_style,
    new_figure,
    plain_number,
    tiled_axes,
    title_of_tiles,
    write_in_cells,
)

_BELOW_AND_ABOVE_ZERO = "RdBu_r"
_FROM_ZERO_UP = "magma"
_HEAT = "plasma"
_KERNEL_INCHES = 1.05
_BAR_INCHES = 0.32  # with the distance from the tiles
_SMALLEST_NUMBER = 8.0  # points
_Scale = tuple[Normalize, str]  # and a color map


@in_course_style
def kernel_grid(kernels: npt.ArrayLike, *, channel: int = 0, title: str | None = None) -> Figure:
    """Shows the kernels of a convolutional layer: positive weights in red, negative ones in blue.

    Args:
        kernels: Shape ``(rows, columns, inputs, filters)``, as ``explain.kernels`` returns them.
        channel: The input channel whose weights are shown, counted from 0.
        title: A title.

    Returns:
        A figure with a tile for each filter, all on one color scale; white is 0.

    Raises:
        CourseError: The kernels have another shape, or no such channel.

    Example:
        >>> len(kernel_grid(np.zeros((3, 3, 1, 25))).axes)  # one for each tile, and the color bar
        26
    """
    weights = checks.as_numbers("kernels", kernels)
    _check_finite("kernels have", weights, "(rows, columns, inputs, filters)")
    if not 0 <= channel < weights.shape[2]:
        raise CourseError(f"channel is {channel}; give a number from 0 to {weights.shape[2] - 1}")
    tiles = np.moveaxis(weights[:, :, channel], -1, 0)
    return _tile_grid(tiles, None, title=title, label="weight", around_zero=True, tile_inches=0.8)


@in_course_style
def feature_map_grid(
    maps: npt.ArrayLike, *, image: npt.NDArray[np.uint8] | None = None, count: int = 64, title: str | None = None
) -> Figure:
    """Shows the feature maps of a layer for one picture.

    Args:
        maps: Shape ``(height, width, filters)``, as ``explain.feature_maps`` returns them.
        image: The picture, uint8, shape ``(height, width, 1 or 3)``; it is shown first.
        count: The largest number of maps; the first ones are shown.
        title: A title.

    Returns:
        A figure with a tile for each map, all on one color scale: black is 0; or, if there are negative numbers, blue
        is negative, white is 0 and red is positive. One number in 200 is beyond the scale; then its bar ends in an
        arrow.

    Raises:
        CourseError: The maps have another shape.

    Example:
        >>> len(feature_map_grid(np.zeros((14, 14, 50))).axes)
        51
    """
    check_positive(count=count)
    values = checks.as_numbers("maps", maps)
    _check_finite("maps have", values, "(height, width, filters)")
    tiles = np.moveaxis(values, -1, 0)[:count]
    return _tile_grid(
        tiles, image, title=title, label="output", around_zero=bool(tiles.min() < 0), tile_inches=0.95, cut=0.995
    )


@in_course_style
def heat_on_picture(
    images: npt.NDArray[np.uint8],
    heats: npt.ArrayLike,
    titles: Sequence[str],
    *,
    columns: int = 3,
    title: str | None = None,
) -> Figure:
    """Shows pictures, and each again with its heat map.

    Args:
        images: Pictures, uint8, shape ``(n, height, width, 1 or 3)``.
        heats: Heat maps, shape ``(n, height, width)``, from 0 to 1, as ``explain.grad_cam`` returns them.
        titles: A title for each picture.
        columns: The largest number of pairs side by side.
        title: A title for the figure.

    Returns:
        A figure with a panel for each picture. Where the heat is 0, the picture is shown in gray.

    Raises:
        CourseError: The arguments do not fit each other.

    Example:
        >>> figure = heat_on_picture(np.zeros((2, 28, 28, 1), "uint8"), np.ones((2, 28, 28)), ["A", "B"])
        >>> [axes.get_title() for axes in figure.axes[:2]]
        ['A', 'B']
    """
    check_positive(columns=columns)
    check_pictures(images)
    warmth = checks.as_numbers("heats", heats)
    if len(titles) == 0 or warmth.shape != images.shape[:3] or len(titles) != len(images):
        raise CourseError(
            f"images have shape {images.shape}, heats {warmth.shape}, and there are {len(titles)} titles; "
            "give one heat (height, width) and one title for each image"
        )
    if not (warmth.min() >= 0 and warmth.max() <= 1):
        raise CourseError(f"heats run from {warmth.min():g} to {warmth.max():g}; give numbers from 0 to 1")
    across = min(columns, len(images))
    down = -(-len(images) // across)
    height, width = images.shape[1:3]
    panel = max(3.6, 0.1 * max(map(len, titles)) + 0.2)
    high = max(down * (panel * height / (2.06 * width) + 0.42), 2.2)  # inches, for the label of the color bar
    figure = new_figure(max(across * panel + 0.9, _title_width(title)), high + (0.4 if title else 0), title)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, image, heat, name in zip(panels, images, warmth, titles, strict=False):
        gap = np.full((height, max(1, width // 16), 3), 1.0)
        axes.imshow(np.hstack([_as_rgb(image), gap, _under_heat(image, heat)]), interpolation="nearest")
        axes.set_title(name, fontsize=12, pad=4)
    for axes in panels:
        axes.set_axis_off()
    _bar(figure, list(panels), (Normalize(0, 1), _HEAT), "support for the class", ticks=[0, 0.5, 1])
    return figure


@in_course_style
def convolution_steps(
    image: npt.ArrayLike,
    steps: Mapping[str, tuple[npt.ArrayLike | str, npt.ArrayLike]],
    *,
    columns: int = 4,
    title: str | None = None,
) -> Figure:
    """Shows a picture, and the result of each kernel.

    All results are drawn with the same pixel size in a frame as large as the picture, so the effect of stride, padding
    and pooling on the size is visible.

    Args:
        image: A gray picture, shape ``(height, width)`` or ``(height, width, 1)``.
        steps: For each name the kernel, shape ``(rows, columns)``, and the result, shape ``(rows, columns)``, as
            ``explain.convolve`` returns it. An operation without a kernel, such as pooling, has a text instead.
        columns: The largest number of panels side by side.
        title: A title.

    Returns:
        A figure. The result of a kernel whose weights have a positive sum is a picture, and is shown on the scale of
        the picture; the other kernels are detectors: white is 0, red is positive, blue is negative.

    Raises:
        CourseError: ``steps`` is empty, or an array has another shape.

    Example:
        >>> figure = convolution_steps(np.ones((4, 4)), {"pooled": ("largest of 2 × 2", np.ones((2, 2)))})
        >>> [axes.get_title().split() for axes in figure.axes if axes.get_title()]
        [['picture', '4', '×', '4'], ['pooled', '2', '×', '2']]
    """
    check_positive(columns=columns)
    picture = _plane("image", image)
    panels: list[tuple[str, Numbers | str | None, Numbers]] = [("picture", None, picture)]
    gray = _from_black_to_white(picture)
    for name, (kernel, result) in checks.named("steps", steps).items():
        weights = kernel if isinstance(kernel, str) else _plane(f"the kernel in steps[{name!r}]", kernel)
        panels.append((name, weights, _plane(f"the result in steps[{name!r}]", result)))
    across = min(columns, len(panels))
    down = -(-len(panels) // across)
    frame = np.max([result.shape for _, _, result in panels], axis=0)
    high = 2.5 * frame[0] / frame[1]  # inches
    wide = across * max(2.5, 0.1 * max(len(name) for name, _, _ in panels) + 0.1) + 0.3
    figure = new_figure(max(wide, _title_width(title)), down * (high + 2.15) + (0.4 if title else 0), title)
    grid = figure.add_gridspec(2 * down, across, height_ratios=[_KERNEL_INCHES, high] * down)
    for index, (name, weighing, made) in enumerate(panels):
        row, place = divmod(index, across)
        if weighing is not None:
            above = figure.add_subplot(grid[2 * row, place])
            if isinstance(weighing, str):
                above.text(0.5, 0.5, weighing, ha="center", va="center", transform=above.transAxes)
                above.set_axis_off()
            else:
                _show_numbers(above, weighing, _balanced(weighing), inches=_KERNEL_INCHES)
        below = figure.add_subplot(grid[2 * row + 1, place])
        _show_in_frame(below, made, frame, _scale_of_result(weighing, made, gray))
        below.set_title(f"{name}\n{made.shape[0]} × {made.shape[1]}")
    return figure


@in_course_style
def one_window(
    image: npt.ArrayLike, kernel: npt.ArrayLike, result: npt.ArrayLike, *, row: int, column: int, stride: int = 1
) -> Figure:
    """Shows how one pixel of a convolution is computed: a window of the picture times the kernel, summed.

    Args:
        image: A gray picture, shape ``(height, width)`` or ``(height, width, 1)``, including its padding, if any.
        kernel: The weights, shape ``(rows, columns)``.
        result: The result, as ``explain.convolve`` returns it without padding.
        row: The row of the pixel in the result, counted from 0 at the top.
        column: The column of the pixel in the result, counted from 0 at the left.
        stride: The distance between two windows in pixels.

    Returns:
        A figure to be read from left to right: the picture with the window framed, the numbers in the window, the
        kernel, their products, and the result with the pixel framed and their sum as its title.

    Raises:
        CourseError: There is no such pixel, or the shapes do not match.

    Example:
        >>> figure = one_window([[0, 9], [0, 9]], [[-1, 1]], [[9], [9]], row=1, column=0)
        >>> [axes.get_title() for axes in figure.axes]
        ['picture', 'window', '× kernel', '= products', 'sum: 9']
    """
    picture, weights, made = _plane("image", image), _plane("kernel", kernel), _plane("result", result)
    check_positive(stride=stride)
    expected = tuple((whole - part) // stride + 1 for whole, part in zip(picture.shape, weights.shape, strict=True))
    if made.shape != expected:
        raise CourseError(f"result has shape {made.shape}; this picture, kernel and stride make {expected}")
    if not (0 <= row < made.shape[0] and 0 <= column < made.shape[1]):
        raise CourseError(f"row and column are {row} and {column}; give a pixel of the result, {made.shape}")
    top, left = row * stride, column * stride
    window = picture[top : top + weights.shape[0], left : left + weights.shape[1]]
    products = window * weights
    figure = new_figure(14.0, 3.4)
    panels = figure.subplots(1, 5)
    gray = _from_black_to_white(picture)
    _show_in_frame(panels[0], picture, picture.shape, gray)
    _frame_window(panels[0], top, left, weights.shape)
    _show_numbers(panels[1], window, gray, inches=2.4)
    _show_numbers(panels[2], weights, _balanced(weights), inches=2.4)
    _show_numbers(panels[3], products, _balanced(products), inches=2.4)
    _show_in_frame(panels[4], made, made.shape, _scale_of_result(weights, made, gray))
    _frame_window(panels[4], row, column, (1, 1))
    titles = ("picture", "window", "× kernel", "= products", f"sum: {_short_number(products.sum())}")
    for axes, name in zip(panels, titles, strict=True):
        axes.set_title(name)
    return figure


def _tile_grid(
    tiles: Numbers,
    image: npt.NDArray[np.uint8] | None,
    *,
    title: str | None,
    label: str,
    around_zero: bool,
    tile_inches: float,
    cut: float = 1.0,
) -> Figure:
    """Returns a figure with a tile for each plane of numbers, on one color scale, and a color bar."""
    if image is not None:
        check_pictures(image[None])
    cells = len(tiles) + (image is not None)
    across = min(cells, int(np.ceil(np.sqrt(1.6 * cells))))
    down = -(-cells // across)
    # a few pixels at the border are often so large that everything else would be dark
    within = np.clip(tiles, *(np.quantile(np.abs(tiles), cut) * np.array([-1, 1])))
    scale = norm, colors = _balanced(within) if around_zero else (Normalize(0, within.max() or 1.0), _FROM_ZERO_UP)
    beyond = {(False, False): "neither", (False, True): "max", (True, False): "min", (True, True): "both"}
    extend = beyond[bool(tiles.min() < norm.vmin), bool(tiles.max() > norm.vmax)]

    high = max(down * tile_inches * tiles.shape[1] / tiles.shape[2], 1.6)  # inches
    right = _BAR_INCHES + _beside_bar(high, scale, label, extend)
    named = 0.0 if image is None else 0.22
    width = max(across * tile_inches + right + 0.1, _title_width(title))
    height = high + named + 0.2 + (0.4 if title else 0)
    figure = new_figure(width, height)
    top = title_of_tiles(figure, title) + named
    panels = tiled_axes(figure, cells, across, right=right, top=top)
    if image is not None:
        panels[0].imshow(_as_rgb(image), interpolation="nearest")
        panels[0].set_title("picture", fontsize=11, pad=3)
    for axes, tile in zip(panels[cells - len(tiles) :], tiles, strict=True):
        axes.imshow(tile, cmap=colors, norm=norm, interpolation="nearest")
    for axes in panels:
        _only_a_frame(axes)
    # the lowest and the highest number extend half a line beyond the bar
    place = (1 - (right - 0.15) / width, 0.18 / height, (_BAR_INCHES - 0.15) / width, 1 - (top + 0.36) / height)
    _bar(figure, figure.add_axes(place), scale, label, extend=extend)
    return figure


def _beside_bar(height: float, scale: _Scale, label: str, extend: str) -> float:
    """Returns the width in inches of the numbers and the label of a color bar of that height."""
    figure = new_figure(1.0, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    _bar(figure, axes, scale, label, extend=extend)
    box = axes.get_tightbbox()
    assert box is not None
    return float((box.x1 - figure.bbox.x1) / figure.dpi) + 0.1


def _title_width(title: str | None) -> float:
    return 0.13 * len(title or "")  # inches


def _balanced(values: Numbers) -> _Scale:
    """Returns a color scale with white at 0 in the middle."""
    largest = float(np.abs(values).max()) or 1.0
    return Normalize(-largest, largest), _BELOW_AND_ABOVE_ZERO


def _from_black_to_white(picture: Numbers) -> _Scale:
    return Normalize(min(0.0, picture.min()), picture.max() or 1.0), "gray"


def _scale_of_result(kernel: Numbers | str | None, made: Numbers, gray: _Scale) -> _Scale:
    """Returns a scale around 0 if a plain area gives about 0 or less (without a kernel: if a number is below 0)."""
    around_zero = made.min() < 0
    if isinstance(kernel, np.ndarray):
        around_zero = kernel.sum() < 0.05 * np.abs(kernel).sum()
    return _balanced(made) if around_zero else gray


def _bar(figure: Figure, where: Axes | list[Axes], scale: _Scale, label: str, **settings: Any) -> None:
    """Draws a color bar into its axes, or beside the given panels."""
    place = {"ax": where, "aspect": 24, "pad": 0.03} if isinstance(where, list) else {"cax": where}
    bar = figure.colorbar(ScalarMappable(*scale), **place, **settings)
    bar.formatter = FuncFormatter(lambda value, _: plain_number(value))
    bar.set_label(label)
    bar.outline.set_visible(False)


def _show_in_frame(axes: Axes, values: Numbers, frame: npt.ArrayLike, scale: _Scale) -> None:
    """Draws a picture in the middle of a frame that can be larger, so that all pixels have the same size."""
    height, width = np.asarray(frame) / 2
    axes.imshow(values, norm=scale[0], cmap=scale[1], interpolation="nearest")
    y, x = (values.shape[0] - 1) / 2, (values.shape[1] - 1) / 2
    axes.set(xlim=(x - width, x + width), ylim=(y + height, y - height))
    _only_a_frame(axes)


def _only_a_frame(axes: Axes) -> None:
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)


def _show_numbers(axes: Axes, values: Numbers, scale: _Scale, *, inches: float) -> None:
    """Draws a small plane of numbers, and writes the numbers into the cells if they are large enough to read."""
    picture = axes.imshow(values, norm=scale[0], cmap=scale[1], interpolation="nearest")
    _only_a_frame(axes)
    texts = {cell: _short_number(float(values[cell])) for cell in np.ndindex(values.shape)}
    size = min(13.0, 72 * inches / max(values.shape) / (0.62 * max(map(len, texts.values()))))
    if size >= _SMALLEST_NUMBER:
        write_in_cells(axes, texts, picture.cmap(picture.norm(values)), size)


def _short_number(value: float) -> str:
    return plain_number(round(float(value), 0 if abs(value) >= 10 else 2) + 0.0)  # + 0.0 turns -0.0 into 0.0


def _frame_window(axes: Axes, top: int, left: int, size: Sequence[int]) -> None:
    place = (left - 0.5, top - 0.5)
    for color, thickness in (("white", 5.0), (COLORS["validation"], 2.6)):  # visible on dark and on light pixels
        axes.add_patch(Rectangle(place, size[1], size[0], fill=False, edgecolor=color, linewidth=thickness))


def _under_heat(image: npt.NDArray[np.uint8], heat: Numbers) -> Numbers:
    """Blends the colors of the heat map over the gray picture, in proportion to the heat."""
    gray = _as_rgb(image) @ LUMA
    colors = matplotlib.colormaps[_HEAT](heat)[..., :3]
    share = 0.75 * heat[..., None]
    return (1 - share) * gray[..., None] + share * colors


def _as_rgb(image: npt.NDArray[np.uint8]) -> Numbers:
    return np.broadcast_to(image / 255, (*image.shape[:2], 3))


def _plane(name: str, values: npt.ArrayLike) -> Numbers:
    numbers = checks.as_numbers(name, values)
    if numbers.ndim == 3 and numbers.shape[2] == 1:
        numbers = numbers[..., 0]
    _check_finite(f"{name} has", numbers, "(rows, columns)")
    return numbers


def _check_finite(subject: str, numbers: Numbers, shape: str) -> None:
    """Raises CourseError unless numbers are finite and have as many dimensions as the named shape."""
    if numbers.ndim != shape.count(",") + 1 or not numbers.size or not np.isfinite(numbers).all():
        raise CourseError(f"{subject} shape {numbers.shape}; give finite numbers of shape {shape}")
