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

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from itertools import accumulate
from types import ModuleType
from typing import Any, ClassVar

import keras
import numpy as np

from keras_course import _backend, randomness
from keras_course._backend import resampling
from keras_course._backend.libraries import cast
from keras_course.errors import CourseError

Map = tuple[Any, Any, Any, Any, Any, Any]
"""An affine map for each picture, x = a·x' + b·y' + c and y = d·x' + e·y' + f, as six arrays (batch,).

It leads from a pixel (x', y') of the result to its place (x, y) in the picture, both counted in pixels from the centre,
x to the right and y down.
"""

Line = tuple[Any, Any, Any]
"""A colour change for each picture, gain·v + share·mean + offset, as three arrays (batch,)."""

IDENTITY: Map = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class Transform:
    """What all transforms have in common.

    ``draws`` says how many uniform numbers a transform needs for each picture; it is handed them as ``u``, a list of
    arrays (batch,), each from 0 up to but not including 1.
    """

    draws: ClassVar[int] = 0


class Geometry(Transform):
    """A transform that moves pixels."""

    def map(self, u: Sequence[Any], height: int, width: int, library: ModuleType) -> Map:
        """Returns the map of each picture."""
        raise NotImplementedError


class Colour(Transform):
    """A transform that changes what the pixels say, all of a picture alike."""

    def line(self, u: Sequence[Any], library: ModuleType) -> Line:
        """Returns the change of each picture."""
        raise NotImplementedError


@dataclass(frozen=True)
class Rotation(Geometry):
    """Turns a picture about its centre.

    Args:
        degrees: The largest angle, to either side.

    Example:
        >>> Rotation(15)
        Rotation(degrees=15)
    """

    degrees: float
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(0 <= self.degrees <= 180, "degrees", self.degrees, "a number from 0 to 180")

    def map(self, u: Sequence[Any], height: int, width: int, library: ModuleType) -> Map:
        """Returns the rotation back, by an angle uniform within the limits."""
        angle = _between(u[0], -np.radians(self.degrees), np.radians(self.degrees))
        cos, sin = library.cos(angle), library.sin(angle)
        return cos, -sin, 0.0, sin, cos, 0.0


@dataclass(frozen=True)
class Shift(Geometry):
    """Moves a picture.

    Args:
        height: The largest way up or down, as a fraction of the height.
        width: The largest way to the left or right, as a fraction of the width.

    Example:
        >>> Shift(height=0.1, width=0.1)
        Shift(height=0.1, width=0.1)
    """

    height: float = 0.0
    width: float = 0.0
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            _check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a fraction from 0 to 1")

    def map(self, u: Sequence[Any], height: int, width: int, library: ModuleType) -> Map:
        """Returns the way back, uniform within the limits."""
        right = _between(u[0], -self.width * width, self.width * width)
        down = _between(u[1], -self.height * height, self.height * height)
        return 1.0, 0.0, -right, 0.0, 1.0, -down


@dataclass(frozen=True)
class Zoom(Geometry):
    """Makes a picture larger or smaller about its centre.

    Args:
        low: The smallest factor; 0.8 shows the picture at 80 % of its size.
        high: The largest factor.
        keep_ratio: Whether height and width have the same factor.

    Example:
        >>> Zoom(0.9, 1.1)
        Zoom(low=0.9, high=1.1, keep_ratio=True)
    """

    low: float
    high: float
    keep_ratio: bool = True
    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _check(0 < self.low <= self.high, "low", self.low, f"a factor above 0 and up to high, {self.high}")

    def map(self, u: Sequence[Any], height: int, width: int, library: ModuleType) -> Map:
        """Returns the division by factors uniform within the limits."""
        across = _between(u[0], self.low, self.high)
        down = across if self.keep_ratio else _between(u[1], self.low, self.high)
        return 1.0 / across, 0.0, 0.0, 0.0, 1.0 / down, 0.0


