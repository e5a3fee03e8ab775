"""Bilinear resampling of pictures, in operations that NumPy and ``keras.ops`` share."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from keras_course._backend.libraries import cast


def resample(
    images: Any, x: Any, y: Any, fill: str, library: ModuleType = np, take: Callable[..., Any] | None = None
) -> Any:
    """Reads pictures at any places.

    Args:
        images: Pictures (batch, height, width, channels), float32.
        x: Columns (batch, height', width'), float32, counted in pixels from the centre of the first one.
        y: Rows, the same.
        fill: What lies outside: "constant" (0), "nearest" or "reflect".
        library: ``numpy`` or ``keras.ops``.
        take: A faster ``library.take``, for places that are known to be inside.

    Returns:
        Pictures (batch, height', width', channels).
    """
    take = take or library.take
    batch, height, width, channels = images.shape if library is np else library.shape(images)
    # a far place is as good as one just outside, and fits into an integer
    x, y = _within_reach(x, width, fill, library), _within_reach(y, height, fill, library)
    left, top = library.floor(x), library.floor(y)
    right_share, bottom_share = x - left, y - top
    flat = library.reshape(images, (-1, channels))
    first = library.reshape(library.arange(batch, dtype="int32") * (height * width), (-1, 1, 1))
    total: Any = 0.0
    for row, row_share in ((top, 1.0 - bottom_share), (top + 1.0, bottom_share)):
        for column, column_share in ((left, 1.0 - right_share), (left + 1.0, right_share)):
            share = row_share * column_share
            if fill == "constant":
                share = share * _is_inside(row, height, library) * _is_inside(column, width, library)
            place = first + _index(row, height, library) * width + _index(column, width, library)
            total = total + library.expand_dims(share, -1) * take(flat, place, axis=0)
    return total


def _within_reach(place: Any, size: int, fill: str, library: ModuleType) -> Any:
    if fill == "reflect":  # about the outer edges of the first and the last pixel: d c b a | a b c d | d c b a
        place = library.abs(library.mod(place + 0.5, 2.0 * size) - size)
        return library.clip(size - 0.5 - place, 0.0, size - 1.0)
    if fill == "nearest":
        return library.clip(place, 0.0, size - 1.0)
    return library.clip(place, -1.0, float(size))


def _is_inside(index: Any, size: int, library: ModuleType) -> Any:
    inside = library.logical_and(index >= 0.0, index <= size - 1.0)
    return cast(inside, "float32", library)


def _index(place: Any, size: int, library: ModuleType) -> Any:
    place = library.clip(place, 0.0, size - 1.0)
    return cast(place, "int32", library)
