"""Random changes of training pictures: batched, on the device, the same ones on every backend.

Transforms are small descriptions, such as ``Rotation(15)``. An ``Augmentation`` takes a list of them, draws their
numbers for every picture from ``randomness``, and applies them together:

- all geometry is one affine map from the pixels of the result back into the picture, composed of the maps of the
  transforms, and one bilinear resampling. A picture that is turned, moved and scaled is blurred once, not three times;
- all colour is one line a·v + b for each picture, and light from one side a plane over it, in one pass.

What is drawn depends on the seed, the step and the place in the batch, and on nothing else. The same code runs in
NumPy, for a pipeline on the host, and in ``keras.ops``, inside a compiled step or on its own: then XLA compiles it on
TensorFlow and JAX, and PyTorch changes a few pictures at a time.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache, cached_property, partial
from itertools import accumulate
from types import ModuleType
from typing import Any, ClassVar

import keras
import numpy as np

from keras_course import _backend, foreign_arguments, randomness
from keras_course._backend import resampling
from keras_course._backend.libraries import cast
from keras_course.arguments import (
    angles,
    as_tuple,
    check_names,
    is_number,
    number,
    rising,
    shown,
    switch,
    whole_number,
)
from keras_course.errors import CourseError

Map = tuple[Any, Any, Any, Any, Any, Any]
"""An affine map for each picture, x = a·x' + b·y' + c and y = d·x' + e·y' + f, as six arrays (batch,).

It leads from a pixel (x', y') of the result to its place (x, y) in the picture, both counted in pixels from the centre,
x to the right and y down.
"""

Line = tuple[Any, Any, Any]
"""A colour change for each picture, gain·v + share·mean + offset, as three arrays (batch,)."""

IDENTITY: Map = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

_ABOVE_0 = np.finfo("float32").tiny.item()
_GREY = (0.2989, 0.587, 0.114)
"""How bright red, green and blue look: ITU-R BT.601, as torchvision rounds it."""

_LATER = {"later": True}
"""Marks a field of a later version: a description leaves it out while it has its default, so that older runs resume."""


@dataclass(frozen=True)
class Transform:
    """What all transforms have in common.

    ``draws`` says how many uniform numbers a transform needs for each picture; it is handed them as ``u``, a list of
    arrays (batch,), each from 0 up to but not including 1.
    """

    draws: ClassVar[int] = 0

    def describe(self) -> dict[str, Any]:
        """Returns the name of the transform as ``kind``, and its arguments."""
        arguments = asdict(self)
        for one in fields(self):
            if one.metadata.get("later") and arguments[one.name] == one.default:
                del arguments[one.name]
        return {"kind": type(self).__name__, **arguments}

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


class Geometry(Transform):
    """A transform that moves pixels."""

    def map(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Map:
        """Returns the map of each picture."""
        raise NotImplementedError


class Colour(Transform):
    """A transform that changes what the pixels say, all of a picture alike."""

    def line(self, u: Sequence[Any], xp: ModuleType) -> Line:
        """Returns the change of each picture."""
        raise NotImplementedError


@dataclass(frozen=True)
class Rotation(Geometry):
    """Turns a picture about its centre.

    Args:
        degrees: The largest angle, to either side; or the least and the greatest, where angles above 0 turn to the
            left. The drawn one is uniform.

    Example:
        >>> Rotation(15)
        Rotation(degrees=15)
    """

    degrees: float | tuple[float, float]
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self._set(degrees=angles("degrees", self.degrees, 360))

    def map(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Map:
        """Returns the rotation back, by an angle uniform within the limits."""
        angle = _between(u[0], *_either_side(self.degrees))
        cos, sin = xp.cos(angle), xp.sin(angle)
        return cos, -sin, 0.0, sin, cos, 0.0


@dataclass(frozen=True)
class Shift(Geometry):
    """Moves a picture.

    Args:
        height: The largest way up or down, of which the drawn one is uniform; or a tuple of ways, one of which is
            drawn, and either up or down.
        width: The same to the left or right.
        unit: "fraction" of the height and of the width, or "pixels".
        whole: Whether ways are rounded to whole pixels.

    Example:
        >>> Shift(height=0.1, width=0.1)
        Shift(height=0.1, width=0.1, unit='fraction', whole=False)
        >>> Shift(width=(2, 4), unit="pixels").width
        (2, 4)
    """

    height: float | tuple[float, ...] = 0.0
    width: float | tuple[float, ...] = 0.0
    unit: str = field(default="fraction", metadata=_LATER)
    whole: bool = field(default=False, metadata=_LATER)
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
        """Returns the way back, drawn for each axis."""
        right = self._way(u[0], self.width, width, xp)
        down = self._way(u[1], self.height, height, xp)
        return 1.0, 0.0, -right, 0.0, 1.0, -down

    def _way(self, u: Any, way: float | tuple[float, ...], size: int, xp: ModuleType) -> Any:
        """Returns the way along one axis, in pixels."""
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
    """Makes a picture larger or smaller about its centre.

    Args:
        low: The smallest factor; 0.8 shows the picture at 80 % of its size.
        high: The largest factor.
        keep_ratio: Whether height and width have the same factor.
        inverse: Whether one over the factor is uniform, and not the factor.

    Example:
        >>> Zoom(0.9, 1.1)
        Zoom(low=0.9, high=1.1, keep_ratio=True, inverse=False)
    """

    low: float
    high: float
    keep_ratio: bool = True
    inverse: bool = field(default=False, metadata=_LATER)
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        high = number("high", self.high, _ABOVE_0, math.inf, "a factor above 0")
        low = number("low", self.low, _ABOVE_0, high, f"a factor above 0 and up to high, {high}")
        switches = {name: switch(name, getattr(self, name)) for name in ("keep_ratio", "inverse")}
        self._set(low=low, high=high, **switches)

    def map(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Map:
        """Returns the division by factors within the limits."""
        if self.inverse:
            across = _between(u[0], 1 / self.high, 1 / self.low)
            down = across if self.keep_ratio else _between(u[1], 1 / self.high, 1 / self.low)
            return across, 0.0, 0.0, 0.0, down, 0.0
        across = _between(u[0], self.low, self.high)
        down = across if self.keep_ratio else _between(u[1], self.low, self.high)
        return 1.0 / across, 0.0, 0.0, 0.0, 1.0 / down, 0.0


@dataclass(frozen=True)
class Shear(Geometry):
    """Slants a picture: its rows are moved to the side, the more the farther from the centre.

    Args:
        degrees: The largest angle between a slanted column and an upright one, to either side; or the least and the
            greatest, where angles above 0 move what is below the centre to the right. The drawn one is uniform.
        keep_height: Whether rows keep their height. Otherwise columns keep their length, and the picture is lower.

    Example:
        >>> Shear(10)
        Shear(degrees=10, keep_height=True)
    """

    degrees: float | tuple[float, float]
    keep_height: bool = field(default=True, metadata=_LATER)
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self._set(degrees=angles("degrees", self.degrees, 89), keep_height=switch("keep_height", self.keep_height))

    def map(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Map:
        """Returns the shear back, by an angle uniform within the limits."""
        angle = _between(u[0], *_either_side(self.degrees))
        if self.keep_height:
            return 1.0, -xp.tan(angle), 0.0, 0.0, 1.0, 0.0
        return 1.0, -xp.sin(angle), 0.0, 0.0, xp.cos(angle), 0.0


@dataclass(frozen=True)
class Flip(Geometry):
    """Shows a picture in a mirror.

    Args:
        horizontal: How likely left and right change places; True is one half.
        vertical: How likely top and bottom do; True is one half.

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
        """Returns a sign for each axis."""
        across = xp.where(u[0] < self.horizontal, np.float32(-1.0), np.float32(1.0)) if self.horizontal else 1.0
        down = xp.where(u[1] < self.vertical, np.float32(-1.0), np.float32(1.0)) if self.vertical else 1.0
        return across, 0.0, 0.0, 0.0, down, 0.0