@dataclass(frozen=True)
class Shear(Geometry):
    """Slants a picture: its rows are moved to the side, the more the farther from the centre.

    Args:
        degrees: The largest angle between a slanted column and an upright one, to either side.

    Example:
        >>> Shear(10)
        Shear(degrees=10)
    """

    degrees: float
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(0 <= self.degrees < 90, "degrees", self.degrees, "a number from 0 to 89")

    def map(self, u: Sequence[Any], height: int, width: int, library: ModuleType) -> Map:
        """Returns the shear back, by an angle uniform within the limits."""
        slope = library.tan(_between(u[0], -np.radians(self.degrees), np.radians(self.degrees)))
        return 1.0, -slope, 0.0, 0.0, 1.0, 0.0


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
            object.__setattr__(self, name, 0.5 if value is True else float(value))
            _check(0 <= value <= 1, name, value, "a probability from 0 to 1, or True")

    def map(self, u: Sequence[Any], height: int, width: int, library: ModuleType) -> Map:
        """Returns a sign for each axis."""
        across = library.where(u[0] < self.horizontal, np.float32(-1.0), np.float32(1.0)) if self.horizontal else 1.0
        down = library.where(u[1] < self.vertical, np.float32(-1.0), np.float32(1.0)) if self.vertical else 1.0
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

    Source: Szegedy et al., "Going deeper with convolutions", 2015; as torchvision's RandomResizedCrop, but for its ten
    attempts at a part that fits.
    """

    scale: tuple[float, float] = (0.8, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    draws: ClassVar[int] = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(self.scale))  # JSON knows only lists
        object.__setattr__(self, "ratio", tuple(self.ratio))
        _check(0 < self.scale[0] <= self.scale[1] <= 1, "scale", self.scale, "two rising fractions above 0 and up to 1")
        _check(0 < self.ratio[0] <= self.ratio[1], "ratio", self.ratio, "two rising numbers above 0")

    def map(self, u: Sequence[Any], height: int, width: int, library: ModuleType) -> Map:
        """Returns the part, as a scale and the place of its centre."""
        area = _between(u[0], *self.scale)
        ratio = library.exp(_between(u[1], *np.log(self.ratio)))
        across = library.minimum(library.sqrt(area * ratio), 1.0)
        down = library.minimum(library.sqrt(area / ratio), 1.0)
        right = (1.0 - across) * (u[2] - 0.5) * width
        below = (1.0 - down) * (u[3] - 0.5) * height
        return across, 0.0, right, 0.0, down, below


@dataclass(frozen=True)
class Brightness(Colour):
    """Multiplies all pixels of a picture by one factor.

    Args:
        change: The factor is uniform from 1 - change to 1 + change.

    Example:
        >>> Brightness(0.2)
        Brightness(change=0.2)
    """

    change: float
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(0 <= self.change <= 1, "change", self.change, "a fraction from 0 to 1")

    def line(self, u: Sequence[Any], library: ModuleType) -> Line:
        """Returns the factor."""
        return _between(u[0], 1 - self.change, 1 + self.change), 0.0, 0.0


@dataclass(frozen=True)
class Contrast(Colour):
    """Brings all pixels of a picture nearer to their mean, or farther from it.

    Args:
        change: The factor of the distances is uniform from 1 - change to 1 + change.

    Example:
        >>> Contrast(0.2)
        Contrast(change=0.2)
    """

    change: float
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(0 <= self.change <= 1, "change", self.change, "a fraction from 0 to 1")

    def line(self, u: Sequence[Any], library: ModuleType) -> Line:
        """Returns the factor, and the rest of the mean."""
        factor = _between(u[0], 1 - self.change, 1 + self.change)
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
        _check(0 <= self.change <= 1, "change", self.change, "a fraction from 0 to 1")

    def plane(self, u: Sequence[Any], height: int, width: int, library: ModuleType) -> Any:
        """Returns the factor of each pixel, (batch, height, width, 1); it is 1 in the middle and never below 0."""
        angle, slope = np.float32(2 * np.pi) * u[0], np.float32(self.change) * u[1]
        across = np.linspace(-1, 1, width, dtype="float32")[None, None, :, None]
        down = np.linspace(-1, 1, height, dtype="float32")[None, :, None, None]
        if library is not np:
            across, down = library.convert_to_tensor(across), library.convert_to_tensor(down)
        right, below = _over_pixels(slope * library.cos(angle)), _over_pixels(slope * library.sin(angle))
        return library.maximum(1.0 + right * across + below * down, 0.0)


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
        _check(0 <= self.deviation <= 1, "deviation", self.deviation, "a fraction from 0 to 1")


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
        object.__setattr__(self, "scale", tuple(self.scale))
        object.__setattr__(self, "ratio", tuple(self.ratio))
        _check(0 <= self.probability <= 1, "probability", self.probability, "a number from 0 to 1")
        _check(0 < self.scale[0] <= self.scale[1] <= 1, "scale", self.scale, "two rising fractions above 0 and up to 1")
        _check(0 < self.ratio[0] <= self.ratio[1], "ratio", self.ratio, "two rising numbers above 0")

    def box(self, u: Sequence[Any], library: ModuleType) -> tuple[Any, Any, Any, Any]:
        """Returns centre and half size of each rectangle, x, y, across, down, as fractions; some are empty."""
        area = _between(u[0], *self.scale)
        ratio = library.exp(_between(u[1], *np.log(self.ratio)))
        across = library.minimum(library.sqrt(area * ratio), 1.0) / 2
        down = library.minimum(library.sqrt(area / ratio), 1.0) / 2
        hit = library.where(u[4] < self.probability, 1.0, 0.0)
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
        _check(0 < self.alpha <= 100, "alpha", self.alpha, "a number above 0 and up to 100")

    def share(self, u: Sequence[Any], library: ModuleType) -> Any:
        """Returns the share of the neighbour, from 0 to one half."""
        table = np.asarray(_small_beta_quantiles(self.alpha), "float32")
        place = u[0] * np.float32(len(table) - 1)
        below = library.floor(place)
        index = cast(below, "int32", library)
        table = table if library is np else library.convert_to_tensor(table)
        low, high = library.take(table, index, axis=0), library.take(table, index + 1, axis=0)
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
    for kind in (Rotation, Shift, Zoom, Shear, Flip, Crop, Brightness, Contrast, Light, Noise, Erasing, MixUp, CutMix)
}
"""All transforms, by name."""

FILLS = ("constant", "nearest", "reflect")
"""What lies outside of a picture: one value, its nearest pixel, or the picture in a mirror (d c b a | a b c d)."""


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
        num_classes: Number of classes, where labels are mixed.
        seed: Seed of all draws.
        name: The layer's name. Two of one name and seed draw alike.
        **kwargs: As for any Keras layer.

    Raises:
        CourseError: An argument makes no sense.

    Example:
        >>> augment = Augmentation([Rotation(15), Shift(0.1, 0.1), Zoom(0.9, 1.1), Brightness(0.2)], seed=0)
        >>> pictures = np.full((2, 28, 28, 1), 128, "uint8")
        >>> changed = augment.apply(pictures, step=0, library=np)
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
        super().__init__(name=name, **kwargs)
        strangers = [transform for transform in transforms if not isinstance(transform, tuple(TRANSFORMS.values()))]
        if strangers:
            raise CourseError(f"transforms has {strangers[0]!r}; give some of {', '.join(TRANSFORMS)}")
        if fill not in FILLS:
            raise CourseError(f"fill is {fill!r}; give one of {', '.join(FILLS)}")
        if not value_range[0] < value_range[1]:
            raise CourseError(f"value_range is {value_range}; give two rising numbers")
        # what a byte makes of 300 differs from backend to backend
        values = {f"value of {one}": one.value for one in transforms if isinstance(one, Erasing)}
        if fill == "constant" and any(isinstance(one, Geometry) for one in transforms):
            values["fill_value"] = fill_value
        low, high = value_range
        for what, value in values.items():
            _check(low <= value <= high, what, value, f"a number within value_range, {value_range}")
        self.transforms = tuple(transforms)
        self.fill, self.fill_value, self.value_range = fill, float(fill_value), tuple(map(float, value_range))
        self.num_classes, self.seed = num_classes, seed
        self._key = randomness.stream_key(seed, name, "augmentation")
        self._noise_key = randomness.stream_key(seed, name, "noise")

    @classmethod
    def like_image_data_generator(
        cls,
        *,
        rotation_range: float = 0.0,
        width_shift_range: float = 0.0,
        height_shift_range: float = 0.0,
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
        | ``width_shift_range=w, height_shift_range=h`` (fractions below 1) | ``Shift(height=h, width=w)`` |
        | ``shear_range=s`` (degrees) | ``Shear(s)`` |
        | ``zoom_range=z`` or ``(low, high)`` | ``Zoom(1 - z, 1 + z, keep_ratio=False)`` |
        | ``horizontal_flip, vertical_flip`` | ``Flip(horizontal, vertical)`` |
        | ``brightness_range=(1 - b, 1 + b)`` | ``Brightness(b)`` |
        | ``fill_mode, cval`` | ``fill, fill_value`` |

        A zoom factor there is one over that here. What it does besides (featurewise statistics, ZCA, channel shifts,
        ``fill_mode="wrap"``) has no counterpart.

        Args:
            rotation_range: As there.
            width_shift_range: As there.
            height_shift_range: As there.
            brightness_range: As there; symmetric about 1.
            shear_range: As there.
            zoom_range: As there.
            fill_mode: As there.
            cval: As there.
            horizontal_flip: As there.
            vertical_flip: As there.
            **settings: Further arguments of ``Augmentation``, such as ``seed``.

        Returns:
            The augmentation.

        Raises:
            CourseError: An argument has no counterpart.

        Example:
            >>> Augmentation.like_image_data_generator(rotation_range=10, horizontal_flip=True).transforms
            (Rotation(degrees=10), Flip(horizontal=0.5, vertical=0.0))
        """
        low, high = zoom_range if isinstance(zoom_range, Sequence) else (1 - zoom_range, 1 + zoom_range)
        dark, bright = brightness_range or (1.0, 1.0)
        _check(abs(dark + bright - 2) < 1e-6, "brightness_range", brightness_range, "a range symmetric about 1")
        wanted: dict[Transform, bool] = {
            Rotation(rotation_range): rotation_range > 0,
            Shift(height=height_shift_range, width=width_shift_range): height_shift_range + width_shift_range > 0,
            Shear(shear_range): shear_range > 0,
            Zoom(low, high, keep_ratio=False): (low, high) != (1, 1),
            Flip(horizontal_flip, vertical_flip): horizontal_flip or vertical_flip,
            Brightness(bright - 1): bright > 1,
        }
        transforms = [transform for transform, is_wanted in wanted.items() if is_wanted]
        return cls(transforms, fill=fill_mode, fill_value=cval, **settings)

    @classmethod
    def like_torchvision(
        cls,
        *,
        degrees: float = 0.0,
        translate: tuple[float, float] | None = None,
        scale: tuple[float, float] | None = None,
        shear: float = 0.0,
        crop_scale: tuple[float, float] | None = None,
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        horizontal_flip: float = 0.0,
        vertical_flip: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        fill: float = 0.0,
        **settings: Any,
    ) -> "Augmentation":
        """Makes the augmentation that torchvision's transforms of these arguments make, the course's newer way.

        | torchvision | here |
        |---|---|
        | ``RandomAffine(degrees, translate=(w, h), scale, shear, fill)`` | ``Rotation, Shift(h, w), Zoom, Shear`` |
        | ``RandomRotation(degrees)`` | ``Rotation(degrees)`` |
        | ``RandomResizedCrop(size, scale=crop_scale, ratio=crop_ratio)`` | ``Crop(crop_scale, crop_ratio)`` |
        | ``RandomHorizontalFlip(p)``, ``RandomVerticalFlip(p)`` | ``Flip(p, p)`` |
        | ``ColorJitter(brightness, contrast)`` | ``Brightness, Contrast`` |
        | ``RandomErasing(p, scale, ratio, value)`` | ``Erasing(p, scale, ratio, value)`` |
        | ``v2.MixUp(alpha, num_classes)``, ``v2.CutMix`` | ``MixUp(alpha)``, ``CutMix(alpha)``, ``num_classes`` |

        The ratio of a crop is relative to that of the picture, and its size is the picture's. Saturation and hue have
        no counterpart.

        Args:
            degrees: As there, a single number.
            translate: As there.
            scale: As there.
            shear: As there, a single number.
            crop_scale: ``scale`` of ``RandomResizedCrop``; None for no crop.
            crop_ratio: ``ratio`` of ``RandomResizedCrop``.
            horizontal_flip: ``p`` of ``RandomHorizontalFlip``.
            vertical_flip: ``p`` of ``RandomVerticalFlip``.
            brightness: As there, a single number.
            contrast: As there, a single number.
            fill: As there.
            **settings: Further arguments of ``Augmentation``, such as ``seed``.

        Returns:
            The augmentation.

        Raises:
            CourseError: An argument makes no sense.

        Example:
            >>> Augmentation.like_torchvision(degrees=10, translate=(0.1, 0.2), contrast=0.3).transforms
            (Rotation(degrees=10), Shift(height=0.2, width=0.1), Contrast(change=0.3))
        """
        across, down = translate or (0.0, 0.0)
        wanted: dict[Transform, bool] = {
            Crop(crop_scale or (1.0, 1.0), crop_ratio): crop_scale is not None,
            Flip(horizontal_flip, vertical_flip): horizontal_flip + vertical_flip > 0,
            Shear(shear): shear > 0,
            Zoom(*(scale or (1.0, 1.0))): scale is not None,
            Rotation(degrees): degrees > 0,
            Shift(height=down, width=across): across + down > 0,
            Brightness(brightness): brightness > 0,
            Contrast(contrast): contrast > 0,
        }
        return cls([transform for transform, is_wanted in wanted.items() if is_wanted], fill_value=fill, **settings)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the counter of training steps."""
        self.step = self.add_weight(
            name="step", shape=(), dtype="int32", initializer="zeros", trainable=False, aggregation="only_first_replica"
        )

    def call(self, images: Any, training: bool = False) -> Any:
        """Changes pictures (batch, height, width, channels) in training."""
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
            "transforms": [{"kind": type(transform).__name__, **asdict(transform)} for transform in self.transforms],
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
        self, images: Any, labels: Any = None, *, step: Any, first_row: Any = 0, library: ModuleType = keras.ops
    ) -> Any:
        """Changes a batch of pictures, and its labels where they are given.

        Args:
            images: Pictures (batch, height, width, channels), uint8 or float32 within the value range.
            labels: Class numbers (batch,), or probabilities (batch, classes).
            step: The number of the batch: another one, other changes.
            first_row: The number of the first picture, for a part of a batch.
            library: ``keras.ops``, or ``numpy`` for a pipeline on the host.

        Returns:
            Pictures of the same shape and type; with labels, the pair. Mixed labels are probabilities, float32.

        Raises:
            CourseError: Labels are mixed and not given, or the number of classes is not known, or images are uint8
                and the value range is not one of theirs.

        Example:
            >>> mirror = Augmentation([Flip(horizontal=True)])
            >>> row = np.arange(4, dtype="uint8").reshape(1, 1, 4, 1)
            >>> sorted({tuple(mirror.apply(row, step=step, library=np).ravel().tolist()) for step in range(20)})
            [(0, 1, 2, 3), (3, 2, 1, 0)]
        """
        if self._mixes and labels is None:
            raise CourseError(
                "labels are left out; MixUp and CutMix change them, so they have no place in a model or where it "
                "predicts; give labels, or leave out MixUp and CutMix"
            )
        change = self._on_the_host if library is np else self._on_the_device
        pixels, (numbers, *_) = change(images, step, first_row)
        if self._mixes:
            pixels, labels = self._mix(pixels, labels, numbers, library)
            pixels = _back_to(_kind(images, library), pixels, library)
        return pixels if labels is None else (pixels, labels)

    @property
    def _mixes(self) -> bool:
        return any(isinstance(transform, MixUp) for transform in self.transforms)

    @cached_property
    def _on_the_host(self) -> resampling.Run:
        return resampling.by_pictures_on_the_host(partial(self._draw, axis=resampling.axis), self._change)

    @cached_property
    def _on_the_device(self) -> resampling.Run:
        return _backend.by_pictures(partial(self._draw, axis=_backend.axis), self._change)

    def _draw(
        self, shape: Any, step: Any, first_row: Any, library: ModuleType, axis: resampling.Axis = resampling.axis
    ) -> tuple[Any, ...]:
        """Draws the numbers of all transforms, (batch, numbers), and finds the places that all geometry leads to."""
        batch, height, width, _ = shape
        columns = max(1, sum(transform.draws for transform in self.transforms))
        numbers = randomness.uniform(self._key, (batch, columns), step=step, first_row=first_row, library=library)
        back = IDENTITY
        for transform, u in self._deal(numbers, Geometry):
            back = compose(back, transform.map(u, height, width, library))
        if back is IDENTITY:
            return (numbers,)
        return numbers, *_places(back, library.zeros_like(numbers[:, 0]), height, width, axis, library)

    def _deal(self, numbers: Any, kinds: type | tuple[type, ...] = Transform) -> list[tuple[Any, list[Any]]]:
        """Deals the numbers out to the transforms, and returns those of some kinds with theirs."""
        ends = list(accumulate(transform.draws for transform in self.transforms))
        return [
            (transform, [numbers[:, column] for column in range(end - transform.draws, end)])
            for transform, end in zip(self.transforms, ends, strict=True)
            if isinstance(transform, kinds)
        ]

    def _change(self, images: Any, drawn: Any, first_row: Any, step: Any, library: ModuleType) -> Any:
        """Does all but the mixing, for which pictures are left in float32."""
        shape = images.shape if library is np else keras.ops.shape(images)
        _, height, width, _ = shape
        numbers, *places = drawn
        kind = _kind(images, library)
        low, high = self.value_range
        if kind == "uint8" and not 0 <= low < high <= 255:
            raise CourseError(f"value_range is {self.value_range} and images are uint8; give a range from 0 to 255")
        pixels = cast(images, "float32", library)
        if places:
            columns, rows = places
            pixels = _resample(pixels, columns, rows, self.fill, self.fill_value, library)
        pixels = self._recolour(pixels, numbers, height, width, library)
        pixels = self._disturb(pixels, numbers, step, first_row, shape, library)
        return pixels if self._mixes else _back_to(kind, pixels, library)

    def _recolour(self, pixels: Any, numbers: Any, height: int, width: int, library: ModuleType) -> Any:
        """Composes all changes of colour and light, and applies them in one pass."""
        gain, share, offset = 1.0, 0.0, 0.0
        changes = [transform.line(u, library) for transform, u in self._deal(numbers, Colour)]
        lights = [transform.plane(u, height, width, library) for transform, u in self._deal(numbers, Light)]
        if not changes and not lights:
            return pixels
        for next_gain, next_share, next_offset in changes:
            # the mean that the next change sees is gain·mean + share·mean + offset
            share = next_gain * share + next_share * (gain + share)
            offset = (next_gain + next_share) * offset + next_offset
            gain = next_gain * gain
        if changes:
            offset = offset + share * library.mean(pixels, axis=(1, 2, 3))
        gain, offset = _over_pixels(gain), _over_pixels(offset)
        low, high = self.value_range
        for plane in lights:  # light multiplies what is above black
            gain, offset = plane * gain, low + plane * (offset - low)
        return library.clip(pixels * gain + offset, low, high)

    def _disturb(
        self, pixels: Any, numbers: Any, step: Any, first_row: Any, shape: tuple[Any, ...], library: ModuleType
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
                    library=library,
                )
                noise = library.reshape(noise, (-1, height, width, channels))
                pixels = library.clip(pixels + np.float32(transform.deviation * (high - low)) * noise, low, high)
            else:
                inside = _inside(transform.box(u, library), height, width, library)
                pixels = library.where(inside, np.float32(transform.value), pixels)
        return pixels

    def _mix(self, pixels: Any, labels: Any, numbers: Any, library: ModuleType) -> tuple[Any, Any]:
        """Mixes pictures and labels with their neighbours."""
        _, height, width, _ = pixels.shape if library is np else keras.ops.shape(pixels)
        for transform, u in self._deal(numbers, MixUp):
            labels = self._as_probabilities(labels, library)
            neighbours, share = _rolled(pixels, library), transform.share(u, library)
            if isinstance(transform, CutMix):
                half = library.sqrt(share) / 2
                box = half + (1 - 2 * half) * u[1], half + (1 - 2 * half) * u[2], half, half
                inside = _inside(box, height, width, library)
                pixels = library.where(inside, neighbours, pixels)
                mask = cast(inside, "float32", library)
                share = library.mean(mask, axis=(1, 2, 3))  # in whole pixels
            else:
                pixels = pixels + _over_pixels(share) * (neighbours - pixels)
            labels = labels + library.expand_dims(share, 1) * (_rolled(labels, library) - labels)
        return pixels, labels

    def _as_probabilities(self, labels: Any, library: ModuleType) -> Any:
        if len(labels.shape) == 2:
            return cast(labels, "float32", library)
        if self.num_classes is None:
            raise CourseError("num_classes is left out; give it where labels are mixed")
        classes = library.arange(self.num_classes, dtype="int32")
        labels = cast(labels, "int32", library)
        is_right = library.expand_dims(labels, 1) == classes
        return library.where(is_right, np.float32(1.0), np.float32(0.0))


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


def warp(images: Any, back: Map, *, fill: str = "constant", fill_value: float = 0.0, library: ModuleType = np) -> Any:
    """Resamples pictures bilinearly along a map for each.

    Args:
        images: Pictures (batch, height, width, channels), float32.
        back: From each pixel of the result to its place in the picture; numbers or arrays (batch,).
        fill: What lies outside, one of ``FILLS``.
        fill_value: That value, for "constant".
        library: ``keras.ops``, or ``numpy``.

    Returns:
        Pictures of the same shape.

    Example:
        >>> row = np.arange(4, dtype="float32").reshape(1, 1, 4, 1)
        >>> warp(row, (1.0, 0.0, 0.5, 0.0, 1.0, 0.0), fill="nearest").ravel().tolist()
        [0.5, 1.5, 2.5, 3.0]
    """
    batch, height, width, _ = images.shape if library is np else keras.ops.shape(images)
    axis = resampling.axis if library is np else _backend.axis
    columns, rows = _places(back, library.zeros((batch,), dtype="float32"), height, width, axis, library)
    return _resample(images, columns, rows, fill, fill_value, library)


def _places(
    back: Map, zeros: Any, height: int, width: int, axis: resampling.Axis, library: ModuleType
) -> tuple[Any, Any]:
    """Finds where a map leads: a place is what its column gives plus what its row gives.

    Returns:
        x and y that the columns give, (batch, 2, width), and that the rows give, (batch, 2, height), as ``axis``
        counts.
    """
    matrix = library.reshape(library.stack([zeros + value for value in back], axis=1), (-1, 2, 3))
    by_column, by_row, shift = (matrix[..., column : column + 1] for column in range(3))  # (batch, 2, 1) each
    first, step = np.asarray([axis(width), axis(height)], "float32").T[..., None]  # (2, 1) each
    centre = np.asarray([[width - 1], [height - 1]], "float32") / 2
    across = (np.arange(width, dtype="float32") - centre[0]) * step
    down = (np.arange(height, dtype="float32") - centre[1]) * step
    middle = first + centre * step
    if library is not np:
        across, down, middle, step = (library.convert_to_tensor(array) for array in (across, down, middle, step))
    return by_column * across, by_row * down + (shift * step + middle)


def _resample(images: Any, columns: Any, rows: Any, fill: str, fill_value: float, library: ModuleType) -> Any:
    """Reads pictures at the places of their columns and rows, with a value of one's own outside."""
    offset = np.float32(fill_value if fill == "constant" else 0.0)
    if offset:
        images = images - offset
    if library is np:
        sampled = resampling.resample(images, columns, rows, fill, np)
    else:
        sampled = _backend.resample(images, columns, rows, fill)
    return sampled + offset if offset else sampled


