"""Exceptions with one-line messages for the user."""

import errno
import os
from numbers import Integral
from typing import Any, Final

_LONGEST_REASON: Final = 300


class CourseError(ValueError):
    """Bad input, explained in one line: it names the argument, the value and the remedy.

    The command line prints it without a traceback and ends with exit code 2. It is a ``ValueError``.

    Example:
        >>> raise CourseError("batch_size is 0; give a whole number from 1 up")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: batch_size is 0; give a whole number from 1 up
    """


class DivergenceError(CourseError):
    """A training that diverged; it carries the result up to that step.

    Args:
        message: What happened, at which step, and what to change.
        found: The result of the function up to that step.

    Example:
        >>> error = DivergenceError("the loss is nan", found=[2.5, 31.0])
        >>> error.found
        [2.5, 31.0]
    """

    def __init__(self, message: str, found: Any) -> None:
        super().__init__(message)
        self.found = found


class MissingPackageError(CourseError):
    """A package is not installed; the message says how to install it.

    Args:
        what: What needs the package.
        package: The import name of the package.
        install: The command that installs it.

    Example:
        >>> raise MissingPackageError("model.onnx", "onnxruntime", 'pip install "keras-course[onnx]"')
        Traceback (most recent call last):
        ...
        keras_course.errors.MissingPackageError: model.onnx needs onnxruntime, which is not installed; run: pip ...
    """

    def __init__(self, what: str, package: str, install: str) -> None:
        super().__init__(f"{what} needs {package}, which is not installed; run: {install}")


class DiskError(OSError, CourseError):
    """A file could not be written; an earlier version of it is unchanged.

    It is also an ``OSError``, so that a program can ignore it for a file in a cache.
    """

    def __init__(self, path: str | os.PathLike[str], error: Exception, remedy: str = "") -> None:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else reason_of(error)
        super().__init__(number or errno.EIO, reason, os.fspath(path))
        is_full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        self._remedy = remedy or ("free some space, then start again" if is_full else "choose another folder")

    def __str__(self) -> str:
        return f"cannot write {self.filename} ({self.strerror}); {self._remedy}"


def reason_of(error: BaseException) -> str:
    """Returns the message of an error of the system or a library in one short line, or the name of its class."""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return text if isinstance(error, CourseError) else text[:_LONGEST_REASON] or type(error).__name__


def check_positive(**arguments: int) -> None:
    """Checks that each argument is a whole number from 1 up.

    Args:
        **arguments: Values by the names of the arguments.

    Raises:
        CourseError: One is not; the message names it.

    Example:
        >>> check_positive(batch_size=0)
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: batch_size is 0; give a whole number from 1 up
    """
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise CourseError(f"{name} is {value!r}; give a whole number from 1 up")


def check_fractions(**arguments: float) -> None:
    """Checks that each argument is a fraction from 0 up to but not including 1."""
    for name, value in arguments.items():
        if not 0 <= value < 1:
            raise CourseError(f"{name} is {value}; give a fraction from 0 up to but not including 1")
