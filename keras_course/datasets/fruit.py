"""Fresh and rotten fruit for the exam of the course: the course's own photos, yours, or drawn fruit.

The course's photos are of apples, bananas and oranges, in ``train`` and ``valid`` with the folders ``freshapples`` to
``rottenoranges``. They need an account; set ``KERAS_COURSE_DATA`` to the folder that contains ``fruits`` or ``fruit``
with these or other photos.

Drawn fruit comes from the course's generator and is the same on every machine: an outline, the shading of a ball, a
stem; rotten fruit has brown spots, mold, and less color. It only demonstrates the lesson: a network that is trained
on it does not recognize real fruit.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from keras_course import randomness
from keras_course.datasets import arrays, photo_folder
from keras_course.errors import CourseError, check_positive
from keras_course.files import replacing

__all__ = ["CLASS_NAMES", "draw", "locate"]

CLASS_NAMES: Final = (
    *("freshapples", "freshbanana", "freshoranges"),
    *("rottenapples", "rottenbanana", "rottenoranges"),
)
"""The classes of the course's photos."""
FOLDERS: Final = ("fruits", "fruit")
"""Folders to look for in ``KERAS_COURSE_DATA`` and in the cache, the preferred one first."""
SAMPLE: Final = "drawn_fruit"
_DRAWN: Final = {"train": 24, "valid": 10}
"""Number of pictures of each class."""
_SIDE: Final = 160
_SMALLEST: Final = 16

Plane = npt.NDArray[np.float64]

_COLORS: Final = {
    "apples": ((0.75, 0.10, 0.12), (0.55, 0.68, 0.20)),
    "banana": ((0.95, 0.80, 0.20), (0.85, 0.82, 0.35)),
    "oranges": ((0.96, 0.55, 0.08), (0.93, 0.47, 0.12)),
}
"""Two colors; each fruit is a mixture of them."""
_BROWN: Final = (0.22, 0.13, 0.07)
_MOLD: Final = (0.78, 0.80, 0.74)


def locate(source: str | Path = "auto", *, cache: str | Path | None = None) -> Path:
    """Finds a folder of photos that has a subfolder for each class.

    Args:
        source: ``"auto"`` for photos of fruit, else drawn fruit; ``"full"`` for photos only; ``"sample"`` for drawn
            fruit; or the path of a folder.
        cache: The cache folder; by default ``KERAS_COURSE_CACHE`` or the user's cache folder.

    Returns:
        The folder, for ``photo_folder.load_data``.

    Raises:
        CourseError: There is no such folder.

    Example:
        >>> locate("no_such_folder")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no folder no_such_folder; give the path of one
    """
    return photo_folder.locate(source, FOLDERS, lambda: _sample(arrays.cache_folder(cache) / "photos" / SAMPLE), cache)


