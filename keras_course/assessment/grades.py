"""Grades as signed JSON files.

The signature is an HMAC with SHA-256 over all other fields. The same key makes and verifies signatures, so the teacher
keeps it, and no process that opens a model sees it.
"""

import hashlib
import hmac
import json
import os
import secrets
import stat
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from keras_course import __version__
from keras_course.errors import CourseError, DiskError, reason_of
from keras_course.files import replacing

__all__ = [
    "VERDICTS",
    "Grade",
    "Mistake",
    "new_key",
    "read_key",
    "read_result",
    "sign",
    "verify",
    "write_result",
]

VERDICTS: Final = ("passed", "failed", "not graded")

_KEY_BYTES: Final = 32
_LARGEST_RESULT: Final = 2**24
_TEXTS: Final = ("model", "verdict", "reason", "graded_at")
"""The texts in every result, of every version."""
_PURPOSE: Final = b"keras-course result, version 1\n"
"""A prefix of the signed text, so that a signature from another use of the key does not fit."""


class Mistake(NamedTuple):
    """A misclassified photo.

    Args:
        photo: The file, relative to the folder of the exam.
        label: The true class.
        answer: The predicted class.
        probability: The probability of the predicted class.
    """

    photo: str
    label: str
    answer: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Grade:
    """The result of an exam; unknown fields are empty if the model could not be examined.

    Args:
        model: The name of the model's file.
        verdict: ``passed``, ``failed`` or ``not graded``.
        reason: The reason for the verdict, in a sentence.
        exam: The fields of ``Exam.to_dict``.
        learner: The name of the learner, if given.
        model_sha256: The SHA-256 of the model file.
        model_bytes: The size of the model file.
        format: The format of the model, such as ``keras``.
        runtime: The runtime that computed the answers.
        class_names: The names of the classes.
        class_order: The order of the classes in the model's output: that of its card, or alphabetical.
        picture_format: The preprocessing of the photos.
        photos: The number of photos that the model answered.
        skipped: The number of files of the exam that could not be read.
        data_sha256: A hash of the photos and their classes.
        accuracy: The share of right answers.
        recalls: The recall of each class.
        confusion_matrix: The number of photos by true class (rows) and predicted class (columns).
        unanswered: The number of photos without a unique largest logit, or with a logit that is not finite.
        mistakes: The mistakes with the highest probability.
        seconds: The time that the grading took.
        graded_at: The time of the grading, in UTC.
        version: The version of this package.
    """

    model: str
    verdict: str
    reason: str
    exam: Mapping[str, Any]
    learner: str = ""
    model_sha256: str = ""
    model_bytes: int = 0
    format: str = ""
    runtime: str = ""
    class_names: tuple[str, ...] = ()
    class_order: str = ""
    picture_format: Mapping[str, Any] = field(default_factory=dict)
    photos: int = 0
    skipped: int = 0
    data_sha256: str = ""
    accuracy: float | None = None
    recalls: tuple[float, ...] = ()
    confusion_matrix: list[list[int]] = field(default_factory=list)
    unanswered: int = 0
    mistakes: tuple[Mistake, ...] = ()
    seconds: float = 0.0
    graded_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    version: str = __version__

    @property
    def passed(self) -> bool:
        """True if the exam is passed."""
        return self.verdict == "passed"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON types."""
        mistakes = [mistake._asdict() for mistake in self.mistakes]
        return json.loads(json.dumps({**asdict(self), "mistakes": mistakes}, allow_nan=False))


def new_key(path: str | Path) -> None:
    """Writes a new key, which only its owner can read.

    Args:
        path: The file, which must not exist: without an old key, its results cannot be verified.

    Raises:
        CourseError: The file exists, or cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "teacher.key")
        >>> new_key(path)
        >>> len(read_key(path))
        32
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CourseError(f"{path} is there already; results that it signed could not be verified without it") from None
    except OSError as error:
        raise CourseError(f"{path} cannot be written: {reason_of(error)}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
    except OSError as error:
        Path(path).unlink()  # an incomplete key is useless
        raise DiskError(path, error) from None


def read_key(path: str | Path) -> bytes:
    """Returns a key, and warns on stderr if other users can read it.

    Args:
        path: A file that ``new_key`` wrote.

    Returns:
        The key.

    Raises:
        CourseError: There is no such file, or it holds no key.

    Example:
        >>> read_key("no_such.key")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: no_such.key cannot be read: No such file or directory; make one with ...
    """
    if Path(path).exists() and not Path(path).is_file():  # opening a pipe would wait for a writer
        raise CourseError(f"{path} is not a file; make a key with keras-course new-key FILE")
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(10 * _KEY_BYTES)
        key = bytes.fromhex(text.decode("ascii").strip())
    except OSError as error:
        raise CourseError(
            f"{path} cannot be read: {reason_of(error)}; make one with keras-course new-key FILE"
        ) from None
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise CourseError(f"{path} holds no key; make one with keras-course new-key FILE")
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        print(f"others can read {path}, and could sign with it: chmod 600 {path}", file=sys.stderr)
    return key


def sign(grade: Grade, key: bytes | None) -> dict[str, Any]:
    """Returns a grade as a result, with its signature.

    Args:
        grade: The grade.
        key: The key; None leaves the result unsigned.

    Returns:
        All fields of the grade, and the signature.

    Example:
        >>> result = sign(Grade(model="a.keras", verdict="failed", reason="", exam={}), b"0" * 32)
        >>> verify(json.dumps(result), b"0" * 32)["verdict"]
        'failed'
    """
    content = grade.to_dict()
    return {**content, "signature": None if key is None else _signature(content, key)}


def write_result(result: Mapping[str, Any], path: str | Path) -> None:
    """Writes a result to a file.

    Args:
        result: The result that ``sign`` returns.
        path: The file; an existing one is replaced.
    """
    with replacing(path) as file:
        file.write((json.dumps(result, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))


def read_result(path: str | Path) -> bytes:
    """Returns the content of a file that may be a result.

    Args:
        path: The file.

    Returns:
        The content; only the beginning of a file that is too large.

    Raises:
        CourseError: There is no such file.

    Example:
        >>> read_result("no_such.json")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: no_such.json cannot be read: No such file or directory
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise CourseError(f"{path} is not a file; give the result.json of keras-course assess")
        with Path(path).open("rb") as file:
            return file.read(_LARGEST_RESULT + 1)
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {reason_of(error)}") from None


def verify(text: str | bytes, key: bytes) -> dict[str, Any]:
    """Returns the fields of a result, after checking that it was signed with a key and is unchanged.

    Args:
        text: The result as JSON; its indentation does not matter.
        key: The key.

    Returns:
        The fields of the result.

    Raises:
        CourseError: It is no result, has no signature, or was changed or signed with another key.

    Example:
        >>> verify('{"verdict": "passed", "signature": "00"}', b"0" * 32)
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: the signature does not fit: the result was changed, or signed with another key
    """
    if len(text) > _LARGEST_RESULT:
        raise CourseError(f"this is no result of keras-course assess: it has more than {_LARGEST_RESULT:,} bytes")
    try:
        content = json.loads(text, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
        signature = content.pop("signature")
        expected = _signature(content, key)
    # a number that no float can hold, or too many brackets, fails when the signature is computed
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CourseError(f"this is no result of keras-course assess: {reason_of(error)}") from None
    if signature is None:
        raise CourseError("the result is not signed; grade again with --key")
    if not isinstance(signature, str) or not hmac.compare_digest(
        signature.encode("utf-8", "replace"), expected.encode()
    ):
        raise CourseError("the signature does not fit: the result was changed, or signed with another key")
    if missing := [name for name in _TEXTS if not isinstance(content.get(name), str)]:
        raise CourseError(f"this is signed, but no result of keras-course assess: it has no text {missing[0]!r}")
    return content


def _signature(content: Mapping[str, Any], key: bytes) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hmac.new(key, _PURPOSE + text.encode("ascii"), hashlib.sha256).hexdigest()


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses JSON with a duplicate field, which readers could interpret in different ways."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("it has a field twice")
    return fields


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")
