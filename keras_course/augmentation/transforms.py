"""The random transforms: each says how many uniform numbers it needs and what it does with them.

A transform is a small description, such as ``Rotation(15)``. The same code runs in NumPy and in ``keras.ops``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from keras_course._backend.libraries import cast
from keras_course.arguments import angles, as_tuple, is_number, number, rising, shown, switch
from keras_course.augmentation.geometry import Map
from keras_course.errors import CourseError

Line = tuple[Any, Any, Any]
"""A color change for each picture, gain·v + share·mean + offset: three arrays (batch,)."""

ABOVE_0 = np.finfo("float32").tiny.item()
"""The least valid value of an argument that must be above 0."""

_ADDED_LATER = {"later": True}
"""Marks a field of a later version. ``describe`` omits it while it has its default, so that older runs resume."""


@dataclass(frozen=True)
class Transform:
    """The base class of all transforms.

    ``draws`` is the number of uniform random numbers per picture that a transform needs. It gets them as ``u``, a list
    of arrays (batch,) with values from 0 up to but not including 1.
    """

    draws: ClassVar[int] = 0

    def describe(self) -> dict[str, Any]:
        """Returns the name of the transform as ``kind``, and its arguments."""
        arguments = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if not (one.metadata.get("later") and value == one.default):
                arguments[one.metadata.get("saved_name", one.name)] = value
        return {"kind": type(self).__name__, **arguments}

    @classmethod
    def from_description(cls, arguments: Mapping[str, Any]) -> "Transform":
        """Returns the transform of the arguments in ``describe``."""
        names = {one.metadata.get("saved_name", one.name): one.name for one in fields(cls)}
        return cls(**{names.get(name, name): value for name, value in arguments.items()})

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


class Geometry(Transform):
    """A transform that moves pixels."""

    def map(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Map:
        """Returns the map of each picture."""
        raise NotImplementedError


class Color(Transform):
    """A transform that changes the values of all pixels of a picture in the same way."""

    def line(self, u: Sequence[Any], xp: ModuleType) -> Line:
        """Returns the change of each picture."""
        raise NotImplementedError


@dataclass(frozen=True)
class Rotation(Geometry):
    """Rotates a picture about its center by a uniformly drawn angle.

    Args:
        degrees: The largest angle to either side, or the least and the greatest angle; positive angles rotate
            counterclockwise.

    Example:
        >>> Rotation(15)
        Rotation(degrees=15)
    """

    degrees: float | tuple[float, float]
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self._set(degrees=angles("degrees", self.degrees, 360))

    def map(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Map:
        """Returns the inverse rotation by the drawn angle."""
        angle = _between(u[0], *np.radians(_limits(self.degrees, 0)))
        cos, sin = xp.cos(angle), xp.sin(angle)
        return cos, -sin, 0.0, sin, cos, 0.0


@dataclass(frozen=True)
class Shift(Geometry):
    """Shifts a picture.

    Args:
        height: The largest shift up or down, drawn uniformly; or a tuple of shifts, one of which is drawn, with a
            random sign.
        width: The largest shift to the left or right, or a tuple of shifts, drawn in the same way.
        unit: "fraction" of the height and of the width, or "pixels".
        whole: Whether shifts are rounded to whole pixels.

    Example:
        >>> Shift(height=0.1, width=0.1)
        Shift(height=0.1, width=0.1, unit='fraction', whole=False)
        >>> Shift(width=(2, 4), unit="pixels").width
        (2, 4)
    """

    height: float | tuple[float, ...] = 0.0
    width: float | tuple[float, ...] = 0.0
    unit: str = field(default="fraction", metadata=_ADDED_LATER)
    whole: bool = field(default=False, metadata=_ADDED_LATER)
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not (isinstance(self.unit, str) and self.unit in ("fraction", "pixels")):
            raise CourseError(f"unit is {shown(self.unit)}; give 'fraction' or 'pixels'")
        most = 1.0 if self.unit == "fraction" else math.inf
        remedy = "a fraction from 0 to 1, or a tuple of them" if most == 1 else "a number from 0 up, or a tuple of them"
        for name in ("height", "width"):
            value = getattr(self, name)
            ways = as_tuple(value)
            if ways is None:
                self._set(**{name: number(name, value, 0, most, remedy)})
            elif ways and all(is_number(way) and -most <= way <= most for way in ways):
                self._set(**{name: ways})
            else:
                raise CourseError(f"{name} is {shown(value)}; give {remedy}")
        self._set(whole=switch("whole", self.whole))

    def map(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Map:
        """Returns the inverse shift, drawn for each axis."""
        right = self._shift_in_pixels(u[0], self.width, width, xp)
        down = self._shift_in_pixels(u[1], self.height, height, xp)
        return 1.0, 0.0, -right, 0.0, 1.0, -down

    def _shift_in_pixels(self, u: Any, way: float | tuple[float, ...], size: int, xp: ModuleType) -> Any:
        """Returns the shift along one axis, in pixels."""
        scale = size if self.unit == "fraction" else 1
        if isinstance(way, tuple):
            table = np.asarray([*way, *(-value for value in way)], "float32") * np.float32(scale)
            place = xp.minimum(xp.floor(u * np.float32(len(table))), len(table) - 1.0)
            table = table if xp is np else xp.convert_to_tensor(table)
            pixels = xp.take(table, cast(place, "int32", xp), axis=0)
        else:
            pixels = _between(u, -way * scale, way * scale)
        return xp.round(pixels) if self.whole else pixels


@dataclass(frozen=True)
class Zoom(Geometry):
    """Scales a picture about its center by a uniformly drawn factor.

    Args:
        low: The smallest factor; 0.8 shows the picture at 80 % of its size.
        high: The largest factor.
        keep_ratio: Whether height and width have the same factor.
        inverse: Whether the inverse of the factor is drawn uniformly in place of the factor.

    Example:
        >>> Zoom(0.9, 1.1)
        Zoom(low=0.9, high=1.1, keep_ratio=True, inverse=False)
    """

    low: float
    high: float
    keep_ratio: bool = True
    inverse: bool = field(default=False, metadata=_ADDED_LATER)
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        high = number("high", self.high, ABOVE_0, math.inf, "a factor above 0")
        low = number("low", self.low, ABOVE_0, high, f"a factor above 0 and up to high, {high}")
        switches = {name: switch(name, getattr(self, name)) for name in ("keep_ratio", "inverse")}
        self._set(low=low, high=high, **switches)

    def map(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Map:
        """Returns the inverse scaling by the drawn factors."""
        low, high = (1 / self.high, 1 / self.low) if self.inverse else (self.low, self.high)
        across = _between(u[0], low, high)
        down = across if self.keep_ratio else _between(u[1], low, high)
        return (across, 0.0, 0.0, 0.0, down, 0.0) if self.inverse else (1.0 / across, 0.0, 0.0, 0.0, 1.0 / down, 0.0)


@dataclass(frozen=True)
class Shear(Geometry):
    """Shears a picture by a uniformly drawn angle: rows are shifted in proportion to their distance from the center.

    Args:
        degrees: The largest angle between a sheared column and an upright one to either side, or the least and the
            greatest angle; positive angles shift the lower half to the right.
        keep_height: Whether rows keep their height. Otherwise columns keep their length, and the picture is lower.

    Example:
        >>> Shear(10)
        Shear(degrees=10, keep_height=True)
    """

    degrees: float | tuple[float, float]
    keep_height: bool = field(default=True, metadata=_ADDED_LATER)
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self._set(degrees=angles("degrees", self.degrees, 89), keep_height=switch("keep_height", self.keep_height))

    def map(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Map:
        """Returns the inverse shear by the drawn angle."""
        angle = _between(u[0], *np.radians(_limits(self.degrees, 0)))
        if self.keep_height:
            return 1.0, -xp.tan(angle), 0.0, 0.0, 1.0, 0.0
        return 1.0, -xp.sin(angle), 0.0, 0.0, xp.cos(angle), 0.0


@dataclass(frozen=True)
class Flip(Geometry):
    """Flips a picture.

    Args:
        horizontal: Probability of a flip between left and right; True is 0.5.
        vertical: Probability of a flip between top and bottom; True is 0.5.

    Example:
        >>> Flip(horizontal=True)
        Flip(horizontal=0.5, vertical=0.0)
    """

    horizontal: float = 0.0
    vertical: float = 0.0
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        for name in ("horizontal", "vertical"):
            value = getattr(self, name)
            if isinstance(value, bool | np.bool_):
                probability = 0.5 if value else 0.0
            else:
                probability = float(number(name, value, 0, 1, "a probability from 0 to 1, or True"))
            self._set(**{name: probability})

    def map(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Map:
        """Returns the drawn sign of each axis."""
        across = xp.where(u[0] < self.horizontal, np.float32(-1.0), np.float32(1.0)) if self.horizontal else 1.0
        down = xp.where(u[1] < self.vertical, np.float32(-1.0), np.float32(1.0)) if self.vertical else 1.0
        return across, 0.0, 0.0, 0.0, down, 0.0


@dataclass(frozen=True)
class Crop(Geometry):
    """Crops a random part of a picture and resizes it to the size of the picture.

    Args:
        scale: The smallest and the largest share of the area, drawn uniformly.
        ratio: The least and the greatest ratio of width to height of the part, relative to that of the picture; its
            logarithm is drawn uniformly. A part that is too wide or too high is limited to the picture.

    Example:
        >>> Crop(scale=(0.5, 1.0))
        Crop(scale=(0.5, 1.0), ratio=(0.75, 1.3333333333333333))

    Source: Szegedy et al., "Going deeper with convolutions", 2015.
    """

    scale: tuple[float, float] = (0.8, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    draws: ClassVar[int] = 4

    def __post_init__(self) -> None:
        self._set(**_shares_and_ratios(self.scale, self.ratio))

    def map(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Map:
        """Returns the part, as a scale and the place of its center."""
        area = _between(u[0], *self.scale)
        ratio = xp.exp(_between(u[1], *np.log(self.ratio)))
        across = xp.minimum(xp.sqrt(area * ratio), 1.0)
        down = xp.minimum(xp.sqrt(area / ratio), 1.0)
        right = (1.0 - across) * (u[2] - 0.5) * width
        below = (1.0 - down) * (u[3] - 0.5) * height
        return across, 0.0, right, 0.0, down, below


@dataclass(frozen=True)
class ResizedCrop(Crop):
    """Crops a random part of whole pixels and resizes it to the size of the picture, as torchvision does.

    Area and ratio are drawn up to ten times until a part fits. If none fits, the largest central part with a ratio
    within the limits is used.

    Args:
        scale: The smallest and the largest share of the area, drawn uniformly.
        ratio: The least and the greatest ratio of width to height in pixels; its logarithm is drawn uniformly.

    Example:
        >>> ResizedCrop(scale=(0.5, 1.0)).scale
        (0.5, 1.0)

    Source: torchvision's RandomResizedCrop. At the edges of a part, bilinear resampling uses the neighboring pixels of
    the picture, where torchvision repeats the last pixel of the part.
    """

    draws: ClassVar[int] = 22

    def map(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Map:
        """Returns the part, as a scale and the place of its center."""
        least, greatest = self.ratio
        across, down = float(width), float(height)
        if width / height < least:
            down = float(round(width / least))
        elif width / height > greatest:
            across = float(round(height * greatest))
        left, above = (width - across) // 2, (height - down) // 2
        for area, ratio in reversed([*zip(u[:20:2], u[1:20:2], strict=True)]):  # so that the first fitting draw wins
            pixels = _between(area, *self.scale) * np.float32(height * width)
            ratio = xp.exp(_between(ratio, *np.log(self.ratio)))
            columns = xp.round(xp.sqrt(pixels * ratio))
            rows = xp.round(xp.sqrt(pixels / ratio))
            is_part = xp.logical_and(xp.minimum(columns, rows) > 0.5, columns < width + 0.5)
            fits = xp.logical_and(is_part, rows < height + 0.5)
            free_columns, free_rows = width - columns, height - rows
            # each possible place is equally likely
            column = xp.minimum(xp.floor(u[20] * (free_columns + 1.0)), free_columns)
            row = xp.minimum(xp.floor(u[21] * (free_rows + 1.0)), free_rows)
            across, down = xp.where(fits, columns, across), xp.where(fits, rows, down)
            left, above = xp.where(fits, column, left), xp.where(fits, row, above)
        return across / width, 0.0, left + (across - width) / 2, 0.0, down / height, above + (down - height) / 2


@dataclass(frozen=True)
class Brightness(Color):
    """Multiplies all pixels of a picture by one uniformly drawn factor.

    Args:
        change: The factor is drawn from 1 - change to 1 + change; or a pair, the least and the greatest factor.

    Example:
        >>> Brightness(0.2)
        Brightness(change=0.2)
        >>> Brightness((0.5, 1.0)).change
        (0.5, 1.0)
    """

    change: float | tuple[float, float]
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self._set(change=_read_change(self.change))

    def line(self, u: Sequence[Any], xp: ModuleType) -> Line:
        """Returns the drawn factor."""
        return _between(u[0], *_limits(self.change, 1)), 0.0, 0.0


@dataclass(frozen=True)
class Contrast(Color):
    """Multiplies the differences of all pixels from the mean of the picture by one uniformly drawn factor.

    Args:
        change: The factor is drawn from 1 - change to 1 + change; or a pair, the least and the greatest factor.
        gray: Whether the mean is that of the gray picture, with weights of 30, 59 and 11 % for red, green and blue.
            Otherwise all channels have the same weight.

    Example:
        >>> Contrast(0.2)
        Contrast(change=0.2, gray=False)
    """

    change: float | tuple[float, float]
    gray: bool = field(default=False, metadata=_ADDED_LATER | {"saved_name": "grey"})
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self._set(change=_read_change(self.change), gray=switch("gray", self.gray))

    def line(self, u: Sequence[Any], xp: ModuleType) -> Line:
        """Returns the drawn factor, and the share of the mean."""
        factor = _between(u[0], *_limits(self.change, 1))
        return factor, 1.0 - factor, 0.0


@dataclass(frozen=True)
class Light(Transform):
    """Lights a picture from one side: multiplies it by a factor that rises linearly across the picture.

    Unlike ``Brightness`` it also changes the relation between bright and dark regions.

    Args:
        change: The largest slope. The direction is drawn uniformly, and the slope from 0 to change; along an axis the
            factor runs from 1 - slope at one edge to 1 + slope at the other.

    Example:
        >>> Light(0.5)
        Light(change=0.5)
    """

    change: float
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        self._set(change=number("change", self.change, 0, 1, "a fraction from 0 to 1"))

    def plane(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Any:
        """Returns the factor of each pixel, (batch, height, width, 1): 1 in the middle and never below 0."""
        angle, slope = np.float32(2 * np.pi) * u[0], np.float32(self.change) * u[1]
        across = np.linspace(-1, 1, width, dtype="float32")[None, None, :, None]
        down = np.linspace(-1, 1, height, dtype="float32")[None, :, None, None]
        if xp is not np:
            across, down = xp.convert_to_tensor(across), xp.convert_to_tensor(down)
        right, below = over_pixels(slope * xp.cos(angle)), over_pixels(slope * xp.sin(angle))
        return xp.maximum(1.0 + right * across + below * down, 0.0)


@dataclass(frozen=True)
class Noise(Transform):
    """Adds normally distributed noise to each value of each pixel.

    Args:
        deviation: Standard deviation, as a fraction of the value range.

    Example:
        >>> Noise(0.05)
        Noise(deviation=0.05)
    """

    deviation: float

    def __post_init__(self) -> None:
        self._set(deviation=number("deviation", self.deviation, 0, 1, "a fraction from 0 to 1"))


@dataclass(frozen=True)
class Erasing(Transform):
    """Fills a random rectangle of a picture with one value.

    Args:
        probability: Probability that a picture gets a rectangle.
        scale: The smallest and the largest share of the area, drawn uniformly.
        ratio: The least and the greatest ratio of width to height, relative to that of the picture.
        value: Value of the pixels in the rectangle, within the value range.

    Example:
        >>> Erasing(0.5).scale
        (0.02, 0.2)

    Source: Zhong et al., "Random erasing data augmentation", 2020.
    """

    probability: float = 0.5
    scale: tuple[float, float] = (0.02, 0.2)
    ratio: tuple[float, float] = (1 / 3, 3.0)
    value: float = 0.0
    draws: ClassVar[int] = 5

    def __post_init__(self) -> None:
        probability = number("probability", self.probability, 0, 1, "a number from 0 to 1")
        value = number("value", self.value, -math.inf, math.inf, "a number")
        self._set(probability=probability, value=value, **_shares_and_ratios(self.scale, self.ratio))

    def box(self, u: Sequence[Any], xp: ModuleType) -> tuple[Any, Any, Any, Any]:
        """Returns center and half size of each rectangle, x, y, across, down, as fractions; some are empty."""
        area = _between(u[0], *self.scale)
        ratio = xp.exp(_between(u[1], *np.log(self.ratio)))
        across = xp.minimum(xp.sqrt(area * ratio), 1.0) / 2
        down = xp.minimum(xp.sqrt(area / ratio), 1.0) / 2
        hit = xp.where(u[4] < self.probability, 1.0, 0.0)
        return across + (1 - 2 * across) * u[2], down + (1 - 2 * down) * u[3], across * hit, down * hit


@dataclass(frozen=True)
class MixUp(Transform):
    """Blends each picture with the next one in the batch, and their labels with the same weights.

    The weight of the neighbor is the smaller of λ and 1 - λ with λ from Beta(alpha, alpha).

    Args:
        alpha: Parameter of the Beta distribution, above 0; small values give weights near 0.

    Example:
        >>> MixUp(0.2)
        MixUp(alpha=0.2)

    Source: Zhang et al., "mixup: beyond empirical risk minimization", 2018.
    """

    alpha: float = 0.2
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self._set(alpha=number("alpha", self.alpha, ABOVE_0, 100, "a number above 0 and up to 100"))

    def share(self, u: Sequence[Any], xp: ModuleType) -> Any:
        """Returns the weight of the neighbor, from 0 to 0.5."""
        table = np.asarray(_small_beta_quantiles(self.alpha), "float32")
        place = u[0] * np.float32(len(table) - 1)
        below = xp.floor(place)
        index = cast(below, "int32", xp)
        table = table if xp is np else xp.convert_to_tensor(table)
        low, high = xp.take(table, index, axis=0), xp.take(table, index + 1, axis=0)
        return low + (place - below) * (high - low)


@dataclass(frozen=True)
class CutMix(MixUp):
    """Replaces a rectangle of each picture by that of the next one in the batch, and mixes the labels by area.

    Args:
        alpha: Parameter of the Beta distribution of the area, above 0; see ``MixUp``.

    Example:
        >>> CutMix(1.0)
        CutMix(alpha=1.0)

    Source: Yun et al., "CutMix: regularization strategy to train strong classifiers", 2019.
    """

    alpha: float = 1.0
    draws: ClassVar[int] = 3


_GEOMETRY = (Rotation, Shift, Zoom, Shear, Flip, Crop, ResizedCrop)
_VALUES = (Brightness, Contrast, Light, Noise, Erasing, MixUp, CutMix)
TRANSFORMS = {kind.__name__: kind for kind in (*_GEOMETRY, *_VALUES)}
"""All transforms, by name."""


def over_pixels(values: Any) -> Any:
    """Reshapes one value per picture so that it broadcasts over the pixels."""
    return values if isinstance(values, float) else values[:, None, None, None]


def _between(u: Any, low: float, high: float) -> Any:
    return np.float32(low) + np.float32(high - low) * u


@cache
def _small_beta_quantiles(alpha: float, points: int = 257) -> tuple[float, ...]:
    """Returns quantiles of the smaller of t and 1 - t for t from Beta(alpha, alpha), at equal steps of probability."""
    # With t = s^(1/alpha), the density t^(alpha-1) (1-t)^(alpha-1) dt is (1-t)^(alpha-1) ds / alpha: smooth in s.
    s = np.linspace(0, 0.5**alpha, 20_001)
    t = s ** (1 / alpha)
    density = (1 - t) ** (alpha - 1)
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return tuple(np.interp(np.linspace(0, cumulative[-1], points), cumulative, t).tolist())


def _read_change(value: Any) -> float | tuple[float, float]:
    """Reads the largest change of a factor, or a pair, the least and the greatest factor."""
    remedy = "a fraction from 0 to 1, or two rising factors from 0 up"
    if as_tuple(value) is None:
        return number("change", value, 0, 1, remedy)
    return rising("change", value, 0, math.inf, remedy)


def _limits(values: float | tuple[float, float], center: float) -> tuple[float, float]:
    """Returns a pair unchanged, and for a single value the limits at that distance from the center."""
    return values if isinstance(values, tuple) else (center - values, center + values)


def _shares_and_ratios(scale: Any, ratio: Any) -> dict[str, tuple[float, float]]:
    """Reads ranges of shares of an area, and of ratios of width to height."""
    return {
        "scale": rising("scale", scale, ABOVE_0, 1, "two rising fractions above 0 and up to 1"),
        "ratio": rising("ratio", ratio, ABOVE_0, math.inf, "two rising numbers above 0"),
    }
