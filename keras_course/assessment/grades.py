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

__all__ = ["VERDICTS", "Grade", "Mistake", "new_key", "read_key", "read_result", "sign", "verify", "write_result"]

VERDICTS: Final = ("passed", "failed", "not graded")

_KEY_BYTES: Final = 32
_LARGEST_RESULT: Final = 2**24
_TEXTS: Final = ("model", "verdict", "reason", "graded_at")
"""The texts in every result, of every version."""
_PURPOSE: Final = b"keras-course result, version 1\n"
"""A prefix of the signed text, so that a signature from another use of the key does not fit."""


class Mistake(NamedTuple):
    """A misclassified photo."""

    photo: str  # the file, relative to the folder of the exam
    label: str  # the true class
    answer: str  # the predicted class
    probability: float  # of the predicted class


@dataclass(frozen=True, kw_only=True)
class Grade:
    """The result of an exam; unknown fields are empty if the model could not be examined."""

    model: str  # the name of its file
    verdict: str  # one of VERDICTS
    reason: str  # for the verdict, in a sentence
    exam: Mapping[str, Any]  # the fields of Exam.to_dict
    learner: str = ""  # the name, if given
    model_sha256: str = ""
    model_bytes: int = 0
    format: str = ""  # such as "keras"
    runtime: str = ""
    class_names: tuple[str, ...] = ()
    class_order: str = ""  # of the classes in the model's output: that of its card, or alphabetical
    picture_format: Mapping[str, Any] = field(default_factory=dict)
    photos: int = 0  # the number of photos that the model answered
    skipped: int = 0  # the number of files that could not be read
    data_sha256: str = ""  # a hash of the photos and their classes
    accuracy: float | None = None
    recalls: tuple[float, ...] = ()  # of each class
    confusion_matrix: list[list[int]] = field(default_factory=list)  # true classes in rows, predicted ones in columns
    unanswered: int = 0  # the number of photos without a unique largest logit, or with one that is not finite
    mistakes: tuple[Mistake, ...] = ()  # those with the highest probability
    seconds: float = 0.0  # that the grading took
    graded_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    version: str = __version__  # of this package

    @property
    def passed(self) -> bool:
        """True if the exam is passed."""
        return self.verdict == "passed"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON types."""
        mistakes = [mistake._asdict() for mistake in self.mistakes]
        return json.loads(json.dumps({**asdict(self), "mistakes": mistakes}, allow_nan=False))


def new_key(path: str | Path) -> None:
    """Writes a new key, which only its owner can read, into a new file."""
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
    """Returns a key that ``new_key`` wrote, and warns on stderr if other users can read it."""
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
    """Returns all fields of a grade and their signature, which is None without a key."""
    content = grade.to_dict()
    return {**content, "signature": None if key is None else _signature(content, key)}


def write_result(result: Mapping[str, Any], path: str | Path) -> None:
    """Writes a result that ``sign`` returned to a file; an existing one is replaced."""
    with replacing(path) as file:
        file.write((json.dumps(result, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))


def read_result(path: str | Path) -> bytes:
    """Returns the content of a file that may be a result; only the beginning of one that is too large."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise CourseError(f"{path} is not a file; give the result.json of keras-course assess")
        with Path(path).open("rb") as file:
            return file.read(_LARGEST_RESULT + 1)
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {reason_of(error)}") from None


def verify(text: str | bytes, key: bytes) -> dict[str, Any]:
    """Returns the fields of a result, after checking that it was signed with a key and is unchanged.

    Raises a ``CourseError`` if it is no result, has no signature, or was changed. Its indentation does not matter.
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