def _kind(images: Any, library: ModuleType) -> str:
    return str(images.dtype) if library is np else keras.backend.standardize_dtype(images.dtype)


def _back_to(kind: str, pixels: Any, library: ModuleType) -> Any:
    """Gives float32 pixels the type that they came with."""
    if kind == "uint8":  # by way of int16: PyTorch turns floats into bytes one by one, and these many at a time
        pixels = cast(library.round(pixels), "int16", library)
    return cast(pixels, kind, library)


def _over_pixels(values: Any) -> Any:
    """Gives one value a picture the axes of the pictures."""
    return values if isinstance(values, float) else values[:, None, None, None]


def _inside(box: tuple[Any, Any, Any, Any], height: int, width: int, library: ModuleType) -> Any:
    """Says which pixels have their centres in a rectangle, given as fractions: booleans (batch, height, width, 1)."""
    x, y, across, down = (values[:, None, None] for values in box)
    columns = ((np.arange(width) + 0.5) / width).astype("float32")
    rows = ((np.arange(height) + 0.5) / height).astype("float32")[:, None]
    if library is not np:
        columns, rows = library.convert_to_tensor(columns), library.convert_to_tensor(rows)
    inside = library.logical_and(library.abs(columns - x) < across, library.abs(rows - y) < down)
    return library.expand_dims(inside, -1)


def _rolled(array: Any, library: ModuleType) -> Any:
    """Puts the neighbour of each row in its place; the neighbour of the last is the first."""
    return library.concatenate([array[1:], array[:1]], axis=0)


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


def _check(condition: bool, name: str, value: Any, remedy: str) -> None:
    if not condition:
        raise CourseError(f"{name} is {value}; give {remedy}")
