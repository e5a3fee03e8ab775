"""Bilinear resampling of pictures and transforms of batches in parts, for NumPy and ``keras.ops``."""

import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from keras_course._backend.libraries import cast

Axis = Callable[[int], tuple[float, float]]
"""Takes the length of an axis in pixels; returns the coordinate of the first pixel and the distance to the next."""

Drawn = tuple[Any, ...]
"""The random parameters of each picture, and values computed from them: arrays (batch, ...)."""

DrawFunction = Callable[[Any, Any, Any, ModuleType], Drawn]
"""Takes the shape of a batch, the step, the first row and ``xp``; returns the random parameters."""

ApplyFunction = Callable[[Any, Drawn, Any, Any, ModuleType], Any]
"""Takes pictures (batch, height, width, channels), parameters, first row, step and ``xp``; returns new pictures."""

Run = Callable[[Any, Any, Any], tuple[Any, Drawn]]
"""Takes pictures, the step and the first row; returns the transformed pictures and the parameters."""

_VALUES_TOGETHER = 2**16


def axis(size: int) -> tuple[float, float]:
    """Returns coordinates in pixels, from the center of the first one."""
    return 0.0, 1.0


def resample(
    images: Any, columns: Any, rows: Any, fill: str, xp: ModuleType, take: Callable[..., Any] | None = None
) -> Any:
    """Samples pictures (batch, height, width, channels) at given positions, bilinearly.

    A position is the sum of a term for its column and one for its row: x and y in the coordinates of ``axis``, float32,
    shapes (batch, 2, width') and (batch, 2, height'). Outside the picture, ``fill`` is "constant" (0), "nearest" or
    "reflect". ``take`` is a faster ``xp.take`` that does not check the indices.
    """
    take = take or xp.take
    batch, height, width, channels = images.shape if xp is np else xp.shape(images)
    # x and y separately: XLA would write one array of both to memory before it reads a picture
    x, y = (columns[:, i, None, :] + rows[:, i, :, None] for i in range(2))  # (batch, height', width')
    left, right, *across = _neighbors(x, width, fill, xp)
    above, below, *down = _neighbors(y, height, fill, xp)
    flat = xp.reshape(images, (-1, channels))
    first = xp.reshape(xp.arange(batch, dtype="int32") * (height * width), (-1, 1, 1))
    total: Any = 0.0
    for row, row_share in zip((above, below), down, strict=True):
        for column, column_share in zip((left, right), across, strict=True):
            share = xp.expand_dims(row_share * column_share, -1)
            total = total + share * take(flat, first + row * width + column, axis=0)
    return total


def in_parts(
    apply: ApplyFunction,
    pictures: Any,
    drawn: Drawn,
    first_row: Any,
    step: Any,
    xp: ModuleType,
    *,
    values: int,
    threads: int = 1,
) -> Iterator[tuple[slice, Any]]:
    """Yields the rows and the transformed pictures of one part after the other, small enough for the processor's cache.

    A part has about ``values`` values, and a multiple of ``threads`` pictures, which are transformed at the same time.
    """
    together = max(1, values // max(1, math.prod(pictures.shape[1:])))
    together = -(-together // threads) * threads
    for start in range(0, max(1, pictures.shape[0]), together):
        part = slice(start, start + together)
        yield part, apply(pictures[part], tuple(array[part] for array in drawn), first_row + start, step, xp)


def by_pictures_on_the_host(draw: DrawFunction, apply: ApplyFunction) -> Run:
    """Returns a random transform in NumPy; see ``by_pictures`` of each backend."""

    def run(pictures: np.ndarray, step: Any, first_row: Any) -> tuple[np.ndarray, Drawn]:
        drawn = draw(pictures.shape, step, first_row, np)
        parts = in_parts(apply, pictures, drawn, first_row, step, np, values=_VALUES_TOGETHER)
        return np.concatenate([transformed for _, transformed in parts]), drawn

    return run


def _neighbors(place: Any, size: int, fill: str, xp: ModuleType) -> tuple[Any, Any, Any, Any]:
    """Returns the two pixels between which each position on an axis lies, and their weights.

    The weight of a pixel falls from 1 at the pixel to 0 at the next one. A position far outside gets the two pixels at
    the edge, with the weight 0.
    """
    if fill == "reflect":  # at the outer edges of the first and the last pixel: d c b a | a b c d | d c b a
        place = size - 0.5 - xp.abs(xp.mod(place + 0.5, 2.0 * size) - size)
    if fill != "constant":
        place = xp.clip(place, 0.0, size - 1.0)
    step = min(1, size - 1)  # a single pixel has no neighbor
    low = xp.clip(xp.floor(place), 0.0, max(0.0, size - 2.0))
    low_share = xp.maximum(1.0 - xp.abs(place - low), 0.0)
    high_share = xp.maximum(step - xp.abs(place - (low + 1.0)), 0.0)
    low = cast(low, "int32", xp)
    return low, low + step, low_share, high_share
