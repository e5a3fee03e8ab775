"""Checks of the arguments of plots."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from keras_course.errors import CourseError

Numbers = npt.NDArray[np.float64]
_Value = TypeVar("_Value")


def column(name: str, values: npt.ArrayLike, *, length: int | None = None, finite: bool = False) -> Numbers:
    """Returns values of shape (n,) or (n, 1) as float64 (n,), if one of them, or, with ``finite``, all are finite."""
    numbers = as_numbers(name, values)
    wanted = "one number after the other" if length is None else f"{length} numbers"
    if numbers.shape not in ((numbers.size,), (numbers.size, 1)) or (length or numbers.size) != numbers.size:
        raise CourseError(f"{name} has shape {numbers.shape}; give {wanted}")
    known = int(np.isfinite(numbers).sum())
    if known == 0 or (finite and known < numbers.size):
        raise CourseError(f"{name} has {numbers.size} values, {known} of them finite; give {wanted}")
    return numbers.ravel()


def points(names: str, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    """Returns finite x and their y as columns of one length; ``names``, for errors, is as in ``"x and y"``."""
    first, second = names.split(" and ")
    across, up = column(first, x, finite=True), column(second, y)
    if len(across) != len(up):
        raise CourseError(f"{names} have lengths {len(across)} and {len(up)}; give one {second} for each {first}")
    return across, up


def landscape(p: npt.ArrayLike, q: npt.ArrayLike, losses: npt.ArrayLike) -> tuple[Numbers, Numbers, Numbers]:
    """Returns p (columns,), q (rows,) and losses (rows, columns) in float64; losses that are not finite become NaN.

    Raises CourseError if p or q does not increase, shapes do not match, or no loss is finite.
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
    """Returns a path (steps + 1, 2) in float64, up to the first pair that is not finite; the start must be finite."""
    steps = as_numbers(name, values)
    if steps.ndim != 2 or steps.shape[1] != 2 or not len(steps):
        raise CourseError(f"{name} has shape {steps.shape}; give (steps + 1, 2): a pair for each step, the start first")
    lost = np.flatnonzero(~np.isfinite(steps).all(axis=1))
    if 0 in lost:
        raise CourseError(f"{name} starts at {tuple(steps[0].tolist())}; give a start of two finite numbers")
    return steps[: lost[0]] if len(lost) else steps


def named(name: str, values: Mapping[str, _Value]) -> dict[str, _Value]:
    """Returns a mapping as a dict with strings as keys; raises CourseError if it is empty or not a mapping."""
    if not isinstance(values, Mapping) or not values:
        raise CourseError(f"{name} is {values!r:.60}; give at least one under its name")
    return {str(key): value for key, value in values.items()}


def columns(name: str, values: Mapping[str, npt.ArrayLike], length: int) -> dict[str, Numbers]:
    """Returns a mapping of names to columns of ``length`` numbers; raises CourseError if it is empty."""
    return {key: column(f"{name}[{key!r}]", each, length=length) for key, each in named(name, values).items()}


def known_names(name: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raises CourseError if one of the names is not among those of ``curves``."""
    strangers = sorted(set(names) - set(known))
    if strangers:
        raise CourseError(f"{name} has {strangers[0]!r}, which is not in curves; give the same names")


def pair(name: str, both: tuple[npt.ArrayLike, npt.ArrayLike]) -> tuple[Numbers, Numbers]:
    """Returns a pair of finite x and their y as columns of one length."""
    if not isinstance(both, tuple | list) or len(both) != 2:
        raise CourseError(f"{name} is {both!r:.60}; give a pair (x, y)")
    return points(f"x of {name} and y of {name}", *both)


def as_numbers(name: str, values: npt.ArrayLike) -> Numbers:
    """Returns values in float64; raises CourseError if they are not numbers, or lists of different lengths."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CourseError(f"{name} is {values!r:.60} and not all numbers; give an array of numbers") from error


def _shortened(values: Numbers) -> str:
    return f"[{', '.join(f'{value:g}' for value in values[:4])}{', ...' if len(values) > 4 else ''}]"
