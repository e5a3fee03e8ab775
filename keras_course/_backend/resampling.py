"""Bilinear resampling of pictures, and batches in parts: operations that NumPy and ``keras.ops`` share."""

import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from keras_course._backend.libraries import cast

Axis = Callable[[int], tuple[float, float]]
"""From the number of pixels side by side to the place of the first one, and the distance to the next."""

Drawn = tuple[Any, ...]
"""What is drawn at random for each picture, and what follows from it: arrays (batch, ...)."""

Draw = Callable[[Any, Any, Any, ModuleType], Drawn]
"""From the shape of a batch, the step and the first row to what is drawn."""

Change = Callable[[Any, Drawn, Any, Any, ModuleType], Any]
"""From pictures (batch, height, width, channels), what is drawn, the first row and the step to changed pictures."""

Run = Callable[[Any, Any, Any], tuple[Any, Drawn]]
"""From pictures, the step and the first row to changed pictures and what was drawn."""

_VALUES_TOGETHER = 2**16


def axis(size: int) -> tuple[float, float]:
    """Counts in pixels, from the centre of the first."""
    return 0.0, 1.0


def resample(
    images: Any, columns: Any, rows: Any, fill: str, xp: ModuleType, take: Callable[..., Any] | None = None
) -> Any:
    """Reads pictures at other places, each of which is the sum of what its column and its row in the result give.

    Args:
        images: Pictures (batch, height, width, channels), float32.
        columns: What the columns give, x and y as ``axis`` counts: float32 (batch, 2, width').
        rows: What the rows give, likewise: (batch, 2, height').
        fill: What lies outside: "constant" (0), "nearest" or "reflect".
        xp: ``numpy`` or ``keras.ops``.
        take: A faster ``xp.take``, for places that are known to be inside.

    Returns:
        Pictures (batch, height', width', channels).
    """
    take = take or xp.take
    batch, height, width, channels = images.shape if xp is np else xp.shape(images)
    # x and y are added up apart: as one array of both, XLA would write them to memory before it reads a picture
    x, y = (columns[:, i, None, :] + rows[:, i, :, None] for i in range(2))  # (batch, height', width')
    left, right, *across = _neighbours(x, width, fill, xp)
    above, below, *down = _neighbours(y, height, fill, xp)
    flat = xp.reshape(images, (-1, channels))
    first = xp.reshape(xp.arange(batch, dtype="int32") * (height * width), (-1, 1, 1))
    total: Any = 0.0
    for row, row_share in zip((above, below), down, strict=True):
        for column, column_share in zip((left, right), across, strict=True):
            share = xp.expand_dims(row_share * column_share, -1)
            total = total + share * take(flat, first + row * width + column, axis=0)
    return total


def in_parts(
    change: Change,
    pictures: Any,
    drawn: Drawn,
    first_row: Any,
    step: Any,
    xp: ModuleType,
    *,
    values: int,
    threads: int = 1,
) -> Iterator[tuple[slice, Any]]:
    """Changes a few pictures at a time, so that all that comes between stays in the processor's cache.

    Args:
        change: What to do, called with all that follows, for one part after the other.
        pictures: An array or tensor (batch, height, width, channels).
        drawn: What is drawn for all of them.
        first_row: The row of the first picture.
        step: The number of the batch.
        xp: ``numpy`` or ``keras.ops``.
        values: How many values the pictures of a part have together, about.
        threads: How many pictures are changed at the same time: a part has as many, or a multiple.

    Yields:
        Which pictures, and how they look now, (part, height, width, channels).
    """
    together = max(1, values // max(1, math.prod(pictures.shape[1:])))
    together = -(-together // threads) * threads
    for start in range(0, max(1, pictures.shape[0]), together):
        part = slice(start, start + together)
        yield part, change(pictures[part], tuple(array[part] for array in drawn), first_row + start, step, xp)


def by_pictures_on_the_host(draw: Draw, change: Change) -> Run:
    """Does in NumPy what each backend's ``by_pictures`` does."""

    def run(pictures: np.ndarray, step: Any, first_row: Any) -> tuple[np.ndarray, Drawn]:
        drawn = draw(pictures.shape, step, first_row, np)
        parts = in_parts(change, pictures, drawn, first_row, step, np, values=_VALUES_TOGETHER)
        return np.concatenate([changed for _, changed in parts]), drawn

    return run


def _neighbours(place: Any, size: int, fill: str, xp: ModuleType) -> tuple[Any, Any, Any, Any]:
    """Finds the two pixels that places on an axis lie between, and how much each of them counts.

    A pixel counts for 1 where it lies, less and less up to the next one, and for nothing from there on. So a place
    outside may be given any two pixels: those at the edge are always there to be read.
    """
    if fill == "reflect":  # about the outer edges of the first and the last pixel: d c b a | a b c d | d c b a
        place = size - 0.5 - xp.abs(xp.mod(place + 0.5, 2.0 * size) - size)
    if fill != "constant":
        place = xp.clip(place, 0.0, size - 1.0)
    step = min(1, size - 1)  # a single pixel has no neighbour
    low = xp.clip(xp.floor(place), 0.0, max(0.0, size - 2.0))
    low_share = xp.maximum(1.0 - xp.abs(place - low), 0.0)
    high_share = xp.maximum(step - xp.abs(place - (low + 1.0)), 0.0)
    low = cast(low, "int32", xp)
    return low, low + step, low_share, high_share
