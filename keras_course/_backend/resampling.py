"""Bilinear resampling of pictures, in operations that NumPy and ``keras.ops`` share."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from keras_course._backend.libraries import cast

Places = tuple[Any, Any]
"""x and y, counted in pixels from the centre of the first."""

_VALUES_TOGETHER = 2**16


def resample(
    images: Any, columns: Places, rows: Places, fill: str, library: ModuleType, take: Callable[..., Any] | None = None
) -> Any:
    """Reads pictures at other places, each of which is the sum of what its column and its row in the result give.

    Args:
        images: Pictures (batch, height, width, channels), float32.
        columns: What the columns give, float32 (batch or 1, width').
        rows: What the rows give, (batch or 1, height').
        fill: What lies outside: "constant" (0), "nearest" or "reflect".
        library: ``numpy`` or ``keras.ops``.
        take: A faster ``library.take``, for places that are known to be inside.

    Returns:
        Pictures (batch, height', width', channels).
    """
    take = take or library.take
    x, y = (column[:, None, :] + row[:, :, None] for column, row in zip(columns, rows, strict=True))
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


def resample_on_the_host(images: np.ndarray, columns: Places, rows: Places, fill: str) -> np.ndarray:
    """Does the same in NumPy, a few pictures at a time, so that all of it stays in the processor's cache."""
    batch, height, width, channels = images.shape

    def of(places: Places, some: slice) -> Places:
        x, y = (np.broadcast_to(part, (batch, part.shape[1]))[some] for part in places)
        return x, y

    together = max(1, _VALUES_TOGETHER // (height * width * channels))
    sampled = []
    for start in range(0, batch, together):
        some = slice(start, start + together)
        sampled.append(resample(images[some], of(columns, some), of(rows, some), fill, np))
    return np.concatenate(sampled)


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