@dataclass(frozen=True)
class Crop(Geometry):
    """Cuts out a part of a picture and shows it at the size of the whole.

    Args:
        scale: The smallest and the largest share of the area, of which the drawn one is uniform.
        ratio: The least and the greatest width over height of the part, relative to the picture's; its logarithm is
            uniform. A part that would not fit is made as wide, or as high, as the picture.

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
        """Returns the part, as a scale and the place of its centre."""
        area = _between(u[0], *self.scale)
        ratio = xp.exp(_between(u[1], *np.log(self.ratio)))
        across = xp.minimum(xp.sqrt(area * ratio), 1.0)
        down = xp.minimum(xp.sqrt(area / ratio), 1.0)
        right = (1.0 - across) * (u[2] - 0.5) * width
        below = (1.0 - down) * (u[3] - 0.5) * height
        return across, 0.0, right, 0.0, down, below


@dataclass(frozen=True)
class ResizedCrop(Crop):
    """Cuts out a part of whole pixels and shows it at the size of the picture.

    Area and ratio are drawn up to ten times, until a part fits; then comes the largest part in the middle that has a
    ratio within the limits.

    Args:
        scale: The smallest and the largest share of the area, of which the drawn one is uniform.
        ratio: The least and the greatest width over height of the part, in pixels; its logarithm is uniform.

    Example:
        >>> ResizedCrop(scale=(0.5, 1.0)).scale
        (0.5, 1.0)

    Source: torchvision's RandomResizedCrop. At the edges of a part, its neighbours in the picture are mixed in, where
    torchvision repeats the last pixel of the part.
    """

    draws: ClassVar[int] = 22

    def map(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Map:
        """Returns the part, as a scale and the place of its centre."""
        least, greatest = self.ratio
        across, down = float(width), float(height)
        if width / height < least:
            down = float(round(width / least))
        elif width / height > greatest:
            across = float(round(height * greatest))
        left, above = (width - across) // 2, (height - down) // 2
        for area, ratio in reversed([*zip(u[:20:2], u[1:20:2], strict=True)]):  # the first that fits comes last
            pixels = _between(area, *self.scale) * np.float32(height * width)
            ratio = xp.exp(_between(ratio, *np.log(self.ratio)))
            columns = xp.round(xp.sqrt(pixels * ratio))
            rows = xp.round(xp.sqrt(pixels / ratio))
            is_part = xp.logical_and(xp.minimum(columns, rows) > 0.5, columns < width + 0.5)
            fits = xp.logical_and(is_part, rows < height + 0.5)
            free_columns, free_rows = width - columns, height - rows
            # one of the free places and one more, each as likely
            column = xp.minimum(xp.floor(u[20] * (free_columns + 1.0)), free_columns)
            row = xp.minimum(xp.floor(u[21] * (free_rows + 1.0)), free_rows)
            across, down = xp.where(fits, columns, across), xp.where(fits, rows, down)
            left, above = xp.where(fits, column, left), xp.where(fits, row, above)
        return across / width, 0.0, left + (across - width) / 2, 0.0, down / height, above + (down - height) / 2


@dataclass(frozen=True)
class Brightness(Colour):
    """Multiplies all pixels of a picture by one factor.

    Args:
        change: The factor is uniform from 1 - change to 1 + change; or the least and the greatest factor.

    Example:
        >>> Brightness(0.2)
        Brightness(change=0.2)
        >>> Brightness((0.5, 1.0)).change
        (0.5, 1.0)
    """

    change: float | tuple[float, float]
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self._set(change=_change(self.change))

    def line(self, u: Sequence[Any], xp: ModuleType) -> Line:
        """Returns the factor."""
        return _between(u[0], *_factors(self.change)), 0.0, 0.0


@dataclass(frozen=True)
class Contrast(Colour):
    """Brings all pixels of a picture nearer to their mean, or farther from it.

    Args:
        change: The factor of the distances is uniform from 1 - change to 1 + change; or the least and the greatest
            factor.
        grey: Whether the mean is that of the picture in grey, for which red, green and blue count by how bright they
            look: 30, 59 and 11 %. Otherwise all channels count alike.

    Example:
        >>> Contrast(0.2)
        Contrast(change=0.2, grey=False)
    """

    change: float | tuple[float, float]
    grey: bool = field(default=False, metadata=_LATER)
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self._set(change=_change(self.change), grey=switch("grey", self.grey))

    def line(self, u: Sequence[Any], xp: ModuleType) -> Line:
        """Returns the factor, and the rest of the mean."""
        factor = _between(u[0], *_factors(self.change))
        return factor, 1.0 - factor, 0.0


@dataclass(frozen=True)
class Light(Transform):
    """Lights a picture from one side: a factor for each pixel that rises evenly across it.

    Other than ``Brightness`` it also changes what is bright beside what is dark.

    Args:
        change: The steepest slope. The direction is uniform, and so is the slope, from 0 to change: along an axis the
            factor then runs from 1 - slope at one edge to 1 + slope at the other.

    Example:
        >>> Light(0.5)
        Light(change=0.5)
    """

    change: float
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        self._set(change=number("change", self.change, 0, 1, "a fraction from 0 to 1"))

    def plane(self, u: Sequence[Any], height: int, width: int, xp: ModuleType) -> Any:
        """Returns the factor of each pixel, (batch, height, width, 1); it is 1 in the middle and never below 0."""
        angle, slope = np.float32(2 * np.pi) * u[0], np.float32(self.change) * u[1]
        across = np.linspace(-1, 1, width, dtype="float32")[None, None, :, None]
        down = np.linspace(-1, 1, height, dtype="float32")[None, :, None, None]
        if xp is not np:
            across, down = xp.convert_to_tensor(across), xp.convert_to_tensor(down)
        right, below = _over_pixels(slope * xp.cos(angle)), _over_pixels(slope * xp.sin(angle))
        return xp.maximum(1.0 + right * across + below * down, 0.0)


@dataclass(frozen=True)
class Noise(Transform):
    """Adds normally distributed noise to each value of each pixel.

    Args:
        deviation: Its standard deviation, as a fraction of the range of values.

    Example:
        >>> Noise(0.05)
        Noise(deviation=0.05)
    """

    deviation: float

    def __post_init__(self) -> None:
        self._set(deviation=number("deviation", self.deviation, 0, 1, "a fraction from 0 to 1"))


@dataclass(frozen=True)
class Erasing(Transform):
    """Paints over a rectangle of a picture.

    Args:
        probability: How likely that happens to a picture.
        scale: The smallest and the largest share of the area; the drawn one is uniform.
        ratio: The least and the greatest width over height, relative to the picture's.
        value: What the rectangle is painted with, in the unit of the pixels and within their range.

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
        """Returns centre and half size of each rectangle, x, y, across, down, as fractions; some are empty."""
        area = _between(u[0], *self.scale)
        ratio = xp.exp(_between(u[1], *np.log(self.ratio)))
        across = xp.minimum(xp.sqrt(area * ratio), 1.0) / 2
        down = xp.minimum(xp.sqrt(area / ratio), 1.0) / 2
        hit = xp.where(u[4] < self.probability, 1.0, 0.0)
        return across + (1 - 2 * across) * u[2], down + (1 - 2 * down) * u[3], across * hit, down * hit