def draw(class_name: str, number: int, *, seed: int = 0, side: int = _SIDE) -> npt.NDArray[np.uint8]:
    """Draws one fruit.

    Args:
        class_name: One of ``CLASS_NAMES``.
        number: The number of the picture; each number gives another picture.
        seed: Random seed.
        side: Height and width in pixels.

    Returns:
        uint8 (side, side, 3).

    Raises:
        CourseError: There is no such class, or the side is too small.

    Example:
        >>> draw("freshapples", 3).shape
        (160, 160, 3)
    """
    if class_name not in CLASS_NAMES:
        raise CourseError(f"class_name is {class_name!r}; give one of {', '.join(CLASS_NAMES)}")
    check_positive(side=side)
    if side < _SMALLEST:
        raise CourseError(f"side is {side}; give at least {_SMALLEST} pixels")
    is_rotten = class_name.startswith("rotten")
    kind = class_name.removeprefix("rotten").removeprefix("fresh")
    draws = _Draws(seed, class_name, number)

    turn, size = draws.between(-0.5, 0.5), draws.between(0.55, 0.8)
    x, y = np.meshgrid(*2 * [np.linspace(-1, 1, side)])
    x, y = x - draws.between(-0.15, 0.15), y - draws.between(-0.15, 0.15)
    x, y = (np.cos(turn) * x + np.sin(turn) * y) / size, (np.cos(turn) * y - np.sin(turn) * x) / size
    inside, height = _banana(x, y, draws) if kind == "banana" else _ball(x, y, dent=0.25 * (kind == "apples"))

    first, second = map(np.array, _COLORS[kind])
    mix = np.clip(draws.between(-0.3, 1.0) + 0.5 * (draws.cloud(side, 4) - 0.5), 0, 1)
    color = first + (second - first) * mix[..., None]
    if kind == "oranges":
        color = color * (1 + 0.25 * (draws.cloud(side, side // 4) - 0.5))[..., None]
    if is_rotten:
        color = _rotten(color, draws, side)
    elif kind == "banana":  # freckles, which do not mean rot
        color = _blend(color, _BROWN, 0.7 * (draws.cloud(side, 24) > 0.93))
    stem = (np.abs(x - 0.15 * (y + 1)) < 0.05) & (y < -0.7) & (y > -1.15) & (kind == "apples")
    color, inside = _blend(color, _BROWN, stem), np.maximum(inside, stem)

    light = np.array([draws.between(-0.7, 0.7), -0.6, 0.8])
    slope = np.stack([*np.gradient(-height, 2 / side / size)[::-1], np.ones_like(height)])
    lit = np.clip(np.tensordot(light / np.linalg.norm(light), slope / np.linalg.norm(slope, axis=0), 1), 0, 1)
    gloss = 0.0 if is_rotten else 0.5 * lit**24
    picture = color * (0.35 + 0.75 * lit)[..., None] + np.asarray(gloss)[..., None]

    table = np.array([draws.between(0.25, 0.9) for _ in range(3)]) * (0.85 + 0.3 * draws.cloud(side, 3))[..., None]
    shadow = 1 - 0.5 * _soft(_shifted(inside, side // 16), side / 20)
    picture = np.where(inside[..., None] > 0, picture, table * shadow[..., None])
    noise = draws.uniform((side, side, 3)) - 0.5
    return np.asarray(255 * np.clip(_soft(picture, 0.7) + 0.06 * noise, 0, 1), "uint8")


class _Draws:
    """Draws numbers one after the other from a random stream."""

    def __init__(self, seed: int, class_name: str, number: int) -> None:
        self._seed, self._names, self._count = seed, ("fruit", class_name, number), 0

    def uniform(self, shape: Sequence[int]) -> Plane:
        """Draws numbers from 0 to 1."""
        self._count += 1
        key = randomness.stream_key(self._seed, *self._names, self._count)
        return np.asarray(randomness.uniform(key, tuple(shape)), "float64")

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.uniform((1,))[0])

    def cloud(self, side: int, cells: int) -> Plane:
        """Draws smooth noise with values from 0 to 1 that vary over the size of a cell."""
        small = Image.fromarray(self.uniform((cells, cells)).astype("float32"))
        plane = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), "float64")
        return (plane - plane.min()) / max(float(np.ptp(plane)), 1e-9)


def _ball(x: Plane, y: Plane, *, dent: float) -> tuple[Plane, Plane]:
    """Returns an outline and the height of the surface; an apple has a dent at its stem."""
    radius = np.hypot(x, y) / (1 - dent * np.exp(-12 * x**2) * (y < 0))
    return (radius < 1).astype("float64"), np.sqrt(np.clip(1 - radius**2, 0, None))


def _banana(x: Plane, y: Plane, draws: _Draws) -> tuple[Plane, Plane]:
    """Returns outline and height of a piece of a ring that becomes thinner toward its ends."""
    bend = draws.between(1.0, 1.4)
    angle, distance = np.arctan2(x, y + bend - 0.2), np.hypot(x, y + bend - 0.2) - bend
    along = angle * bend / 1.05
    thickness = 0.3 * np.sqrt(np.clip(1 - along**4, 1e-9, None))
    across = distance / thickness
    inside = (np.abs(across) < 1) & (np.abs(along) < 1)
    return inside.astype("float64"), 0.3 * np.sqrt(np.clip(1 - across**2, 0, None)) * inside


def _rotten(color: Plane, draws: _Draws, side: int) -> Plane:
    """Reduces the color, and adds brown spots and mold."""
    gray = color.mean(axis=-1, keepdims=True)
    color = 0.75 * (gray + draws.between(0.35, 0.7) * (color - gray))
    spots = np.clip(6 * (draws.cloud(side, 5) - draws.between(0.4, 0.6)), 0, 1)
    color = _blend(color, _BROWN, 0.9 * spots)
    mold = np.clip(8 * (draws.cloud(side, 4) - draws.between(0.75, 0.95)), 0, 1)
    return _blend(color, _MOLD, 0.8 * mold * draws.cloud(side, side // 3))


def _blend(color: Plane, other: Sequence[float], share: npt.NDArray[np.generic]) -> Plane:
    return color + (np.array(other) - color) * np.asarray(share, "float64")[..., None]


def _shifted(plane: Plane, by: int) -> Plane:
    return np.pad(plane, [(by, 0), (by, 0)], mode="edge")[: len(plane), : len(plane)]


def _soft(plane: Plane, radius: float) -> Plane:
    """Blurs a plane, or each channel of a picture, by two running means."""
    width = max(1, round(radius))
    for axis in (0, 1):
        for _ in range(2):
            pads = [(width, width) if place == axis else (0, 0) for place in range(plane.ndim)]
            sums = np.cumsum(np.pad(plane, pads, mode="edge"), axis=axis)
            before = np.concatenate([np.zeros_like(np.take(sums, [0], axis)), sums], axis=axis)
            length = plane.shape[axis]
            ahead = np.take(before, range(2 * width + 1, 2 * width + 1 + length), axis)
            plane = (ahead - np.take(before, range(length), axis)) / (2 * width + 1)
    return plane


def _sample(folder: Path) -> Path:
    """Draws the sample if it does not exist yet."""
    for part, count in _DRAWN.items():
        for class_name in CLASS_NAMES:
            for number in range(count):
                target = folder / part / class_name / f"{number:02}.jpg"
                if not target.exists():
                    drawn = draw(class_name, number + sum(_DRAWN.values()) * (part == "valid"))
                    with replacing(target) as file:
                        Image.fromarray(drawn).save(file, "JPEG", quality=90)
    return folder
