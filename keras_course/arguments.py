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
    """Reads a finite number within limits; ``remedy`` describes valid values, such as "a number from 0 to 90"."""
    found = _python_value(value)
    if is_number(found) and low <= found <= high:
        return found
    raise CourseError(f"{name} is {shown(value)}; give {remedy}")


def whole_number(name: str, value: Any, low: int, remedy: str) -> int:
    """Reads a whole number from ``low`` up; ``remedy`` describes valid values."""
    found = _python_value(value)
    if is_number(found) and isinstance(found, int) and found >= low:
        return found
    raise CourseError(f"{name} is {shown(value)}; give {remedy}")


def rising(name: str, value: Any, low: float, high: float, remedy: str) -> tuple[float, float]:
    """Reads a range: two finite numbers within limits, the smaller one first; ``remedy`` describes valid values."""
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
    """Reads the largest angle to either side, or the least and the greatest angle, in degrees."""
    remedy = f"a number from 0 to {most}, or two rising numbers from {-most} to {most}"
    if as_tuple(value) is None:
        return number(name, value, 0, most, remedy)
    return rising(name, value, -most, most, remedy)


def switch(name: str, value: Any) -> bool:
    """Reads a boolean: True, False, 1 or 0, of Python or NumPy."""
    found = _python_value(value)
    if isinstance(found, bool | int | float) and found in _SWITCHES:
        return _SWITCHES[int(found)]
    raise CourseError(f"{name} is {shown(value)}; give True or False")


def is_number(value: Any) -> bool:
    """Returns whether a value is one finite number, of Python or NumPy, and not a boolean."""
    found = _python_value(value)
    try:
        return isinstance(found, Real) and not isinstance(found, bool) and math.isfinite(found)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def as_tuple(value: Any) -> tuple[Any, ...] | None:
    """Converts a tuple, a list or an array of one axis to a tuple of Python values; returns None for other values."""
    is_array = isinstance(value, np.ndarray) and value.ndim == 1
    return tuple(map(_python_value, value)) if is_array or isinstance(value, tuple | list) else None


def check_names(given: Iterable[str], known: Mapping[str, Any] | Iterable[str], what: str) -> None:
    """Checks that all arguments of the function ``what`` are known; an error suggests the most similar known name."""
    names = list(known)
    for name in given:
        if name not in names:
            near = get_close_matches(name, names, n=1, cutoff=0.5)
            remedy = f"do you mean {near[0]}?" if near else f"give some of {', '.join(names)}"
            raise CourseError(f"{name} is no argument of {what}; {remedy}")


def shown(value: Any) -> str:
    """Formats a value in one line of at most 80 characters, for an error message."""
    values = as_tuple(value)
    text = " ".join(repr(_python_value(value) if values is None else values).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _python_value(value: Any) -> Any:
    """Converts a number or boolean of NumPy, or an array of one, to Python's; returns other values unchanged."""
    is_single = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0)
    return value.item() if is_single else value
