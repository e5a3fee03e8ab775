"""Synthetic pictures of hands that sign the 24 static letters of the American Sign Language alphabet.

The course's generator draws letters and hands from a seed: the same pictures on every backend, in any number, and
without a network. A hand is a skeleton in centimeters with three joints in each finger. Its bones are covered by
rounded, tapering capsules that blend into each other, are turned toward the viewer and lit from one side. Each
picture has its own joint angles, view, position and size in the picture, proportions of the hand, skin, sleeve, light,
background, focus and camera noise.

J and Z are missing because they are movements. The letters are signed by a right hand, mostly with the palm toward
the camera, so that the thumb is on the right.

The poses are in ``hand_poses.json``. They were set by hand; most of them were then changed by random search, so that
the picture became more similar to one of 240 photos of the training part of Sign Language MNIST (see ``asl.py``). The
poses in which the letter is readable were kept, five or six for each letter. A network that was trained on drawn hands
alone is therefore not quite independent of that training part. The validation part was not used.
"""

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_course import randomness
from keras_course._backend import select
from keras_course.errors import CourseError, check_positive
from keras_course.preprocessing import PictureFormat

CLASS_NAMES: Final = tuple("ABCDEFGHIKLMNOPQRSTUVWXY")
"""The letters, in the order of their labels."""
PICTURES: Final = PictureFormat(height=28, width=28, channels=1, resize="extend", full_contrast=True)
"""The format of the pictures of ``load_data``: gray, the whole photo, full contrast."""
INPUT_SHAPE: Final = PICTURES.shape
"""Shape of one picture of ``load_data``."""

Pictures = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]
Array = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.float32]

_POSES: Final[dict[str, list[dict[str, Any]]]] = json.loads(
    Path(__file__).with_name("hand_poses.json").read_text(encoding="ascii")
)
"""The poses of each letter; see ``_Shapes`` for their fields."""

# The axes of the hand: x toward the thumb's side, y along the fingers, z out of the palm; centimeters from the wrist.
_KNUCKLES: Final = np.array([(2.7, 9.1, 0.1), (0.65, 9.5, 0.0), (-1.35, 9.0, 0.1), (-3.2, 8.0, 0.3)])
_WRIST_ENDS: Final = np.array([(1.4, 1.0, 0.0), (0.5, 1.0, 0.0), (-0.5, 1.0, 0.0), (-1.5, 1.0, 0.0)])
_FINGER_BONES: Final = np.array([(4.6, 2.7, 2.0), (5.0, 3.1, 2.1), (4.6, 2.9, 2.1), (3.6, 2.1, 1.9)])
_FINGER_RADII: Final = np.array(
    [(1.1, 1.0, 0.9, 0.72), (1.1, 1.02, 0.92, 0.74), (1.05, 0.97, 0.87, 0.7), (0.95, 0.83, 0.75, 0.6)]
)
_THUMB_BASE: Final = np.array((1.6, 2.2, 0.7))
_THUMB_BONES: Final = np.array((4.4, 3.3, 2.6))
_THUMB_RADII: Final = np.array((1.8, 1.3, 1.12, 0.82))
_HEEL: Final = np.array([(-2.0, 2.2, 0.6), (-2.9, 6.0, 0.5)])  # the ball of the little finger
_WEB_END: Final = np.array((0.6, 3.0, 0.2))  # of the skin between thumb and index
_ARM_ENDS: Final = np.array((0.85, -0.85, 0.0))  # x of its two bones and of the sleeve, which all have y 0.9
_ARM_LENGTH: Final = 18.0

# One entry for each capsule: 4 of the palm, 12 of the fingers, 3 of the thumb, heel, web; 2 of the arm, sleeve.
_OF_THE_HAND: Final = 21
_SLEEVE: Final = 23
_START_RADII: Final = np.concatenate(
    [(1.6, 1.6, 1.6, 1.6), _FINGER_RADII[:, :-1].ravel(), _THUMB_RADII[:-1], (1.4, 1.0, 1.55, 1.55, 3.6)]
)
_END_RADII: Final = np.concatenate(
    [(1.45, 1.45, 1.4, 1.3), _FINGER_RADII[:, 1:].ravel(), _THUMB_RADII[1:], (1.2, 1.1, 2.6, 2.6, 4.8)]
)
_BLEND_RADII: Final = np.concatenate([[1.4] * 4, [0.3] * 12, (0.9, 0.5, 0.3), (1.2, 0.9, 1.5, 1.5, 0.05)])

