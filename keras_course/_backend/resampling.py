"""Bilinear resampling of pictures, and batches in parts: operations that NumPy and ``keras.ops`` share."""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from keras_course._backend.libraries import cast

Places = tuple[Any, Any]
"""x and y, counted in pixels from the centre of the first."""

Drawn = tuple[Any, ...]
"""What is drawn at random for each picture, and what follows from it: arrays (batch, ...)."""

Draw = Callable[[Any, Any, Any, ModuleType], Drawn]
"""From the shape of a batch, the step and the first row to what is drawn."""

Change = Callable[[Any, Drawn, Any, Any, ModuleType], Any]
"""From pictures (batch, height, width, channels), what is drawn, the first row and the step to changed pictures."""

Run = Callable[[Any, Any, Any], tuple[Any, Drawn]]
"""From pictures, the step and the first row to changed pictures and what was drawn."""

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


def in_parts(
    change: Change,
    pictures: Any,
    drawn: Drawn,
    first_row: Any,
    step: Any,
    library: ModuleType,
    *,
    values: int,
    threads: int = 1,
) -> list[Any]:
    """Changes a few pictures at a time, so that all that comes between stays in the processor's cache.

    Args:
        change: What to do, called with all that follows, for one part after the other.
        pictures: An array or tensor (batch, height, width, channels).
        drawn: What is drawn for all of them.
        first_row: The row of the first picture.
        step: The number of the batch.
        library: ``numpy`` or ``keras.ops``.
        values: How many values the pictures of a part have together, about.
        threads: How many pictures are changed at the same time: a part has as many, or a multiple.

    Returns:
        Changed pictures (part, height, width, channels).
    """
    together = max(1, values // max(1, math.prod(pictures.shape[1:])))
    together = -(-together // threads) * threads
    parts = [slice(start, start + together) for start in range(0, max(1, pictures.shape[0]), together)]
    return [
        change(pictures[part], tuple(array[part] for array in drawn), first_row + part.start, step, library)
        for part in parts
    ]


def by_pictures_on_the_host(draw: Draw, change: Change) -> Run:
    """Does in NumPy what each backend's ``by_pictures`` does."""

    def run(pictures: np.ndarray, step: Any, first_row: Any) -> tuple[np.ndarray, Drawn]:
        drawn = draw(pictures.shape, step, first_row, np)
        return np.concatenate(in_parts(change, pictures, drawn, first_row, step, np, values=_VALUES_TOGETHER)), drawn

    return run


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
