"""Affine maps of pictures: composing them, and resampling a picture along one."""

from types import ModuleType
from typing import Any

import keras
import numpy as np

from keras_course import _backend
from keras_course._backend import resampling

Map = tuple[Any, Any, Any, Any, Any, Any]
"""An affine map for each picture, x = a·x' + b·y' + c and y = d·x' + e·y' + f: six arrays (batch,).

It maps a pixel (x', y') of the result to its place (x, y) in the picture, both in pixels from the center, x to the
right and y down.
"""

IDENTITY: Map = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

FILLS = ("constant", "nearest", "reflect")
"""Pixels outside of a picture: one value, the nearest pixel, or the reflected picture (d c b a | a b c d)."""


def compose(first: Map, second: Map) -> Map:
    """Composes two maps: the first one changes a picture, and the second one the result.

    Example:
        >>> compose((2.0, 0.0, 1.0, 0.0, 2.0, 0.0), (1.0, 0.0, 5.0, 0.0, 1.0, 0.0))
        (2.0, 0.0, 11.0, 0.0, 2.0, 0.0)
    """
    a, b, c, d, e, f = first
    g, h, i, j, k, m = second
    return a * g + b * j, a * h + b * k, a * i + b * m + c, d * g + e * j, d * h + e * k, d * i + e * m + f


def warp(images: Any, back: Map, *, fill: str = "constant", fill_value: float = 0.0, xp: ModuleType = np) -> Any:
    """Resamples pictures bilinearly along a map for each.

    Args:
        images: Pictures (batch, height, width, channels), float32.
        back: The map from each pixel of the result to its place in the picture; numbers or arrays (batch,).
        fill: Pixels outside of a picture, one of ``FILLS``.
        fill_value: Value of these pixels for "constant".
        xp: ``keras.ops``, or ``numpy``.

    Returns:
        Pictures of the same shape.

    Example:
        >>> row = np.arange(4, dtype="float32").reshape(1, 1, 4, 1)
        >>> warp(row, (1.0, 0.0, 0.5, 0.0, 1.0, 0.0), fill="nearest").ravel().tolist()
        [0.5, 1.5, 2.5, 3.0]
    """
    batch, height, width, _ = images.shape if xp is np else keras.ops.shape(images)
    axis = resampling.axis if xp is np else _backend.axis
    columns, rows = places(back, xp.zeros((batch,), dtype="float32"), height, width, axis, xp)
    return resample(images, columns, rows, fill, fill_value, xp)


def places(back: Map, zeros: Any, height: int, width: int, axis: resampling.Axis, xp: ModuleType) -> tuple[Any, Any]:
    """Applies a map to all pixels: the place of a pixel is the sum of a term of its column and one of its row.

    Returns x and y of the columns, (batch, 2, width), and of the rows, (batch, 2, height), in the units of ``axis``.
    """
    matrix = xp.reshape(xp.stack([zeros + value for value in back], axis=1), (-1, 2, 3))
    by_column, by_row, shift = (matrix[..., column : column + 1] for column in range(3))  # (batch, 2, 1) each
    first, step = np.asarray([axis(width), axis(height)], "float32").T[..., None]  # (2, 1) each
    center = np.asarray([[width - 1], [height - 1]], "float32") / 2
    across = (np.arange(width, dtype="float32") - center[0]) * step
    down = (np.arange(height, dtype="float32") - center[1]) * step
    middle = first + center * step
    if xp is not np:
        across, down, middle, step = (xp.convert_to_tensor(array) for array in (across, down, middle, step))
    return by_column * across, by_row * down + (shift * step + middle)


def resample(images: Any, columns: Any, rows: Any, fill: str, fill_value: float, xp: ModuleType) -> Any:
    """Resamples pictures (batch, height, width, channels), float32, at the columns and rows that ``places`` returns."""
    offset = np.float32(fill_value if fill == "constant" else 0.0)
    if offset:
        images = images - offset
    if xp is np:
        sampled = resampling.resample(images, columns, rows, fill, np)
    else:
        sampled = _backend.resample(images, columns, rows, fill)
    return sampled + offset if offset else sampled
