"""Checks of the arguments of plots."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from keras_course.errors import CourseError

Numbers = npt.NDArray[np.float64]
_Value = TypeVar("_Value")


def column(name: str, values: npt.ArrayLike, *, length: int | None = None, finite: bool = False) -> Numbers:
    """Checks a column of numbers.

    Args:
        name: The name for error messages.
        values: Numbers of shape ``(n,)`` or ``(n, 1)``.
        length: The required n; None for any n from 1 up.
        finite: Whether all numbers must be finite; otherwise at least one must be.

    Returns:
        The numbers, float64 of shape ``(n,)``.

    Raises:
        CourseError: The shape differs, or too few numbers are finite.

    Example:
        >>> column("x", [[1], [2]])
        array([1., 2.])
        >>> column("x", [1, 2], length=3)
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: x has shape (2,); give 3 numbers
    """
    numbers = as_numbers(name, values)
    wanted = "one number after the other" if length is None else f"{length} numbers"
    if numbers.shape not in ((numbers.size,), (numbers.size, 1)) or (length or numbers.size) != numbers.size:
        raise CourseError(f"{name} has shape {numbers.shape}; give {wanted}")
    known = int(np.isfinite(numbers).sum())
    if known == 0 or (finite and known < numbers.size):
        raise CourseError(f"{name} has {numbers.size} values, {known} of them finite; give {wanted}")
    return numbers.ravel()


def points(names: str, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    """Checks two columns of the same length.

    Args:
        names: The names for error messages, as in ``"x and y"``.
        x: Finite numbers, shape ``(n,)`` or ``(n, 1)``.
        y: Numbers of the same shape; some may be NaN or infinite.

    Returns:
        Both, float64 of shape ``(n,)``.

    Raises:
        CourseError: One is not a column of numbers, or the lengths differ.

    Example:
        >>> points("x and y", [1, 2], [3])
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: x and y have lengths 2 and 1; give one y for each x
    """
    first, second = names.split(" and ")
    across, up = column(first, x, finite=True), column(second, y)
    if len(across) != len(up):
        raise CourseError(f"{names} have lengths {len(across)} and {len(up)}; give one {second} for each {first}")
    return across, up


def landscape(p: npt.ArrayLike, q: npt.ArrayLike, losses: npt.ArrayLike) -> tuple[Numbers, Numbers, Numbers]:
    """Checks a loss on a grid of two parameters.

    Args:
        p: Values of the first parameter, shape ``(columns,)``, increasing.
        q: Values of the second parameter, shape ``(rows,)``, increasing.
        losses: The loss of each pair, shape ``(rows, columns)``.

    Returns:
        All three in float64; losses that are not finite become NaN.

    Raises:
        CourseError: The shapes do not match, or no loss is finite.

    Example:
        >>> landscape([0, 1], [0, 1, 2], np.zeros((2, 3)))
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: losses have shape (2, 3); give (3, 2): a row for each q, a column for each p
    """
    across, up, heights = column("p", p, finite=True), column("q", q, finite=True), as_numbers("losses", losses)
    for name, values in {"p": across, "q": up}.items():
        if len(values) < 2 or not (np.diff(values) > 0).all():
            raise CourseError(f"{name} is {_shortened(values)}; give two or more numbers, each larger than the last")
    if heights.shape != (len(up), len(across)):
        raise CourseError(
            f"losses have shape {heights.shape}; give ({len(up)}, {len(across)}): a row for each q, a column for each p"
        )
    if not np.isfinite(heights).any():
        raise CourseError("losses hold no finite number; give the loss of each pair of p and q")
    return across, up, np.where(np.isfinite(heights), heights, np.nan)


def path(name: str, values: npt.ArrayLike) -> Numbers:
    """Checks the path of two parameters.

    Args:
        name: The name for error messages.
        values: The parameters after each step, shape ``(steps + 1, 2)``, with the start first. The last ones need not
            be finite.

    Returns:
        The path in float64, up to the first pair that is not finite.

    Raises:
        CourseError: The shape differs, or the start is not finite.

    Example:
        >>> path("path", [[0, 5], [1, 4], [float("inf"), 0]])
        array([[0., 5.],
               [1., 4.]])
    """
    steps = as_numbers(name, values)
    if steps.ndim != 2 or steps.shape[1] != 2 or not len(steps):
        raise CourseError(f"{name} has shape {steps.shape}; give (steps + 1, 2): a pair for each step, the start first")
    lost = np.flatnonzero(~np.isfinite(steps).all(axis=1))
    if 0 in lost:
        raise CourseError(f"{name} starts at {tuple(steps[0].tolist())}; give a start of two finite numbers")
    return steps[: lost[0]] if len(lost) else steps


def named(name: str, values: Mapping[str, _Value]) -> dict[str, _Value]:
    """Checks a mapping of names to values.

    Args:
        name: The name for error messages.
        values: The mapping.

    Returns:
        A dict with the same content.

    Raises:
        CourseError: It is not a mapping, or it is empty.

    Example:
        >>> named("curves", {})
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: curves is {}; give at least one under its name
    """
    if not isinstance(values, Mapping) or not values:
        raise CourseError(f"{name} is {values!r:.60}; give at least one under its name")
    return {str(key): value for key, value in values.items()}


def as_numbers(name: str, values: npt.ArrayLike) -> Numbers:
    """Converts values to float64.

    Args:
        name: The name for error messages.
        values: Numbers in any shape.

    Returns:
        The numbers, float64.

    Raises:
        CourseError: They are not numbers, or lists of different lengths.

    Example:
        >>> as_numbers("x", ["one"])
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: x is ['one'] and not all numbers; give an array of numbers
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CourseError(f"{name} is {values!r:.60} and not all numbers; give an array of numbers") from error


def _shortened(values: Numbers) -> str:
    return f"[{', '.join(f'{value:g}' for value in values[:4])}{', ...' if len(values) > 4 else ''}]"