_SAMPLES: Final = 2  # each pixel is the mean of 2 x 2
_NOWHERE: Final = np.float32(-1e9)  # the depth where there is no hand
_CHUNK_PIXELS: Final = 50_000  # drawn at a time: what fits into the cache of a core
_SMALLEST_SIZE: Final = 8


class _Shapes(NamedTuple):
    """The shapes of n hands. Directions need not have length 1."""

    bends: Array
    """(n, 4, 4) degrees, for index, middle, ring and little finger: how far each of its three joints is bent, from the
    knuckle outwards, and how far the finger leans toward the thumb."""
    thumb: Array
    """(n, 3, 3): the directions of its bones in the axes of the hand: toward the thumb's side, along the fingers, out
    of the palm."""
    fingers_to: Array
    """(n, 3): the direction of the extended fingers in the picture: right, up, toward the viewer."""
    palm_to: Array
    """(n, 3): the direction that the palm faces, in the picture."""
    arm_to: Array
    """(n, 3): the direction from the wrist along the arm, in the picture."""
    place: Array
    """(n, 3): the size of the hand and its place right of and above the middle, as fractions of the picture; in
    ``_POSES`` hundredths of it."""


# The range of all else that varies in a picture. Tones are 0 (black) to 1 (white); coordinates are -1 to 1.
_RANGES: Final = {
    "finger_length": (0.88, 1.1),
    "thickness": (0.9, 1.12),
    "palm_width": (0.9, 1.1),
    "skin_tone": (0.6, 1.05),
    "sleeve": (3.0, 18.0),  # from the wrist, cm
    "sleeve_tone": (0.05, 0.5),
    "light_from": (-20.0, 200.0),  # degrees; 0 is the right, 90 above
    "light_height": (0.3, 1.2),
    "light_everywhere": (0.15, 0.5),
    "wall_tone": (0.55, 0.9),
    "wall_right": (-0.15, 0.15),  # how much lighter on the right
    "wall_below": (-0.15, 0.15),
    "curtain": (-3.0, -0.6),  # the right edge of a strip on the left
    "curtain_tone": (0.2, 0.9),
    "curtain_softness": (0.03, 0.3),
    "table": (0.65, 1.9),  # the upper edge of a strip at the bottom, downwards
    "table_tone": (0.3, 0.9),
    "table_tilt": (-0.1, 0.1),
    "stain_at": (0.0, 360.0),  # degrees
    "stain_distance": (1.1, 1.7),
    "stain_radius": (-0.3, 1.0),
    "stain_tone": (0.2, 1.1),
    "blur": (0.1, 0.25),
    "contrast": (0.8, 1.4),
    "brightness": (-0.1, 0.1),
    "noise": (0.0, 3.0),  # its standard deviation in gray levels
}


def draw(letters: npt.ArrayLike, *, seed: int = 0, size: int = 28, first: int = 0) -> npt.NDArray[np.uint8]:
    """Draws one picture for each letter.

    A picture depends only on its letter, the seed, the size and its number: ``draw(letters[5:9], first=5)`` is
    ``draw(letters)[5:9]``.

    Args:
        letters: Labels, (n,) whole numbers from 0 (A) to 23 (Y).
        seed: Random seed.
        size: Height and width in pixels, from 8 up.
        first: The number of the first picture.

    Returns:
        uint8 (n, size, size, 1), from 0 (black) to 255 (white).

    Raises:
        CourseError: A letter is unknown or there is none, or the size, the number or the seed is out of range.

    Example:
        >>> a, b, y = draw([0, 1, 23], seed=3)
        >>> a.shape, bool((b == draw([1], seed=3, first=1)).all())
        ((28, 28, 1), True)

    Source: the hand shapes are those of https://en.wikipedia.org/wiki/American_manual_alphabet. A capsule is the union
    of balls whose radius changes along a line; they are blended by https://iquilezles.org/articles/smin.
    """
    return _draw("draw", letters, seed, size, first)


