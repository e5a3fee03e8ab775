"""Arguments of augmentation in other libraries, read as they are meant there.

Keras' ``ImageDataGenerator`` and torchvision count zooms, angles and shifts in ways of their own. These functions give
what they mean in numbers of ours; an argument that means what has no counterpart here ends in a ``CourseError``.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from keras_course.arguments import angles, as_tuple, check_names, is_number, number, rising, shown, switch
from keras_course.errors import CourseError

Harmless = tuple[Any, ...] | None
"""The values with which an argument does nothing; None for all of them."""

_ABOVE_0: Final = np.finfo("float32").tiny.item()
_MOST_PIXELS: Final = 2**14
_OURS: Final = ("value_range", "num_classes", "seed", "name")
"""Arguments of ``Augmentation`` that go together with those of other libraries."""

_NOTHING: Final = (None, False, 0)
_BEFORE: Final = "leave it out, and prepare the pictures before"
_NORMALISE: Final = "leave it out, and put a keras.layers.Normalization into the model"
_BILINEAR: Final = "leave it out: pictures are resampled bilinearly"
_KERAS: Final = (
    *("rotation_range", "width_shift_range", "height_shift_range", "brightness_range", "shear_range", "zoom_range"),
    *("fill_mode", "cval", "horizontal_flip", "vertical_flip"),
)
_NOT_OF_KERAS: Final[Mapping[str, tuple[Harmless, str]]] = {
    **dict.fromkeys(("featurewise_center", "featurewise_std_normalization"), (_NOTHING, _NORMALISE)),
    **dict.fromkeys(("samplewise_center", "samplewise_std_normalization", "zca_whitening"), (_NOTHING, _BEFORE)),
    "zca_epsilon": (None, ""),
    "channel_shift_range": (_NOTHING, "leave it out; brightness_range does something similar"),
    "rescale": (
        (*_NOTHING, 1),
        "leave it out: pixels keep their range, and a keras.layers.Rescaling in the model gives them another",
    ),
    "preprocessing_function": (_NOTHING, "leave it out, and call it on the pictures before"),
    "data_format": ((None, "channels_last"), "leave it out, and give pictures (batch, height, width, channels)"),
    "validation_split": (_NOTHING, "leave it out, and give it to fit"),
    "interpolation_order": ((1,), _BILINEAR),
    "dtype": ((None, "float32", np.float32), "leave it out: pictures keep their type"),
}
_TORCHVISION: Final = (
    *("degrees", "translate", "scale", "shear", "crop_scale", "crop_ratio", "horizontal_flip", "vertical_flip"),
    *("brightness", "contrast", "fill"),
)
_NOT_OF_TORCHVISION: Final[Mapping[str, tuple[Harmless, str]]] = {
    **dict.fromkeys(("saturation", "hue"), (_NOTHING, "leave it out, and change colours before")),
    "interpolation": ((None, "bilinear", 2), _BILINEAR),
    "center": ((None,), "leave it out: pictures are turned about their centre"),
    "expand": (_NOTHING, "leave it out: pictures keep their size"),
    "size": ((None,), "leave it out: pictures keep their size; resize them before"),
    "antialias": (None, ""),
}


def check_keras(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Checks further arguments beside those of ``ImageDataGenerator`` that have a counterpart.

    Args:
        settings: The arguments by name.

    Returns:
        Those of ``Augmentation``.

    Raises:
        CourseError: One is not known, or would do what has no counterpart.

    Example:
        >>> check_keras({"seed": 1, "zca_whitening": False, "rescale": 1.0})
        {'seed': 1}
        >>> check_keras({"dtype": "float16"})
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: dtype is 'float16', which has no counterpart here; leave it out: pictures ...
    """
    return _check(settings, _KERAS, _NOT_OF_KERAS, "like_image_data_generator")