@dataclass(frozen=True)
class MixUp(Transform):
    """Shows each picture through its neighbour in the batch, and mixes their labels alike.

    The share of the neighbour is the smaller of λ and 1 - λ with λ from Beta(alpha, alpha).

    Args:
        alpha: Above 0; the smaller, the more often one of the two is hardly seen.

    Example:
        >>> MixUp(0.2)
        MixUp(alpha=0.2)

    Source: Zhang et al., "mixup: beyond empirical risk minimization", 2018.
    """

    alpha: float = 0.2
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self._set(alpha=number("alpha", self.alpha, _ABOVE_0, 100, "a number above 0 and up to 100"))

    def share(self, u: Sequence[Any], xp: ModuleType) -> Any:
        """Returns the share of the neighbour, from 0 to one half."""
        table = np.asarray(_small_beta_quantiles(self.alpha), "float32")
        place = u[0] * np.float32(len(table) - 1)
        below = xp.floor(place)
        index = cast(below, "int32", xp)
        table = table if xp is np else xp.convert_to_tensor(table)
        low, high = xp.take(table, index, axis=0), xp.take(table, index + 1, axis=0)
        return low + (place - below) * (high - low)


@dataclass(frozen=True)
class CutMix(MixUp):
    """Replaces a rectangle of each picture by that of its neighbour in the batch, and mixes the labels by area.

    Args:
        alpha: As for ``MixUp``.

    Example:
        >>> CutMix(1.0)
        CutMix(alpha=1.0)

    Source: Yun et al., "CutMix: regularization strategy to train strong classifiers", 2019.
    """

    alpha: float = 1.0
    draws: ClassVar[int] = 3


TRANSFORMS = {
    kind.__name__: kind
    for kind in (
        *(Rotation, Shift, Zoom, Shear, Flip, Crop, ResizedCrop, Brightness, Contrast, Light, Noise, Erasing),
        *(MixUp, CutMix),
    )
}
"""All transforms, by name."""

FILLS = ("constant", "nearest", "reflect")
"""What lies outside of a picture: one value, its nearest pixel, or the picture in a mirror (d c b a | a b c d)."""


_NO_LABELS = (
    "labels are left out; MixUp and CutMix change them, so they have no place in a model or where it predicts; "
    "give labels, or leave out MixUp and CutMix"
)
_OF_LAYERS = ("activity_regularizer", "autocast", "dtype", "trainable")
"""Further arguments that a Keras layer takes."""