def load_data(*, count: int = 12_000, valid_count: int = 2_400, seed: int = 0) -> tuple[Pictures, Pictures]:
    """Draws a training set and a validation set of hands, all letters equally often and in random order.

    Args:
        count: Number of training pictures.
        valid_count: Number of validation pictures.
        seed: Random seed; training and validation pictures are independent draws.

    Returns:
        ``(x_train, y_train), (x_valid, y_valid)``: uint8 (n, 28, 28, 1) from 0 (black) to 255 (white), and int32 (n,)
        labels, the places in ``CLASS_NAMES``.

    Raises:
        CourseError: A count is not a whole number from 1 up, or the seed is out of range.

    Example:
        >>> (x_train, y_train), (x_valid, y_valid) = load_data(count=48, valid_count=24)
        >>> x_train.shape, sorted(y_valid.tolist()) == list(range(24))
        ((48, 28, 28, 1), True)
    """
    check_positive(count=count, valid_count=valid_count)
    return _part("train", count, seed), _part("valid", valid_count, seed)


def _part(name: str, count: int, seed: int) -> Pictures:
    order = randomness.permutation(randomness.stream_key(seed, "hands", name, "order"), count)
    labels = (order % len(CLASS_NAMES)).astype("int32")
    return _draw(name, labels, seed, INPUT_SHAPE[0], 0), labels