def check_torchvision(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Checks further arguments beside those of torchvision's transforms that have a counterpart.

    Args:
        settings: The arguments by name.

    Returns:
        Those of ``Augmentation``.

    Raises:
        CourseError: One is not known, or would do what has no counterpart.

    Example:
        >>> check_torchvision({"seed": 1, "hue": 0})
        {'seed': 1}
    """
    return _check(settings, _TORCHVISION, _NOT_OF_TORCHVISION, "like_torchvision")


def value_within(name: str, value: Any, settings: Mapping[str, Any]) -> float:
    """Reads the value of a pixel, which must be within the range of values.

    Args:
        name: The argument, as the person knows it.
        value: What the person gave.
        settings: Where ``value_range`` may be among.

    Returns:
        A Python number.

    Raises:
        CourseError: It is no number, or outside of the range.

    Example:
        >>> value_within("cval", 2, {"value_range": (0, 1)})
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: cval is 2; give a number within value_range, (0, 1)
    """
    limits = settings.get("value_range", (0.0, 255.0))
    low, high = rising("value_range", limits, -math.inf, math.inf, "two rising numbers")
    return number(name, value, low, high, f"a number within value_range, {(low, high)}")


def keras_angle(name: str, value: Any, most: float) -> float:
    """Reads ``rotation_range`` or ``shear_range``: the largest angle to either side, in degrees.

    Args:
        name: The argument.
        value: What the person gave.
        most: The greatest angle.

    Returns:
        The angle; 0 for none.

    Raises:
        CourseError: It is no angle.

    Example:
        >>> keras_angle("rotation_range", None, 360)
        0
    """
    return 0 if _is_any(value, _NOTHING) else number(name, value, 0, most, f"a number from 0 to {most}")


def keras_switch(name: str, value: Any) -> bool:
    """Reads ``horizontal_flip`` or ``vertical_flip``, which are no probabilities there.

    Args:
        name: The argument.
        value: What the person gave.

    Returns:
        Whether to flip one half of the pictures.

    Raises:
        CourseError: It is no yes or no.

    Example:
        >>> keras_switch("horizontal_flip", 1)
        True
    """
    return False if value is None else switch(name, value)


def keras_shift(name: str, value: Any) -> tuple[str, float | tuple[float, ...]]:
    """Reads ``width_shift_range`` or ``height_shift_range``.

    A float below 1 is the largest way as a fraction, and one from 1 up in pixels. Of an int n, Keras draws one of the
    pixels 0 to n - 1, and of a list one of its values; each is drawn to either side. Those of a list are fractions
    where all are below 1.

    Args:
        name: The argument.
        value: What the person gave.

    Returns:
        "fraction" or "pixels", and the largest way or the ways to choose from; the way 0 for none.

    Raises:
        CourseError: It is nothing of this.

    Example:
        >>> keras_shift("width_shift_range", 0.1), keras_shift("width_shift_range", 3)
        (('fraction', 0.1), ('pixels', (0, 1, 2)))
    """
    remedy = "a fraction below 1, pixels from 1 up, or a list of values of which one is drawn"
    ways = as_tuple(value)
    if _is_any(value, _NOTHING) or ways == ():
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


def keras_zoom(name: str, value: Any) -> tuple[float, float]:
    """Reads ``zoom_range``: how much of the height, and of the width, is seen.

    Args:
        name: The argument.
        value: What the person gave: the least and the greatest, or how far they are from 1.

    Returns:
        The least and the greatest; what is seen at 0.5 looks twice as large.

    Raises:
        CourseError: It is neither, or not above 0.

    Example:
        >>> keras_zoom("zoom_range", 0.25), keras_zoom("zoom_range", [0.5, 1])
        ((0.75, 1.25), (0.5, 1))
    """
    remedy = "a fraction from 0 to below 1, or two rising numbers above 0"
    if as_tuple(value) is not None:
        return rising(name, value, _ABOVE_0, math.inf, remedy)
    change = 0 if _is_any(value, (False,)) else number(name, value, 0, 1 - 2**-20, remedy)
    return 1 - change, 1 + change


def to_the_other_side(name: str, value: Any, most: float) -> float | tuple[float, float]:
    """Reads an angle to either side, or a range of angles that torchvision counts the other way round.

    Args:
        name: The argument.
        value: What the person gave, in degrees.
        most: The greatest angle.

    Returns:
        The angle, or the range as it is counted here.

    Raises:
        CourseError: It is neither.

    Example:
        >>> to_the_other_side("degrees", 20, 360), to_the_other_side("degrees", (-10, 30), 360)
        (20, (-30, 10))
    """
    found = angles(name, value, most)
    return (-found[1], -found[0]) if isinstance(found, tuple) else found


def torchvision_shear(name: str, value: Any) -> float | tuple[float, float]:
    """Reads ``shear`` of ``RandomAffine``: one number, two, or four of which the last two, for columns, must be 0.

    Args:
        name: The argument.
        value: What the person gave, in degrees.

    Returns:
        The largest angle to either side, or the range as it is counted here.

    Raises:
        CourseError: It is nothing of this, or columns would be moved.

    Example:
        >>> torchvision_shear("shear", (5, 10, 0, 0))
        (-10, -5)
    """
    values = as_tuple(value)
    if values is not None and len(values) == 4:
        if values[2:] != (0, 0):
            raise CourseError(f"{name} is {shown(value)}; give two angles: columns are not moved here")
        values = values[:2]
    return to_the_other_side(name, 0 if value is None else values or value, 89)


def torchvision_translate(name: str, value: Any) -> tuple[float, float]:
    """Reads ``translate`` of ``RandomAffine``: the largest ways, as fractions of width and height.

    Args:
        name: The argument.
        value: What the person gave.

    Returns:
        The way across, and the way down.

    Raises:
        CourseError: They are not two fractions.

    Example:
        >>> torchvision_translate("translate", [0.1, 0.2])
        (0.1, 0.2)
    """
    ways = (0.0, 0.0) if value is None else as_tuple(value)
    if ways is None or len(ways) != 2 or not all(is_number(way) and 0 <= way <= 1 for way in ways):
        raise CourseError(f"{name} is {shown(value)}; give two fractions from 0 to 1, of width and height")
    return ways


def torchvision_jitter(name: str, value: Any) -> float | tuple[float, float]:
    """Reads ``brightness`` or ``contrast`` of ``ColorJitter``.

    Args:
        name: The argument.
        value: What the person gave: the largest change of a factor, which may be above 1, or two factors.

    Returns:
        The largest change, at most 1, or the least and the greatest factor.

    Raises:
        CourseError: It is neither.

    Example:
        >>> torchvision_jitter("contrast", 0.3), torchvision_jitter("contrast", 1.5)
        (0.3, (0.0, 2.5))
    """
    remedy = "a number from 0 up, or two rising factors from 0 up"
    if as_tuple(value) is not None:
        return rising(name, value, 0, math.inf, remedy)
    change = 0.0 if value is None else number(name, value, 0, math.inf, remedy)
    return change if change <= 1 else (0.0, 1.0 + change)


def torchvision_fill(value: Any) -> Any:
    """Reads ``fill`` of ``RandomAffine``, where None is 0 and several numbers are one for each channel.

    Args:
        value: What the person gave.

    Returns:
        One value, if all are the same; else what was given.

    Example:
        >>> torchvision_fill((7, 7, 7)), torchvision_fill(None)
        (7, 0.0)
    """
    values = as_tuple(value)
    if values and all(is_number(one) and one == values[0] for one in values):
        return values[0]
    return 0.0 if value is None else value


def _check(
    settings: Mapping[str, Any], known: tuple[str, ...], others: Mapping[str, tuple[Harmless, str]], what: str
) -> dict[str, Any]:
    """Checks that arguments are known, and that those without a counterpart do nothing."""
    check_names(settings, [*known, *others, *_OURS], what)
    for name, value in settings.items():
        harmless, remedy = others.get(name, (None, ""))
        plain = getattr(value, "value", value)  # torchvision's enum of interpolations
        if harmless is not None and not _is_any(plain, harmless):
            raise CourseError(f"{name} is {shown(value)}, which has no counterpart here; {remedy}")
    return {name: value for name, value in settings.items() if name in _OURS}


def _is_any(value: Any, others: tuple[Any, ...]) -> bool:
    """Says whether a value is one of others; a number or boolean of NumPy is the same as Python's."""
    if isinstance(value, np.ndarray | np.generic) and value.ndim == 0:
        value = value.item()
    is_plain = isinstance(value, bool | int | float | str)
    return any(value is other or (is_plain and value == other) for other in others)
