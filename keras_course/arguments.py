"""Checks of arguments: numbers, ranges and switches, of Python or NumPy.

Each function returns plain Python values, which can be saved in a model or a checkpoint. An invalid value raises a
``CourseError`` that names the argument, the value and the remedy.
"""

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from numbers import Real
from typing import Any

import numpy as np

from keras_course.errors import CourseError

_SWITCHES = {0: False, 1: True}


def number(name: str, value: Any, low: float, high: float, remedy: str) -> float:
    """Reads a finite number within limits.

    Args:
        name: Name of the argument.
        value: An int or a float, of Python or NumPy, or an array of one number.
        low: The least valid number.
        high: The greatest valid number.
        remedy: Description of valid values, such as "a number from 0 to 90".

    Returns:
        A Python int or float.

    Raises:
        CourseError: It is not a number, a boolean, not finite, or outside of the limits.

    Example:
        >>> number("degrees", np.float64(20), 0, 90, "a number from 0 to 90")
        20.0
        >>> number("degrees", 100, 0, 90, "a number from 0 to 90")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: degrees is 100; give a number from 0 to 90
    """
    found = _python_value(value)
    if is_number(found) and low <= found <= high:
        return found
    raise CourseError(f"{name} is {shown(value)}; give {remedy}")


def whole_number(name: str, value: Any, low: int, remedy: str) -> int:
    """Reads a whole number.

    Args:
        name: Name of the argument.
        value: An int, of Python or NumPy.
        low: The least valid number.
        remedy: Description of valid values.

    Returns:
        A Python int.

    Raises:
        CourseError: It is not a whole number, or too small.

    Example:
        >>> whole_number("num_classes", np.int64(10), 1, "a whole number from 1 up")
        10
    """
    found = _python_value(value)
    if is_number(found) and isinstance(found, int) and found >= low:
        return found
    raise CourseError(f"{name} is {shown(value)}; give {remedy}")


def rising(name: str, value: Any, low: float, high: float, remedy: str) -> tuple[float, float]:
    """Reads a range: two finite numbers within limits, the smaller one first.

    Args:
        name: Name of the argument.
        value: A tuple, a list or an array.
        low: The least valid number.
        high: The greatest valid number.
        remedy: Description of valid values, such as "two rising numbers from 0 to 1".

    Returns:
        Two Python numbers.

    Raises:
        CourseError: They are not two finite numbers within the limits in rising order.

    Example:
        >>> rising("scale", [0.5, 1], 0, 1, "two rising numbers from 0 to 1")
        (0.5, 1)
        >>> rising("scale", (1, 0.5), 0, 1, "two rising numbers from 0 to 1")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: scale is (1, 0.5); give two rising numbers from 0 to 1
    """
    values = as_tuple(value)
    if (
        values is not None
        and len(values) == 2
        and all(map(is_number, values))
        and low <= values[0] <= values[1] <= high
    ):
        return values
    raise CourseError(f"{name} is {shown(value)}; give {remedy}")


def angles(name: str, value: Any, most: float) -> float | tuple[float, float]:
    """Reads the largest angle to either side, or the least and the greatest angle, in degrees.

    Args:
        name: Name of the argument.
        value: A number from 0 up, or two rising numbers.
        most: The largest valid angle.

    Returns:
        A Python number, or two.

    Raises:
        CourseError: It is neither, or an angle is too large.

    Example:
        >>> angles("degrees", 20, 90), angles("degrees", [-10, 30], 90)
        (20, (-10, 30))
    """
    remedy = f"a number from 0 to {most}, or two rising numbers from {-most} to {most}"
    if as_tuple(value) is None:
        return number(name, value, 0, most, remedy)
    return rising(name, value, -most, most, remedy)


def switch(name: str, value: Any) -> bool:
    """Reads a boolean.

    Args:
        name: Name of the argument.
        value: True, False, 1 or 0, of Python or NumPy.

    Returns:
        A Python bool.

    Raises:
        CourseError: It is something else.

    Example:
        >>> switch("horizontal_flip", np.True_)
        True
    """
    found = _python_value(value)
    if isinstance(found, bool | int | float) and found in _SWITCHES:
        return _SWITCHES[int(found)]
    raise CourseError(f"{name} is {shown(value)}; give True or False")


def is_number(value: Any) -> bool:
    """Returns whether a value is one finite number, of Python or NumPy, and not a boolean.

    Args:
        value: Any value.

    Returns:
        True for a number.

    Example:
        >>> is_number(np.float32(0.5)), is_number(True), is_number(float("nan"))
        (True, False, False)
    """
    found = _python_value(value)
    try:
        return isinstance(found, Real) and not isinstance(found, bool) and math.isfinite(found)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def as_tuple(value: Any) -> tuple[Any, ...] | None:
    """Converts a tuple, a list or an array of one axis to a tuple of Python values.

    Args:
        value: Any value.

    Returns:
        The tuple; None if the value is none of these.

    Example:
        >>> as_tuple(np.array([1, 2])), as_tuple(3)
        ((1, 2), None)
    """
    is_array = isinstance(value, np.ndarray) and value.ndim == 1
    return tuple(map(_python_value, value)) if is_array or isinstance(value, tuple | list) else None


def check_names(given: Iterable[str], known: Mapping[str, Any] | Iterable[str], what: str) -> None:
    """Checks that all arguments are known.

    Args:
        given: Names of the arguments.
        known: Known names.
        what: The function that takes them, for the message.

    Raises:
        CourseError: A name is unknown; the message suggests the most similar known name.

    Example:
        >>> check_names(["zoom"], ["zoom_range", "cval"], "ImageDataGenerator")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: zoom is no argument of ImageDataGenerator; do you mean zoom_range?
    """
    names = list(known)
    for name in given:
        if name not in names:
            near = get_close_matches(name, names, n=1, cutoff=0.5)
            remedy = f"do you mean {near[0]}?" if near else f"give some of {', '.join(names)}"
            raise CourseError(f"{name} is no argument of {what}; {remedy}")


def shown(value: Any) -> str:
    """Formats a value in one short line for an error message.

    Args:
        value: Any value.

    Returns:
        At most 80 characters.

    Example:
        >>> shown(np.float64(0.5)), shown("20")
        ('0.5', "'20'")
    """
    values = as_tuple(value)
    text = " ".join(repr(_python_value(value) if values is None else values).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _python_value(value: Any) -> Any:
    """Converts a number or boolean of NumPy, or an array of one, to Python's; returns other values unchanged."""
    is_single = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0)
    return value.item() if is_single else value