@keras.saving.register_keras_serializable(package="keras_course")
class Augmentation(keras.layers.Layer):
    """Changes pictures in training, each in its own way, and passes them on as they are otherwise.

    As a layer it stands before the model proper. ``apply`` is the same as a function on a batch, with labels; ``fit``
    takes an augmentation, too, and then the model stays as it will be served.

    Geometry comes first, then colour, light, noise, erasing and mixing; within geometry and within colour the order of
    the list counts.

    Args:
        transforms: What to do.
        fill: What lies outside of a picture, one of ``FILLS``.
        fill_value: That value, in the unit of the pixels and within their range, for "constant".
        value_range: The least and the greatest value of a pixel.
        num_classes: Number of classes, where class numbers are mixed.
        seed: Seed of all draws.
        name: The layer's name. Two of one name and seed draw alike.
        **kwargs: As for any Keras layer: ``dtype``, ``trainable``.

    Raises:
        CourseError: An argument makes no sense, or there is none of that name.

    Example:
        >>> augment = Augmentation([Rotation(15), Shift(0.1, 0.1), Zoom(0.9, 1.1), Brightness(0.2)], seed=0)
        >>> pictures = np.full((2, 28, 28, 1), 128, "uint8")
        >>> changed = augment.apply(pictures, step=0, xp=np)
        >>> changed.shape, changed.dtype
        ((2, 28, 28, 1), dtype('uint8'))
    """

    def __init__(
        self,
        transforms: Sequence[Transform],
        *,
        fill: str = "constant",
        fill_value: float = 0.0,
        value_range: tuple[float, float] = (0.0, 255.0),
        num_classes: int | None = None,
        seed: int = 0,
        name: str = "augmentation",
        **kwargs: Any,
    ) -> None:
        check_names(
            kwargs, ("fill", "fill_value", "value_range", "num_classes", "seed", "name", *_OF_LAYERS), "Augmentation"
        )
        super().__init__(name=name, **kwargs)
        kinds = tuple(TRANSFORMS.values())
        if isinstance(transforms, Transform | type | str) or not isinstance(transforms, Iterable):
            raise CourseError(f"transforms is {shown(transforms)}; give a list of transforms, such as [Rotation(15)]")
        transforms = tuple(transforms)
        if strangers := [transform for transform in transforms if not isinstance(transform, kinds)]:
            raise CourseError(f"transforms has {shown(strangers[0])}; give some of {', '.join(TRANSFORMS)}")
        if not (isinstance(fill, str) and fill in FILLS):
            raise CourseError(f"fill is {shown(fill)}; give one of {', '.join(FILLS)}")
        low, high = rising("value_range", value_range, -math.inf, math.inf, "two rising numbers")
        if low == high:
            raise CourseError(f"value_range is {shown(value_range)}; give two rising numbers")
        if num_classes is not None:
            num_classes = whole_number("num_classes", num_classes, 1, "a whole number from 1 up")
        # what a byte makes of 300 differs from backend to backend
        values = {f"value of {one}": one.value for one in transforms if isinstance(one, Erasing)}
        if fill == "constant" and any(isinstance(one, Geometry) for one in transforms):
            values["fill_value"] = fill_value
        for what, value in values.items():
            number(what, value, low, high, f"a number within value_range, {(low, high)}")
        self.transforms = transforms
        self.fill, self.value_range = fill, (float(low), float(high))
        self.fill_value = float(number("fill_value", fill_value, -math.inf, math.inf, "a number"))
        self._key = randomness.stream_key(seed, name, "augmentation")
        self._noise_key = randomness.stream_key(seed, name, "noise")
        self.num_classes, self.seed = num_classes, int(seed)

    @classmethod
    def like_image_data_generator(
        cls,
        *,
        rotation_range: float = 0.0,
        width_shift_range: float | Sequence[float] = 0.0,
        height_shift_range: float | Sequence[float] = 0.0,
        brightness_range: tuple[float, float] | None = None,
        shear_range: float = 0.0,
        zoom_range: float | tuple[float, float] = 0.0,
        fill_mode: str = "nearest",
        cval: float = 0.0,
        horizontal_flip: bool = False,
        vertical_flip: bool = False,
        **settings: Any,
    ) -> "Augmentation":
        """Makes the augmentation that a Keras ``ImageDataGenerator`` of these arguments makes, the course's older way.

        | ImageDataGenerator | here |
        |---|---|
        | ``rotation_range=r`` (degrees) | ``Rotation(r)`` |
        | ``width_shift_range=w``, below 1 (of the width) | ``Shift(width=w)`` |
        | the same from 1.0 up, a float (pixels) | ``Shift(width=w, unit="pixels")`` |
        | the same, an int n: one of 0 to n - 1 pixels | ``Shift(width=(0, ..., n - 1), unit="pixels")`` |
        | the same, a list: one of its values | ``Shift(width=(...), unit=...)`` |
        | ``height_shift_range`` | the same with ``height`` |
        | ``shear_range=s`` (degrees) | ``Shear(s, keep_height=False)`` |
        | ``zoom_range=(low, high)`` | ``Zoom(1 / high, 1 / low, keep_ratio=False, inverse=True)`` |
        | ``zoom_range=z`` | ``zoom_range=(1 - z, 1 + z)`` |
        | ``horizontal_flip=True, vertical_flip=True`` | ``Flip(horizontal=True, vertical=True)`` |
        | ``brightness_range=(low, high)`` | ``Brightness((low, high))`` |
        | ``fill_mode, cval`` | ``fill, fill_value`` |

        ``zoom_range`` counts how much of the picture is seen: 0.5 shows it twice as large. Three things are other than
        there. Keras up to 3.15 moves pictures down by ``width_shift_range`` and to the side by ``height_shift_range``,
        and turns pictures that are not square about a point beside their centre; here both are as its documentation
        says. Pixels less than one beyond the edge are mixed with ``cval``, where Keras takes all of ``cval``. Pictures
        of bytes stay bytes.

        What else it does (statistics of the data, ZCA, channel shifts, ``rescale``, ``fill_mode="wrap"``) has no
        counterpart: those arguments may only have the values with which they do nothing.

        Args:
            rotation_range: As there.
            width_shift_range: As there.
            height_shift_range: As there.
            brightness_range: As there.
            shear_range: As there.
            zoom_range: As there.
            fill_mode: As there.
            cval: As there.
            horizontal_flip: As there.
            vertical_flip: As there.
            **settings: Further arguments of ``Augmentation``: ``seed``, ``value_range``, ``num_classes``, ``name``; and
                the other arguments of ``ImageDataGenerator``, which must do nothing.

        Returns:
            The augmentation.

        Raises:
            CourseError: An argument has no counterpart, makes no sense, or is not known.

        Example:
            >>> Augmentation.like_image_data_generator(rotation_range=10, horizontal_flip=True).transforms
            (Rotation(degrees=10), Flip(horizontal=0.5, vertical=0.0))
        """
        ours = foreign_arguments.check_keras(settings)
        if not (isinstance(fill_mode, str) and fill_mode in FILLS):
            raise CourseError(f"fill_mode is {shown(fill_mode)}; give one of {', '.join(FILLS)}")
        turn = foreign_arguments.keras_angle("rotation_range", rotation_range, 360)
        slant = foreign_arguments.keras_angle("shear_range", shear_range, 89)
        ways = {
            "height": foreign_arguments.keras_shift("height_shift_range", height_shift_range),
            "width": foreign_arguments.keras_shift("width_shift_range", width_shift_range),
        }
        low, high = foreign_arguments.keras_zoom("zoom_range", zoom_range)
        across = foreign_arguments.keras_switch("horizontal_flip", horizontal_flip)
        down = foreign_arguments.keras_switch("vertical_flip", vertical_flip)
        factors = (1.0, 1.0)
        if brightness_range is not None:
            factors = rising("brightness_range", brightness_range, 0, math.inf, "two rising factors from 0 up, or None")
        transforms: list[Transform] = []
        transforms += [Rotation(turn)] if turn else []
        for unit in ("fraction", "pixels"):
            axes = {axis: way for axis, (of, way) in ways.items() if of == unit and way != 0}
            if axes:
                transforms.append(Shift(axes.get("height", 0.0), axes.get("width", 0.0), unit=unit))
        transforms += [Shear(slant, keep_height=False)] if slant else []
        transforms += [Zoom(1 / high, 1 / low, keep_ratio=False, inverse=True)] if (low, high) != (1, 1) else []
        transforms += [Flip(across, down)] if across or down else []
        transforms += [Brightness(factors)] if factors != (1, 1) else []
        outside = _value_outside("cval", cval, transforms, ours) if fill_mode == "constant" else 0.0
        return cls(transforms, fill=fill_mode, fill_value=outside, **ours)

    @classmethod
    def like_torchvision(
        cls,
        *,
        degrees: float | tuple[float, float] = 0.0,
        translate: tuple[float, float] | None = None,
        scale: tuple[float, float] | None = None,
        shear: float | tuple[float, float] | None = None,
        crop_scale: tuple[float, float] | None = None,
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        horizontal_flip: float = 0.0,
        vertical_flip: float = 0.0,
        brightness: float | tuple[float, float] = 0.0,
        contrast: float | tuple[float, float] = 0.0,
        fill: float = 0.0,
        **settings: Any,
    ) -> "Augmentation":
        """Makes the augmentation that torchvision's transforms of these arguments make, the course's newer way.

        | torchvision | here |
        |---|---|
        | ``RandomAffine(degrees=(a, b))``: above 0 to the right | ``Rotation((-b, -a))`` |
        | ``RandomRotation((a, b))``: above 0 to the left | ``Rotation((a, b))`` |
        | ``RandomAffine(translate=(w, h))``, in whole pixels | ``Shift(h, w, whole=True)`` |
        | ``RandomAffine(scale=(low, high))`` | ``Zoom(low, high)`` |
        | ``RandomAffine(shear=(a, b))`` (degrees) | ``Shear((-b, -a))`` |
        | ``RandomResizedCrop(size, scale=crop_scale, ratio=crop_ratio)`` | ``ResizedCrop(crop_scale, crop_ratio)`` |
        | ``RandomHorizontalFlip(p)``, ``RandomVerticalFlip(p)`` | ``Flip(p, p)`` |
        | ``ColorJitter(brightness=b)`` or ``(low, high)`` | ``Brightness(b)`` or ``Brightness((low, high))`` |
        | ``ColorJitter(contrast=c)`` or ``(low, high)`` | ``Contrast(c, grey=True)``, ``Contrast((low, high), ...)`` |
        | ``RandomErasing(p, scale, ratio=(a, b), v)``: height over width | ``Erasing(p, scale, (1 / b, 1 / a), v)`` |
        | ``v2.MixUp(alpha, num_classes)``, ``v2.CutMix`` | ``MixUp(alpha)``, ``CutMix(alpha)``, ``num_classes`` |

        The order is: crop, flip, ``RandomAffine``, ``ColorJitter`` with brightness first. Resampling is bilinear, and a
        crop is shown at the size of the picture; what a later rotation or shift brings in from beside it is the picture
        itself, where torchvision has lost that. Brightness and contrast are cut off to the range of values once, at
        the end. ``MixUp`` and ``CutMix`` draw a share for each picture, at most one half, where torchvision draws one
        for the batch; ``Erasing`` measures ratios relative to that of the picture. Saturation and hue have no
        counterpart.

        Args:
            degrees: As for ``RandomAffine``.
            translate: As there.
            scale: As there.
            shear: As there, along the rows.
            crop_scale: ``scale`` of ``RandomResizedCrop``; None for no crop.
            crop_ratio: ``ratio`` of ``RandomResizedCrop``.
            horizontal_flip: ``p`` of ``RandomHorizontalFlip``.
            vertical_flip: ``p`` of ``RandomVerticalFlip``.
            brightness: As for ``ColorJitter``.
            contrast: As there.
            fill: As for ``RandomAffine``, one for all channels.
            **settings: Further arguments of ``Augmentation``: ``seed``, ``value_range``, ``num_classes``, ``name``; and
                other arguments of these transforms, which must do nothing.

        Returns:
            The augmentation.

        Raises:
            CourseError: An argument has no counterpart, makes no sense, or is not known.

        Example:
            >>> Augmentation.like_torchvision(degrees=10, scale=(0.8, 1.2), brightness=0.3).transforms
            (Zoom(low=0.8, high=1.2, keep_ratio=True, inverse=False), Rotation(degrees=10), Brightness(change=0.3))
        """
        ours = foreign_arguments.check_torchvision(settings)
        flips = {"horizontal_flip": horizontal_flip, "vertical_flip": vertical_flip}
        chances = [number(name, value, 0, 1, "a probability, such as 0.5") for name, value in flips.items()]
        slant = foreign_arguments.torchvision_shear("shear", shear)
        factors = None if scale is None else rising("scale", scale, _ABOVE_0, math.inf, "two rising factors above 0")
        turn = foreign_arguments.to_the_other_side("degrees", degrees, 360)
        across, down = foreign_arguments.torchvision_translate("translate", translate)
        light, distance = (
            foreign_arguments.torchvision_jitter(name, value)
            for name, value in (("brightness", brightness), ("contrast", contrast))
        )
        transforms: list[Transform] = []
        if crop_scale is not None:
            shares = rising("crop_scale", crop_scale, _ABOVE_0, 1, "two rising fractions above 0 and up to 1, or None")
            ratios = rising("crop_ratio", crop_ratio, _ABOVE_0, math.inf, "two rising numbers above 0")
            transforms.append(ResizedCrop(shares, ratios))
        transforms += [Flip(*chances)] if any(chances) else []
        transforms += [Shear(slant)] if slant not in (0, (0, 0)) else []
        transforms += [Zoom(*factors)] if factors not in (None, (1, 1)) else []
        transforms += [Rotation(turn)] if turn not in (0, (0, 0)) else []
        transforms += [Shift(height=down, width=across, whole=True)] if across or down else []
        transforms += [Brightness(light)] if light not in (0, (1, 1)) else []
        transforms += [Contrast(distance, grey=True)] if distance not in (0, (1, 1)) else []
        outside = _value_outside("fill", foreign_arguments.torchvision_fill(fill), transforms, ours)
        return cls(transforms, fill_value=outside, **ours)

    @property
    def mixes(self) -> bool:
        """Whether pictures, and with them their labels, are mixed with each other."""
        return any(isinstance(transform, MixUp) for transform in self.transforms)

    def check(self, images: Any, labels: Any = None, *, outputs: int | None = None, name: str = "images") -> None:
        """Checks that pictures, and labels that would be mixed, can be changed, before anything is computed.

        Args:
            images: Pictures (n, height, width, channels), an array.
            labels: Labels (n, ...), an array, or what several outputs have; only what mixes looks at them.
            outputs: How many numbers a model gives for each picture, if that is known.
            name: What the person calls the data.

        Raises:
            CourseError: They cannot.

        Example:
            >>> augment = Augmentation([MixUp()], num_classes=3)
            >>> augment.check(np.zeros((2, 4, 4, 1)), np.array([0, 1]), outputs=4, name="train")
            Traceback (most recent call last):
            ...
            keras_course.errors.CourseError: num_classes is 3 and the model gives 4 outputs; give num_classes=4
        """
        self._check_kind(_kind(images, np))
        if not self.mixes:
            return
        if labels is None:
            raise CourseError(f"{name} has no labels; MixUp and CutMix change them: give labels, or leave them out")
        if not isinstance(labels, np.ndarray):
            raise CourseError(f"{name} has labels of several outputs; MixUp and CutMix change one, so leave them out")
        if not self._are_class_numbers(labels.shape):
            return
        classes = self._known_classes(outputs)
        if outputs == 1:
            raise CourseError(
                f"num_classes is {classes} and the model gives one output; leave num_classes out and give labels "
                f"of shape ({len(labels)}, 1), which are mixed as probabilities"
            )
        if outputs is not None and classes != outputs:
            raise CourseError(
                f"num_classes is {classes} and the model gives {outputs} outputs; give num_classes={outputs}"
            )
        lowest, highest = (labels.min(), labels.max()) if labels.size else (0, 0)
        if lowest < 0 or highest >= classes or not (labels == np.round(labels)).all():
            raise CourseError(
                f"{name} has labels from {lowest} to {highest} ({labels.dtype}) and num_classes is {classes}; "
                f"give whole numbers from 0 to {classes - 1}, or probabilities (n, classes)"
            )

    def _check_kind(self, kind: str) -> None:
        low, high = self.value_range
        if kind == "uint8" and not 0 <= low < high <= 255:
            raise CourseError(f"value_range is {self.value_range} and images are uint8; give a range from 0 to 255")

    def _are_class_numbers(self, shape: Sequence[int | None]) -> bool:
        """Says whether labels of a shape are class numbers; otherwise they are probabilities, which must fit."""
        if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1 and (self.num_classes or 1) > 1):
            return True
        if len(shape) != 2 or (self.num_classes is not None and shape[1] != self.num_classes):
            classes = "classes" if self.num_classes is None else self.num_classes
            raise CourseError(
                f"labels have the shape {tuple(shape)}; MixUp and CutMix change class numbers (n,), or probabilities "
                f"(n, {classes})"
            )
        return False

    def _known_classes(self, outputs: int | None = None) -> int:
        if self.num_classes is None:
            remedy = "it" if outputs in (None, 1) else f"num_classes={outputs}"
            raise CourseError(f"num_classes is left out; give {remedy} where class numbers are mixed")
        return self.num_classes

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the counter of training steps."""
        if self.mixes:
            raise CourseError(_NO_LABELS)
        self.step = self.add_weight(
            name="step", shape=(), dtype="int32", initializer="zeros", trainable=False, aggregation="only_first_replica"
        )

    def call(self, images: Any, training: bool = False) -> Any:
        """Changes pictures (batch, height, width, channels) in training."""
        self._check_kind(_kind(images, keras.ops))
        if not training or not self.transforms:
            return images
        rows = keras.ops.shape(images)[0]
        changed = self.apply(images, step=self.step.value, first_row=_backend.replica() * rows)
        self.step.assign(self.step.value + 1)
        return changed

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the pictures."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, as they go into a saved model."""
        return {
            **super().get_config(),
            "transforms": [transform.describe() for transform in self.transforms],
            "fill": self.fill,
            "fill_value": self.fill_value,
            "value_range": self.value_range,
            "num_classes": self.num_classes,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Augmentation":
        """Makes the layer that ``get_config`` described."""
        transforms = []
        for transform in config["transforms"]:
            arguments = dict(transform)
            kind = TRANSFORMS.get(arguments.pop("kind", None))
            if kind is None:
                raise CourseError(f"transforms has {transform!r}; its kind is none of {', '.join(TRANSFORMS)}")
            transforms.append(kind(**arguments))
        return cls(**{**config, "transforms": transforms})

    def apply(
        self, images: Any, labels: Any = None, *, step: Any, first_row: Any = 0, xp: ModuleType = keras.ops
    ) -> Any:
        """Changes a batch of pictures, and its labels where they are given.

        Args:
            images: Pictures (batch, height, width, channels), uint8 or float32 within the value range.
            labels: Class numbers (batch,), or probabilities (batch, classes).
            step: The number of the batch: another one, other changes.
            first_row: The number of the first picture, for a part of a batch.
            xp: ``keras.ops``, or ``numpy`` for a pipeline on the host.

        Returns:
            Pictures of the same shape and type; with labels, the pair. Mixed labels are probabilities, float32.

        Raises:
            CourseError: Labels are mixed and not given, or the number of classes is not known, or images are uint8
                and the value range is not one of theirs.

        Example:
            >>> mirror = Augmentation([Flip(horizontal=True)])
            >>> row = np.arange(4, dtype="uint8").reshape(1, 1, 4, 1)
            >>> sorted({tuple(mirror.apply(row, step=step, xp=np).ravel().tolist()) for step in range(20)})
            [(0, 1, 2, 3), (3, 2, 1, 0)]
        """
        if self.mixes and labels is None:
            raise CourseError(_NO_LABELS)
        if xp is np and labels is not None:
            self.check(images, np.asarray(labels), name="images")
        change = self._on_the_host if xp is np else self._on_the_device
        pixels, (numbers, *_) = change(images, step, first_row)
        if self.mixes:
            pixels, labels = self._mix(pixels, labels, numbers, xp)
            pixels = _back_to(_kind(images, xp), pixels, xp)
        return pixels if labels is None else (pixels, labels)

    @cached_property
    def _on_the_host(self) -> resampling.Run:
        return resampling.by_pictures_on_the_host(partial(self._draw, axis=resampling.axis), self._change)

    @cached_property
    def _on_the_device(self) -> resampling.Run:
        return _backend.by_pictures(partial(self._draw, axis=_backend.axis), self._change)

    def _draw(
        self, shape: Any, step: Any, first_row: Any, xp: ModuleType, axis: resampling.Axis = resampling.axis
    ) -> tuple[Any, ...]:
        """Draws the numbers of all transforms, (batch, numbers), and finds the places that all geometry leads to."""
        batch, height, width, _ = shape
        columns = max(1, sum(transform.draws for transform in self.transforms))
        numbers = randomness.uniform(self._key, (batch, columns), step=step, first_row=first_row, xp=xp)
        back = IDENTITY
        for transform, u in self._deal(numbers, Geometry):
            back = compose(back, transform.map(u, height, width, xp))
        if back is IDENTITY:
            return (numbers,)
        return numbers, *_places(back, xp.zeros_like(numbers[:, 0]), height, width, axis, xp)

    def _deal(self, numbers: Any, kinds: type | tuple[type, ...] = Transform) -> list[tuple[Any, list[Any]]]:
        """Deals the numbers out to the transforms, and returns those of some kinds with theirs."""
        ends = list(accumulate(transform.draws for transform in self.transforms))
        return [
            (transform, [numbers[:, column] for column in range(end - transform.draws, end)])
            for transform, end in zip(self.transforms, ends, strict=True)
            if isinstance(transform, kinds)
        ]

    def _change(self, images: Any, drawn: Any, first_row: Any, step: Any, xp: ModuleType) -> Any:
        """Does all but the mixing, for which pictures are left in float32."""
        shape = images.shape if xp is np else keras.ops.shape(images)
        _, height, width, _ = shape
        numbers, *places = drawn
        kind = _kind(images, xp)
        self._check_kind(kind)
        pixels = cast(images, "float32", xp)
        if places:
            columns, rows = places
            pixels = _resample(pixels, columns, rows, self.fill, self.fill_value, xp)
        pixels = self._recolour(pixels, numbers, height, width, xp)
        pixels = self._disturb(pixels, numbers, step, first_row, shape, xp)
        return pixels if self.mixes else _back_to(kind, pixels, xp)

    def _recolour(self, pixels: Any, numbers: Any, height: int, width: int, xp: ModuleType) -> Any:
        """Composes all changes of colour and light, and applies them in one pass."""
        gain, offset = 1.0, 0.0
        changes = [(transform.line(u, xp), transform) for transform, u in self._deal(numbers, Colour)]
        # how much of each of the two means counts: of all channels alike, and of the picture in grey
        shares: dict[bool, Any] = {one.grey: 0.0 for _, one in changes if isinstance(one, Contrast)}
        lights = [transform.plane(u, height, width, xp) for transform, u in self._deal(numbers, Light)]
        if not changes and not lights:
            return pixels
        for (next_gain, next_share, next_offset), transform in changes:
            of_grey = isinstance(transform, Contrast) and transform.grey
            # the mean that the next change sees is gain·(its mean) + the sum of share·mean + offset
            for grey, share in shares.items():
                seen = gain + share if grey == of_grey else share
                shares[grey] = next_gain * share + next_share * seen
            offset = (next_gain + next_share) * offset + next_offset
            gain = next_gain * gain
        for grey, share in shares.items():
            offset = offset + share * _mean(pixels, grey, xp)
        gain, offset = _over_pixels(gain), _over_pixels(offset)
        low, high = self.value_range
        for plane in lights:  # light multiplies what is above black
            gain, offset = plane * gain, low + plane * (offset - low)
        return xp.clip(pixels * gain + offset, low, high)

    def _disturb(
        self, pixels: Any, numbers: Any, step: Any, first_row: Any, shape: tuple[Any, ...], xp: ModuleType
    ) -> Any:
        """Adds noise, and paints rectangles over."""
        batch, height, width, channels = shape
        low, high = self.value_range
        for transform, u in self._deal(numbers, (Noise, Erasing)):
            if isinstance(transform, Noise):
                noise = randomness.normal(
                    self._noise_key,
                    (batch, height * width * channels),
                    step=step,
                    first_row=first_row,
                    xp=xp,
                )
                noise = xp.reshape(noise, (-1, height, width, channels))
                pixels = xp.clip(pixels + np.float32(transform.deviation * (high - low)) * noise, low, high)
            else:
                inside = _inside(transform.box(u, xp), height, width, xp)
                pixels = xp.where(inside, np.float32(transform.value), pixels)
        return pixels

    def _mix(self, pixels: Any, labels: Any, numbers: Any, xp: ModuleType) -> tuple[Any, Any]:
        """Mixes pictures and labels with their neighbours."""
        _, height, width, _ = pixels.shape if xp is np else keras.ops.shape(pixels)
        for transform, u in self._deal(numbers, MixUp):
            labels = self.probabilities(labels, xp=xp)
            neighbours, share = _rolled(pixels, xp), transform.share(u, xp)
            if isinstance(transform, CutMix):
                half = xp.sqrt(share) / 2
                box = half + (1 - 2 * half) * u[1], half + (1 - 2 * half) * u[2], half, half
                inside = _inside(box, height, width, xp)
                pixels = xp.where(inside, neighbours, pixels)
                mask = cast(inside, "float32", xp)
                share = xp.mean(mask, axis=(1, 2, 3))  # in whole pixels
            else:
                pixels = pixels + _over_pixels(share) * (neighbours - pixels)
            labels = labels + xp.expand_dims(share, 1) * (_rolled(labels, xp) - labels)
        return pixels, labels

    def probabilities(self, labels: Any, *, xp: ModuleType = np) -> Any:
        """Turns labels into what is mixed.

        Args:
            labels: Class numbers (n,) or (n, 1), or probabilities (n, classes).
            xp: ``keras.ops``, or ``numpy``.

        Returns:
            Probabilities (n, classes), float32.

        Raises:
            CourseError: They are neither, or the number of classes is not known.

        Example:
            >>> Augmentation([MixUp()], num_classes=3).probabilities(np.array([2])).tolist()
            [[0.0, 0.0, 1.0]]
        """
        if not self._are_class_numbers(labels.shape):
            return cast(labels, "float32", xp)
        classes = xp.arange(self._known_classes(), dtype="int32")
        labels = cast(xp.reshape(labels, (-1,)), "int32", xp)
        is_right = xp.expand_dims(labels, 1) == classes
        return xp.where(is_right, np.float32(1.0), np.float32(0.0))


def check_augmentation(augmentation: Any, *, mixing: bool = True) -> None:
    """Checks that an argument is an augmentation, or None.

    Args:
        augmentation: What the person gave.
        mixing: Whether it may mix pictures with each other.

    Raises:
        CourseError: It is something else, or mixes pictures where there are no labels to be mixed.

    Example:
        >>> check_augmentation([Rotation(5)])
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: augmentation is a list; give Augmentation([...])
    """
    if augmentation is not None and not isinstance(augmentation, Augmentation):
        raise CourseError(f"augmentation is a {type(augmentation).__name__}; give Augmentation([...])")
    if not mixing and augmentation is not None and augmentation.mixes:
        raise CourseError(_NO_LABELS)


def compose(first: Map, second: Map) -> Map:
    """Composes two maps: a picture is changed by the first and then by the second.

    Maps lead back from the result, so the second one is followed first.

    Args:
        first: The map of the first change.
        second: The map of the second.

    Returns:
        The map of both.

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
        back: From each pixel of the result to its place in the picture; numbers or arrays (batch,).
        fill: What lies outside, one of ``FILLS``.
        fill_value: That value, for "constant".
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
    columns, rows = _places(back, xp.zeros((batch,), dtype="float32"), height, width, axis, xp)
    return _resample(images, columns, rows, fill, fill_value, xp)


def _places(back: Map, zeros: Any, height: int, width: int, axis: resampling.Axis, xp: ModuleType) -> tuple[Any, Any]:
    """Finds where a map leads: a place is what its column gives plus what its row gives.

    Returns:
        x and y that the columns give, (batch, 2, width), and that the rows give, (batch, 2, height), as ``axis``
        counts.
    """
    matrix = xp.reshape(xp.stack([zeros + value for value in back], axis=1), (-1, 2, 3))
    by_column, by_row, shift = (matrix[..., column : column + 1] for column in range(3))  # (batch, 2, 1) each
    first, step = np.asarray([axis(width), axis(height)], "float32").T[..., None]  # (2, 1) each
    centre = np.asarray([[width - 1], [height - 1]], "float32") / 2
    across = (np.arange(width, dtype="float32") - centre[0]) * step
    down = (np.arange(height, dtype="float32") - centre[1]) * step
    middle = first + centre * step
    if xp is not np:
        across, down, middle, step = (xp.convert_to_tensor(array) for array in (across, down, middle, step))
    return by_column * across, by_row * down + (shift * step + middle)


def _resample(images: Any, columns: Any, rows: Any, fill: str, fill_value: float, xp: ModuleType) -> Any:
    """Reads pictures at the places of their columns and rows, with a value of one's own outside."""
    offset = np.float32(fill_value if fill == "constant" else 0.0)
    if offset:
        images = images - offset
    if xp is np:
        sampled = resampling.resample(images, columns, rows, fill, np)
    else:
        sampled = _backend.resample(images, columns, rows, fill)
    return sampled + offset if offset else sampled


def _mean(pixels: Any, grey: bool, xp: ModuleType) -> Any:
    """Returns the mean of each picture, (batch,): of all channels alike, or of the picture in grey."""
    if not grey or pixels.shape[-1] != 3:
        return xp.mean(pixels, axis=(1, 2, 3))
    weights = np.asarray(_GREY, "float32")
    weights = weights if xp is np else xp.convert_to_tensor(weights)
    return xp.sum(xp.mean(pixels, axis=(1, 2)) * weights, axis=-1)


def _kind(images: Any, xp: ModuleType) -> str:
    return str(images.dtype) if xp is np else keras.backend.standardize_dtype(images.dtype)


def _back_to(kind: str, pixels: Any, xp: ModuleType) -> Any:
    """Gives float32 pixels the type that they came with."""
    if kind == "uint8":  # by way of int16: PyTorch turns floats into bytes one by one, and these many at a time
        pixels = cast(xp.round(pixels), "int16", xp)
    return cast(pixels, kind, xp)


def _over_pixels(values: Any) -> Any:
    """Gives one value a picture the axes of the pictures."""
    return values if isinstance(values, float) else values[:, None, None, None]


def _inside(box: tuple[Any, Any, Any, Any], height: int, width: int, xp: ModuleType) -> Any:
    """Says which pixels have their centres in a rectangle, given as fractions: booleans (batch, height, width, 1)."""
    x, y, across, down = (values[:, None, None] for values in box)
    columns = ((np.arange(width) + 0.5) / width).astype("float32")
    rows = ((np.arange(height) + 0.5) / height).astype("float32")[:, None]
    if xp is not np:
        columns, rows = xp.convert_to_tensor(columns), xp.convert_to_tensor(rows)
    inside = xp.logical_and(xp.abs(columns - x) < across, xp.abs(rows - y) < down)
    return xp.expand_dims(inside, -1)


def _rolled(array: Any, xp: ModuleType) -> Any:
    """Puts the neighbour of each row in its place; the neighbour of the last is the first."""
    return xp.concatenate([array[1:], array[:1]], axis=0)


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


def _value_outside(name: str, value: Any, transforms: Sequence[Transform], settings: dict[str, Any]) -> float:
    """Reads the value outside of a picture, which matters only where something is moved."""
    if any(isinstance(one, Geometry) for one in transforms):
        return foreign_arguments.value_within(name, value, settings)
    return number(name, value, -math.inf, math.inf, "a number")


def _either_side(degrees: float | tuple[float, float]) -> tuple[float, float]:
    """Returns the least and the greatest angle, in radians."""
    low, high = degrees if isinstance(degrees, tuple) else (-degrees, degrees)
    return np.radians(low), np.radians(high)


def _change(value: Any) -> float | tuple[float, float]:
    """Reads the largest change of a factor, or the least and the greatest factor."""
    remedy = "a fraction from 0 to 1, or two rising factors from 0 up"
    if as_tuple(value) is None:
        return number("change", value, 0, 1, remedy)
    return rising("change", value, 0, math.inf, remedy)


def _factors(change: float | tuple[float, float]) -> tuple[float, float]:
    """Returns the least and the greatest factor."""
    return change if isinstance(change, tuple) else (1 - change, 1 + change)


def _shares_and_ratios(scale: Any, ratio: Any) -> dict[str, tuple[float, float]]:
    """Reads shares of an area, and widths over heights."""
    return {
        "scale": rising("scale", scale, _ABOVE_0, 1, "two rising fractions above 0 and up to 1"),
        "ratio": rising("ratio", ratio, _ABOVE_0, math.inf, "two rising numbers above 0"),
    }