def _draw(part: str, letters: npt.ArrayLike, seed: int, size: int, first: int) -> npt.NDArray[np.uint8]:
    letters = _checked_letters(letters)
    check_positive(size=size)
    if size < _SMALLEST_SIZE:
        raise CourseError(f"size is {size}; give at least {_SMALLEST_SIZE} pixels")
    most = 2**31 // -(-size * size // 2)  # beyond it the counters of the noise would repeat
    if isinstance(first, bool) or not isinstance(first, Integral) or not 0 <= first <= most - len(letters):
        raise CourseError(f"first is {first!r}; give a whole number from 0 to {most - len(letters):,}")
    step = max(1, _CHUNK_PIXELS // (size * size))

    def chunk(start: int) -> npt.NDArray[np.uint8]:
        some = letters[start : start + step]
        dice = _Dice(seed, part, int(first) + start, len(some))
        return _render(_draw_shapes(some, dice), _draw_look(dice), dice.noise(size), size)

    with ThreadPoolExecutor(select.processors()) as pool:  # NumPy releases the interpreter's lock while it computes
        return np.concatenate(list(pool.map(chunk, range(0, len(letters), step))))


def _checked_letters(letters: npt.ArrayLike) -> npt.NDArray[np.int64]:
    array = np.asarray(letters)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise CourseError(f"letters is {array.dtype} {array.shape}; give (n,) whole numbers from 0 to 23, n from 1 up")
    unknown = array[(array < 0) | (array >= len(CLASS_NAMES))]
    if len(unknown):
        raise CourseError(f"letters has {unknown[0]}; give whole numbers from 0 (A) to 23 (Y)")
    return array.astype(np.int64)


class _Dice:
    """Draws the random numbers of ``count`` pictures from number ``first`` on; each name is a separate stream."""

    def __init__(self, seed: int, part: str, first: int, count: int) -> None:
        self._path = (seed, "hands", part)
        self._first = first
        self._count = count

    def uniform(self, name: str, *columns: int) -> Array:
        return self._in_rows(randomness.uniform, name, columns)

    def normal(self, name: str, *columns: int) -> Array:
        return self._in_rows(randomness.normal, name, columns)

    def noise(self, size: int) -> Pixels:
        """Draws nearly normal numbers (n, size, size) of standard deviation 1, each the sum of four random bytes."""
        key = randomness.stream_key(*self._path, "noise")
        bits = randomness.random_bits(key, (self._count, size * size), first_row=self._first)
        total = bits.view(np.uint8).reshape(self._count, size, size, 4).sum(-1, dtype=np.int32)
        return (total - 510).astype(np.float32) / np.float32(2 * np.sqrt((256**2 - 1) / 12))

    def _in_rows(self, distribution: Callable[..., Any], name: str, columns: tuple[int, ...]) -> Array:
        # A row holds all numbers of one picture: they must not depend on the pictures before it.
        shape = (self._count, math.prod(columns))
        draws = distribution(randomness.stream_key(*self._path, name), shape, first_row=self._first)
        return draws.astype("float64").reshape(self._count, *columns)


def _draw_shapes(letters: npt.NDArray[np.int64], dice: _Dice) -> _Shapes:
    number = _FIRST_POSES[letters] + (dice.uniform("pose", 1)[:, 0] * _POSE_COUNTS[letters]).astype(int)
    pose = _Shapes(*(field[number] for field in _ALL_POSES))
    together = dice.normal("bends of the hand", 1, 4) * (5, 5, 4, 1.5)
    alone = dice.normal("bends of the fingers", 4, 4) * (4, 5, 4, 2)
    turn = dice.normal("turn", 3) * (9, 11, 7)
    return _Shapes(
        bends=pose.bends + together + alone,
        thumb=_unit(pose.thumb) + 0.08 * dice.normal("thumb", 3, 3),
        fingers_to=_turned(_unit(pose.fingers_to), turn),
        palm_to=_turned(_unit(pose.palm_to), turn),
        arm_to=_unit(pose.arm_to) + 0.12 * dice.normal("arm", 3),
        place=pose.place / 100 + (2 * dice.uniform("place", 3) - 1) * (0.1, 0.06, 0.06),
    )


def _draw_look(dice: _Dice) -> SimpleNamespace:
    """Draws the numbers of ``_RANGES``, each (n,)."""
    low, high = np.array(list(_RANGES.values())).T
    return SimpleNamespace(**dict(zip(_RANGES, (low + (high - low) * dice.uniform("look", len(low))).T, strict=True)))


def _render(shapes: _Shapes, look: SimpleNamespace, noise: Pixels, size: int) -> npt.NDArray[np.uint8]:
    starts, ends = _skeleton(shapes, look)
    scale, starts, ends = _in_picture(starts, ends, shapes.place, size * _SAMPLES)
    thickness = (scale * look.thickness)[:, np.newaxis]
    blend_radii = scale[:, np.newaxis] * _BLEND_RADII
    depth, right, below, is_sleeve = _surface(
        starts, ends, thickness * _START_RADII, thickness * _END_RADII, blend_radii, size * _SAMPLES
    )
    is_hand = depth > _NOWHERE
    near = np.sqrt(np.maximum(1 - right * right - below * below, 0))
    angle = np.deg2rad(look.light_from)
    source = _unit(np.stack([np.cos(angle), -np.sin(angle), look.light_height], -1))
    light = right * _per_picture(source[:, 0]) + below * _per_picture(source[:, 1]) + near * _per_picture(source[:, 2])
    light = np.maximum(light + _LIGHT_WRAP, 0) * _per_picture((1.15 - look.light_everywhere) / (1 + _LIGHT_WRAP))
    light += _per_picture(look.light_everywhere) * (near + 1) * _HALF
    light *= np.where(is_sleeve, _per_picture(look.sleeve_tone), _per_picture(look.skin_tone)) * is_hand
    cover = _shrunk(is_hand.astype(np.float32))
    light = _shrunk(light) * _ambient_light(_shrunk(np.where(is_hand, depth, 0)), cover, scale)
    picture = _blurred(light + (1 - cover) * _background(look, size), look.blur)
    picture = (picture - _MIDDLE) * _per_picture(look.contrast) + _per_picture(_MIDDLE + look.brightness)
    levels = np.rint(255 * picture + noise * _per_picture(look.noise))
    return np.clip(levels, 0, 255).astype(np.uint8)[..., np.newaxis]


def _skeleton(shapes: _Shapes, look: SimpleNamespace) -> tuple[Array, Array]:
    """Computes the two ends of each bone, both (n, 24, 3), in centimeters: right, up, toward the viewer."""
    n = len(look.palm_width)
    ones = np.ones(n)
    width = np.stack([look.palm_width, ones, ones], -1)[:, np.newaxis]
    length = look.finger_length[:, np.newaxis, np.newaxis]
    bend, lean = np.cumsum(np.deg2rad(shapes.bends[..., :3]), -1), np.deg2rad(shapes.bends[..., 3:])
    toward = np.stack([np.cos(bend) * np.sin(lean), np.cos(bend) * np.cos(lean), np.sin(bend)], -1)  # (n, 4, 3, 3)
    knuckles = width * _KNUCKLES
    fingers = _chained(knuckles, toward * (length * _FINGER_BONES)[..., np.newaxis])  # (n, 4, 4, 3)
    thumb = _chained(_THUMB_BASE * width[:, 0], _unit(shapes.thumb) * (np.sqrt(length) * _THUMB_BONES[:, np.newaxis]))
    heel = width * _HEEL
    web = np.stack([0.75 * thumb[:, 1] + 0.25 * _THUMB_BASE, 0.55 * knuckles[:, 0] + 0.45 * _WEB_END], 1)
    starts = [width * _WRIST_ENDS, fingers[:, :, :-1].reshape(n, 12, 3), thumb[:, :-1], heel[:, :1], web[:, :1]]
    ends = [knuckles, fingers[:, :, 1:].reshape(n, 12, 3), thumb[:, 1:], heel[:, 1:], web[:, 1:]]

    y = _unit(shapes.fingers_to)
    z = _unit(shapes.palm_to - (shapes.palm_to * y).sum(-1, keepdims=True) * y)
    axes = np.stack([np.cross(y, z), y, z], 1)  # (n, axis of the hand, axis of the picture)
    arm = _unit(shapes.arm_to)
    arm_starts = 0.9 * axes[:, 1:2] + _ARM_ENDS[:, np.newaxis] * axes[:, :1]
    arm_starts[:, 2] += look.sleeve[:, np.newaxis] * arm
    arm_ends = arm_starts + _ARM_LENGTH * arm[:, np.newaxis]
    in_picture = [np.concatenate([*(point @ axes for point in points)], 1) for points in (starts, ends)]
    return np.concatenate([in_picture[0], arm_starts], 1), np.concatenate([in_picture[1], arm_ends], 1)


def _chained(root: Array, bones: Array) -> Array:
    """Computes the k + 1 joints of a chain of bones (..., k, 3) that starts at the root (..., 3)."""
    root = root[..., np.newaxis, :]
    return np.concatenate([root, root + np.cumsum(bones, -2)], -2)


def _in_picture(starts: Array, ends: Array, place: Array, grid: int) -> tuple[Array, Array, Array]:
    """Scales and shifts the hands to their places; returns pixels per centimeter (n,) and the ends in pixels."""
    hand = np.concatenate([starts[:, :_OF_THE_HAND, :2], ends[:, :_OF_THE_HAND, :2]], 1)
    low, high = hand.min(1), hand.max(1)
    # A fist is nearer to the camera than an open hand, but does not fill the picture as much.
    scale = place[:, 0] * grid / ((high - low).max(1) + 1.5) ** 0.7 / 18**0.3
    flat = np.zeros((len(low), 1))
    middle = np.concatenate([(low + high) / 2, flat], -1)[:, np.newaxis]
    center = grid * np.concatenate([0.5 + place[:, 1:] * (1, -1), flat], -1)[:, np.newaxis]
    zoom = scale[:, np.newaxis, np.newaxis] * (1, -1, 1)  # rows count downwards
    return scale, (starts - middle) * zoom + center, (ends - middle) * zoom + center


def _surface(
    starts: Array, ends: Array, start_radii: Array, end_radii: Array, blend_radii: Array, grid: int
) -> tuple[Pixels, Pixels, Pixels, npt.NDArray[np.bool_]]:
    """Renders the visible surface of capsules; all lengths are in pixels.

    Two surfaces that are nearer to each other than the blend radius are mixed. The k-th capsules of all pictures are
    drawn together, each in a window of its own; all windows are as large as the largest one. Returns for each pixel,
    (n, grid, grid), its depth, how far the surface faces right and down there, and whether it belongs to the last
    capsule.
    """
    n, count = start_radii.shape
    seen = np.zeros((n * grid * grid, 3), np.float32)
    seen[:, 0] = _NOWHERE
    is_last = np.zeros(n * grid * grid, bool)
    offset = (np.arange(n, dtype=np.int32) * (grid * grid))[:, np.newaxis, np.newaxis]
    reach = np.maximum(start_radii, end_radii)[..., np.newaxis]
    low = np.clip(np.floor(np.minimum(starts, ends)[..., :2] - reach), 0, grid).astype(np.int32)
    high = np.clip(np.ceil(np.maximum(starts, ends)[..., :2] + reach), 0, grid).astype(np.int32)
    for k in range(count):
        width, height = (high[:, k] - low[:, k]).max(0)
        column = np.minimum(low[:, k, :1], grid - width)[:, np.newaxis] + np.arange(width, dtype=np.int32)
        row = np.minimum(low[:, k, 1:], grid - height)[:, np.newaxis] + np.arange(height, dtype=np.int32)[:, np.newaxis]
        start, bone = starts[:, k], ends[:, k] - starts[:, k]
        first_radius, last_radius = start_radii[:, k], end_radii[:, k]
        x = column + np.float32(0.5) - _per_picture(start[:, 0])  # (n, 1, width)
        y = row + np.float32(0.5) - _per_picture(start[:, 1])  # (n, height, 1)

        # the place along the bone of the ball whose surface is nearest to the viewer; exact for a constant radius
        length2 = np.maximum(bone[:, 0] ** 2 + bone[:, 1] ** 2, 1e-6)  # as seen
        along = x * _per_picture(bone[:, 0] / length2) + y * _per_picture(bone[:, 1] / length2)
        inner = along * along * _per_picture(length2)
        inner -= x * x
        inner -= y * y
        inner += _per_picture(((first_radius + last_radius) / 2) ** 2)
        np.sqrt(np.maximum(inner, 0, out=inner), out=inner)
        inner *= _per_picture(bone[:, 2] / np.sqrt(length2 * (length2 + bone[:, 2] ** 2)))
        along += inner
        np.clip(along, 0, 1, out=along)

        radius = along * _per_picture(last_radius - first_radius) + _per_picture(first_radius)
        right = x - along * _per_picture(bone[:, 0])
        below = y - along * _per_picture(bone[:, 1])
        near2 = radius * radius
        near2 -= right * right
        near2 -= below * below
        hit = np.flatnonzero(near2 > 0)
        place = (offset + row * grid + column).ravel()[hit]
        radius = radius.ravel()[hit]
        depth = (along * _per_picture(bone[:, 2]) + _per_picture(start[:, 2])).ravel()[hit]
        depth += np.sqrt(near2.ravel()[hit])
        before = np.take(seen, place, axis=0)
        softness = np.repeat(blend_radii[:, k].astype(np.float32), width * height)[hit]
        share = np.clip((depth - before[:, 0]) / (2 * softness) + _HALF, 0, 1)
        facing = right.ravel()[hit] / radius, below.ravel()[hit] / radius
        found = np.stack([depth + softness * (1 - share), *facing], axis=-1)
        seen[place] = before * (1 - share)[:, np.newaxis] + found * share[:, np.newaxis]
        if k == count - 1:
            is_last[place] = share > _HALF
    maps = seen.reshape(n, grid, grid, 3)
    return maps[..., 0], maps[..., 1], maps[..., 2], is_last.reshape(n, grid, grid)


def _ambient_light(depth: Pixels, cover: Pixels, scale: Array) -> Pixels:
    """Computes the share of ambient light at each pixel, which is smaller where it is deeper than its surroundings."""
    own = depth / np.maximum(cover, _TINY)
    share = np.ones_like(depth)
    for part in (14, 6):
        radius = max(depth.shape[1] // part, 1)
        around = _box_mean(depth, radius) / np.maximum(_box_mean(cover, radius), _TINY)
        share -= np.float32(0.55) * np.clip((around - own) / _per_picture(2.5 * scale), 0, 1)
    return np.maximum(share, 0)


def _background(look: SimpleNamespace, size: int) -> Pixels:
    x = (np.arange(size, dtype=np.float32) + _HALF) * np.float32(2 / size) - 1
    y = x[:, np.newaxis]
    wall = _per_picture(look.wall_tone) + _per_picture(look.wall_right) * x + _per_picture(look.wall_below) * y
    open_share = np.clip((x - _per_picture(look.curtain)) / _per_picture(2 * look.curtain_softness) + _HALF, 0, 1)
    wall = wall * (_per_picture(look.curtain_tone) * (1 - open_share) + open_share)
    is_table = y + _per_picture(look.table_tilt) * x > _per_picture(look.table)
    wall = np.where(is_table, wall * _per_picture(look.table_tone), wall)
    at = np.deg2rad(look.stain_at)
    right = x - _per_picture(look.stain_distance * np.cos(at))
    below = y - _per_picture(look.stain_distance * np.sin(at))
    stain = np.clip((_per_picture(look.stain_radius) - np.sqrt(right * right + below * below)) * 8, 0, 1)
    return wall * (1 - stain * _per_picture(1 - look.stain_tone))


def _blurred(pictures: Pixels, amount: Array) -> Pixels:
    """Mixes each pixel with its four neighbors, each with this weight; the edges are repeated beyond the picture."""
    share = _per_picture(amount)
    padded = np.pad(pictures, ((0, 0), (1, 1), (0, 0)), mode="edge")
    pictures = pictures * (1 - 2 * share) + (padded[:, 2:] + padded[:, :-2]) * share
    padded = np.pad(pictures, ((0, 0), (0, 0), (1, 1)), mode="edge")
    return pictures * (1 - 2 * share) + (padded[:, :, 2:] + padded[:, :, :-2]) * share


def _box_mean(pictures: Pixels, radius: int) -> Pixels:
    """Computes the mean of a square of 2 radius + 1 pixels around each pixel; beyond the edges it is 0."""
    size, share = pictures.shape[1], np.float32(1 / (2 * radius + 1) ** 2)
    padded = np.pad(pictures, ((0, 0), (radius + 1, radius), (radius + 1, radius)))
    sums = np.cumsum(np.cumsum(padded, 1), 2)
    rows = sums[:, -size:] - sums[:, :size]
    return (rows[:, :, -size:] - rows[:, :, :size]) * share


def _shrunk(pictures: Pixels) -> Pixels:
    """Averages squares of 2 by 2 pixels."""
    pairs = pictures[:, ::2] + pictures[:, 1::2]
    return (pairs[:, :, ::2] + pairs[:, :, 1::2]) * np.float32(0.25)


def _turned(vectors: Array, angles: Array) -> Array:
    """Turns vectors (n, 3) by angles (n, 3), in degrees, about the first axis, then the second, then the third."""
    cos, sin = np.cos(np.deg2rad(angles)), np.sin(np.deg2rad(angles))
    parts = list(vectors.T)
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        one, two, c, s = parts[i], parts[j], cos[:, axis], sin[:, axis]
        parts[i], parts[j] = one * c - two * s, one * s + two * c
    return np.stack(parts, -1)


def _unit(vectors: Array) -> Array:
    return vectors / np.sqrt((vectors * vectors).sum(-1, keepdims=True))


def _per_picture(values: npt.ArrayLike) -> Pixels:
    """Reshapes one number per picture so that it broadcasts over the pixels."""
    return np.asarray(values, np.float32)[:, np.newaxis, np.newaxis]


_LIGHT_WRAP: Final = np.float32(0.3)  # how far light reaches around the corner
_HALF: Final = np.float32(0.5)
_TINY: Final = np.float32(1e-3)
_MIDDLE: Final = np.float32(0.55)  # the gray around which contrast is raised

_POSE_COUNTS: Final = np.array([len(_POSES[name]) for name in CLASS_NAMES])
_FIRST_POSES: Final = np.cumsum(_POSE_COUNTS) - _POSE_COUNTS
_ALL_POSES: Final = _Shapes(
    *(np.array([pose[field] for name in CLASS_NAMES for pose in _POSES[name]], "float64") for field in _Shapes._fields)
)
