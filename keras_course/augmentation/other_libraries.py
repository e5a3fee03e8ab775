"""Class methods of ``Augmentation`` that take the arguments of other libraries.

Keras' ``ImageDataGenerator`` and torchvision define zooms, angles and shifts differently. An argument whose value has
no counterpart raises a ``CourseError``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from keras_course.arguments import angles, as_tuple, check_names, is_number, number, rising, shown, switch
from keras_course.augmentation.geometry import FILLS
from keras_course.augmentation.transforms import (
    ABOVE_0,
    Brightness,
    Contrast,
    Flip,
    Geometry,
    ResizedCrop,
    Rotation,
    Shear,
    Shift,
    Transform,
    Zoom,
)
from keras_course.errors import CourseError

if TYPE_CHECKING:
    from keras_course.augmentation.layer import Augmentation

Neutral = tuple[Any, ...] | None
"""The values for which an argument has no effect; None if it never has one."""

_MOST_PIXELS: Final = 2**14
_AUGMENTATION_ARGUMENTS: Final = ("value_range", "num_classes", "seed", "name")
"""Arguments of ``Augmentation`` that may stand beside those of other libraries."""

_OFF: Final = (None, False, 0)
_BEFORE: Final = "leave it out, and prepare the pictures before"
_NORMALIZE: Final = "leave it out, and put a keras.layers.Normalization into the model"
_BILINEAR: Final = "leave it out: pictures are resampled bilinearly"
_NOT_OF_KERAS: Final[Mapping[str, tuple[Neutral, str]]] = {
    **dict.fromkeys(("featurewise_center", "featurewise_std_normalization"), (_OFF, _NORMALIZE)),
    **dict.fromkeys(("samplewise_center", "samplewise_std_normalization", "zca_whitening"), (_OFF, _BEFORE)),
    "zca_epsilon": (None, ""),
    "channel_shift_range": (_OFF, "leave it out; brightness_range does something similar"),
    "rescale": (
        (*_OFF, 1),
        "leave it out: pixels keep their range, and a keras.layers.Rescaling in the model gives them another",
    ),
    "preprocessing_function": (_OFF, "leave it out, and call it on the pictures before"),
    "data_format": ((None, "channels_last"), "leave it out, and give pictures (batch, height, width, channels)"),
    "validation_split": (_OFF, "leave it out, and give it to fit"),
    "interpolation_order": ((1,), _BILINEAR),
    "dtype": ((None, "float32", np.float32), "leave it out: pictures keep their type"),
}
_NOT_OF_TORCHVISION: Final[Mapping[str, tuple[Neutral, str]]] = {
    **dict.fromkeys(("saturation", "hue"), (_OFF, "leave it out, and change colors before")),
    "interpolation": ((None, "bilinear", 2), _BILINEAR),
    "center": ((None,), "leave it out: pictures are rotated about their center"),
    "expand": (_OFF, "leave it out: pictures keep their size"),
    "size": ((None,), "leave it out: pictures keep their size; resize them before"),
    "antialias": (None, ""),
}


def like_image_data_generator(
    cls: "type[Augmentation]",
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
    """Returns the augmentation that equals Keras' ``ImageDataGenerator`` with these arguments.

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

    ``zoom_range`` is the visible share of the picture: 0.5 shows it twice as large. There are three differences.
    Keras up to 3.15 shifts pictures down by ``width_shift_range`` and to the side by ``height_shift_range``, and
    rotates pictures that are not square about a point beside their center; here both follow its documentation.
    Places less than one pixel beyond the edge are interpolated with ``cval``, where Keras takes ``cval`` alone.
    Pictures of bytes stay bytes.

    Statistics of the data, ZCA, channel shifts, ``rescale`` and ``fill_mode="wrap"`` have no counterpart: these
    arguments are accepted only with values that have no effect.

    Args:
        cls: The class of the layer.
        rotation_range: The largest angle in degrees.
        width_shift_range: Horizontal shifts.
        height_shift_range: Vertical shifts.
        brightness_range: The least and the greatest factor.
        shear_range: The largest shear angle in degrees.
        zoom_range: The least and the greatest visible share, or their largest distance from 1.
        fill_mode: One of ``FILLS``.
        cval: Value of pixels outside of a picture for "constant".
        horizontal_flip: Whether to flip half of the pictures between left and right.
        vertical_flip: Whether to flip half of the pictures between top and bottom.
        **settings: Further arguments of ``Augmentation``: ``seed``, ``value_range``, ``num_classes``, ``name``; and
            other arguments of ``ImageDataGenerator`` with values that have no effect.

    Raises:
        CourseError: An argument has no counterpart, is invalid, or is unknown.

    Example:
        >>> from keras_course.augmentation import Augmentation
        >>> Augmentation.like_image_data_generator(rotation_range=10, horizontal_flip=True).transforms
        (Rotation(degrees=10), Flip(horizontal=0.5, vertical=0.0))
    """
    ours = _checked_settings(settings, like_image_data_generator, _NOT_OF_KERAS)
    if not (isinstance(fill_mode, str) and fill_mode in FILLS):
        raise CourseError(f"fill_mode is {shown(fill_mode)}; give one of {', '.join(FILLS)}")
    turn = _keras_angle("rotation_range", rotation_range, 360)
    slant = _keras_angle("shear_range", shear_range, 89)
    ways = {
        "height": _keras_shift("height_shift_range", height_shift_range),
        "width": _keras_shift("width_shift_range", width_shift_range),
    }
    low, high = _keras_zoom("zoom_range", zoom_range)
    flips = {"horizontal_flip": horizontal_flip, "vertical_flip": vertical_flip}
    across, down = (False if value is None else switch(name, value) for name, value in flips.items())
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
    fill_value = _fill_value("cval", cval, transforms, ours) if fill_mode == "constant" else 0.0
    return cls(transforms, fill=fill_mode, fill_value=fill_value, **ours)


def like_torchvision(
    cls: "type[Augmentation]",
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
    """Returns the augmentation that equals torchvision's transforms with these arguments.

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
    | ``ColorJitter(contrast=c)`` or ``(low, high)`` | ``Contrast(c, gray=True)``, ``Contrast((low, high), ...)`` |
    | ``RandomErasing(p, scale, ratio=(a, b), v)``: height over width | ``Erasing(p, scale, (1 / b, 1 / a), v)`` |
    | ``v2.MixUp(alpha, num_classes)``, ``v2.CutMix`` | ``MixUp(alpha)``, ``CutMix(alpha)``, ``num_classes`` |

    The order is: crop, flip, ``RandomAffine``, ``ColorJitter`` with brightness first. Resampling is bilinear, and a
    crop is resized to the size of the picture. A later rotation or shift fills in pixels beside the crop from the
    picture; in torchvision they are lost. Brightness and contrast are clipped to the value range once, at the end.
    ``MixUp`` and ``CutMix`` draw a weight for each picture, at most 0.5, where torchvision draws one for the batch.
    ``Erasing`` counts ratios relative to that of the picture. Saturation and hue have no counterpart.

    Args:
        cls: The class of the layer.
        degrees: ``degrees`` of ``RandomAffine``.
        translate: ``translate`` of ``RandomAffine``.
        scale: ``scale`` of ``RandomAffine``.
        shear: ``shear`` of ``RandomAffine``, along the rows.
        crop_scale: ``scale`` of ``RandomResizedCrop``; None for no crop.
        crop_ratio: ``ratio`` of ``RandomResizedCrop``.
        horizontal_flip: ``p`` of ``RandomHorizontalFlip``.
        vertical_flip: ``p`` of ``RandomVerticalFlip``.
        brightness: ``brightness`` of ``ColorJitter``.
        contrast: ``contrast`` of ``ColorJitter``.
        fill: ``fill`` of ``RandomAffine``, one value for all channels.
        **settings: Further arguments of ``Augmentation``: ``seed``, ``value_range``, ``num_classes``, ``name``; and
            other arguments of these transforms with values that have no effect.

    Raises:
        CourseError: An argument has no counterpart, is invalid, or is unknown.

    Example:
        >>> from keras_course.augmentation import Augmentation
        >>> Augmentation.like_torchvision(degrees=10, scale=(0.8, 1.2), brightness=0.3).transforms
        (Zoom(low=0.8, high=1.2, keep_ratio=True, inverse=False), Rotation(degrees=10), Brightness(change=0.3))
    """
    ours = _checked_settings(settings, like_torchvision, _NOT_OF_TORCHVISION)
    flips = {"horizontal_flip": horizontal_flip, "vertical_flip": vertical_flip}
    chances = [number(name, value, 0, 1, "a probability, such as 0.5") for name, value in flips.items()]
    slant = _torchvision_shear("shear", shear)
    factors = None if scale is None else rising("scale", scale, ABOVE_0, math.inf, "two rising factors above 0")
    turn = _opposite_angle("degrees", degrees, 360)
    across, down = _torchvision_translate("translate", translate)
    jitter = {"brightness": brightness, "contrast": contrast}
    light, distance = (_torchvision_jitter(name, value) for name, value in jitter.items())
    transforms: list[Transform] = []
    if crop_scale is not None:
        shares = rising("crop_scale", crop_scale, ABOVE_0, 1, "two rising fractions above 0 and up to 1, or None")
        ratios = rising("crop_ratio", crop_ratio, ABOVE_0, math.inf, "two rising numbers above 0")
        transforms.append(ResizedCrop(shares, ratios))
    transforms += [Flip(*chances)] if any(chances) else []
    transforms += [Shear(slant)] if slant not in (0, (0, 0)) else []
    transforms += [Zoom(*factors)] if factors not in (None, (1, 1)) else []
    transforms += [Rotation(turn)] if turn not in (0, (0, 0)) else []
    transforms += [Shift(height=down, width=across, whole=True)] if across or down else []
    transforms += [Brightness(light)] if light not in (0, (1, 1)) else []
    transforms += [Contrast(distance, gray=True)] if distance not in (0, (1, 1)) else []
    fill_value = _fill_value("fill", _torchvision_fill(fill), transforms, ours)
    return cls(transforms, fill_value=fill_value, **ours)


def _fill_value(name: str, value: Any, transforms: Sequence[Transform], settings: Mapping[str, Any]) -> float:
    """Reads the value of pixels outside of a picture, which must be in ``value_range`` if a transform moves pixels."""
    if not any(isinstance(one, Geometry) for one in transforms):
        return number(name, value, -math.inf, math.inf, "a number")
    limits = settings.get("value_range", (0.0, 255.0))
    low, high = rising("value_range", limits, -math.inf, math.inf, "two rising numbers")
    return number(name, value, low, high, f"a number within value_range, {(low, high)}")


def _keras_angle(name: str, value: Any, most: float) -> float:
    """Reads ``rotation_range`` or ``shear_range``: the largest angle to either side, in degrees."""
    return 0 if _is_any(value, _OFF) else number(name, value, 0, most, f"a number from 0 to {most}")


def _keras_shift(name: str, value: Any) -> tuple[str, float | tuple[float, ...]]:
    """Reads ``width_shift_range`` or ``height_shift_range``: its unit, and the largest shift, or a tuple to draw from.

    An int n means one of 0 to n - 1 pixels. A list has fractions if all its values are below 1.
    """
    remedy = "a fraction below 1, pixels from 1 up, or a list of values of which one is drawn"
    ways = as_tuple(value)
    if _is_any(value, _OFF) or ways == ():
        return "fraction", 0.0
    if ways is None:
        most = number(name, value, 0, _MOST_PIXELS, remedy)
        if isinstance(most, int):
            return "pixels", tuple(range(most)) if most > 1 else 0.0
        return ("fraction" if most < 1 else "pixels"), most
    if not all(is_number(way) and abs(way) <= _MOST_PIXELS for way in ways):
        raise CourseError(f"{name} is {shown(value)}; give {remedy}")
    if max(ways) < 1 and min(ways) < -1:  # Keras takes them for fractions
        raise CourseError(f"{name} is {shown(value)}; give pixels without a sign: each is drawn to either side")
    return ("fraction" if max(ways) < 1 else "pixels"), ways


def _keras_zoom(name: str, value: Any) -> tuple[float, float]:
    """Reads ``zoom_range`` as the least and the greatest visible share of the height and of the width."""
    remedy = "a fraction from 0 to below 1, or two rising numbers above 0"
    if as_tuple(value) is not None:
        return rising(name, value, ABOVE_0, math.inf, remedy)
    change = 0 if _is_any(value, (False,)) else number(name, value, 0, 1 - 2**-20, remedy)
    return 1 - change, 1 + change


def _opposite_angle(name: str, value: Any, most: float) -> float | tuple[float, float]:
    """Reads an angle, or a range of angles that torchvision counts in the opposite direction."""
    found = angles(name, value, most)
    return (-found[1], -found[0]) if isinstance(found, tuple) else found


def _torchvision_shear(name: str, value: Any) -> float | tuple[float, float]:
    """Reads ``shear`` of ``RandomAffine``: one number, two, or four of which the last two, for columns, must be 0."""
    values = as_tuple(value)
    if values is not None and len(values) == 4:
        if values[2:] != (0, 0):
            raise CourseError(f"{name} is {shown(value)}; give two angles: columns are not moved here")
        values = values[:2]
    return _opposite_angle(name, 0 if value is None else values or value, 89)


def _torchvision_translate(name: str, value: Any) -> tuple[float, float]:
    """Reads ``translate`` of ``RandomAffine``: the largest shifts as fractions of width and height."""
    ways = (0.0, 0.0) if value is None else as_tuple(value)
    if ways is None or len(ways) != 2 or not all(is_number(way) and 0 <= way <= 1 for way in ways):
        raise CourseError(f"{name} is {shown(value)}; give two fractions from 0 to 1, of width and height")
    return ways


def _torchvision_jitter(name: str, value: Any) -> float | tuple[float, float]:
    """Reads ``brightness`` or ``contrast`` of ``ColorJitter``: a change, which may be above 1, or two factors."""
    remedy = "a number from 0 up, or two rising factors from 0 up"
    if as_tuple(value) is not None:
        return rising(name, value, 0, math.inf, remedy)
    change = 0.0 if value is None else number(name, value, 0, math.inf, remedy)
    return change if change <= 1 else (0.0, 1.0 + change)


def _torchvision_fill(value: Any) -> Any:
    """Reads ``fill`` of ``RandomAffine``: None is 0, and equal values for the channels are one value."""
    values = as_tuple(value)
    if values and all(is_number(one) and one == values[0] for one in values):
        return values[0]
    return 0.0 if value is None else value


def _checked_settings(
    settings: Mapping[str, Any], function: Any, others: Mapping[str, tuple[Neutral, str]]
) -> dict[str, Any]:
    """Returns the settings that are arguments of ``Augmentation``; the others must be known and have no effect."""
    check_names(settings, [*function.__kwdefaults__, *others, *_AUGMENTATION_ARGUMENTS], function.__name__)
    for name, value in settings.items():
        neutral, remedy = others.get(name, (None, ""))
        plain = getattr(value, "value", value)  # torchvision's enum of interpolations
        if neutral is not None and not _is_any(plain, neutral):
            raise CourseError(f"{name} is {shown(value)}, which has no counterpart here; {remedy}")
    return {name: value for name, value in settings.items() if name in _AUGMENTATION_ARGUMENTS}


def _is_any(value: Any, others: tuple[Any, ...]) -> bool:
    """Returns whether a value is one of the others; NumPy's numbers and booleans equal Python's."""
    if isinstance(value, np.ndarray | np.generic) and value.ndim == 0:
        value = value.item()
    is_plain = isinstance(value, bool | int | float | str)
    return any(value is other or (is_plain and value == other) for other in others)
