"""A grade as a file: what was examined and how it went, signed by whoever holds the key.

The signature is an HMAC with SHA-256 over all other fields. Whoever has the key can make one and can tell whether a
result is one that was signed with it; so the key stays with the teacher, and no process that opens a model sees it.
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
"""What every result has, whichever version wrote it."""
_PURPOSE: Final = b"keras-course result, version 1\n"
"""In front of what is signed, so that no other use of the same key could give a signature that fits here."""


class Mistake(NamedTuple):
    """A photo that was taken for another class.

    Args:
        photo: Its file, below the folder of the exam.
        label: What it shows.
        answer: What it was taken for.
        probability: How sure the model was.
    """

    photo: str
    label: str
    answer: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Grade:
    """What came out of an exam; what is not known, since the model could not be examined, is empty.

    Args:
        model: The name of the model's file.
        verdict: ``passed``, ``failed`` or ``not graded``.
        reason: Why, in a sentence.
        exam: What was asked, as ``Exam.to_dict`` says it.
        learner: Whose model it is, if that was said.
        model_sha256: Of the file that was examined.
        model_bytes: Its size.
        format: Such as ``keras``.
        runtime: What computed the answers.
        class_names: The classes.
        class_order: How it was known which answer means which class.
        picture_format: How the photos were prepared.
        photos: How many the model saw.
        skipped: How many files of the exam could not be read.
        data_sha256: Of the photos and their classes.
        accuracy: The share of right answers.
        recalls: The share of each class that was right.
        confusion_matrix: How many photos of each class (rows) were taken for each class (columns).
        unanswered: For how many photos no class had the largest number, or a number was none.
        mistakes: Those of which the model was surest.
        seconds: How long it took.
        graded_at: When, in UTC.
        version: Of this package.
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
        """Whether the exam is passed."""
        return self.verdict == "passed"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON has them."""
        mistakes = [mistake._asdict() for mistake in self.mistakes]
        return json.loads(json.dumps({**asdict(self), "mistakes": mistakes}, allow_nan=False))


def new_key(path: str | Path) -> None:
    """Writes a new key, which only its owner can read.

    Args:
        path: The file, which must not be there yet: with a lost key no earlier result could be verified.

    Raises:
        CourseError: There is such a file, or it cannot be written.

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
        Path(path).unlink()  # half a key could neither be used nor be made again
        raise DiskError(path, error) from None


def read_key(path: str | Path) -> bytes:
    """Reads a key; says so on stderr where others could read it, too.

    Args:
        path: A file that ``new_key`` has written.

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
    if Path(path).exists() and not Path(path).is_file():  # to open a pipe is to wait for somebody who writes into it
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
    """Writes a grade as a result.

    Args:
        grade: The grade.
        key: The teacher's key; None leaves the result unsigned.

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
    """Writes a result as a file.

    Args:
        result: As ``sign`` gives it.
        path: The file, which is replaced if it is there.
    """
    with replacing(path) as file:
        file.write((json.dumps(result, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace"))


def read_result(path: str | Path) -> bytes:
    """Reads a file that may be a result.

    Args:
        path: The file.

    Returns:
        What is in it; of one that is too large for a result, the beginning.

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
    """Makes sure that a result was signed with a key and has not been changed since.

    Args:
        text: The result, as JSON; how it is indented does not matter.
        key: The teacher's key.

    Returns:
        Its fields.

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
        content = json.loads(text, object_pairs_hook=_no_field_twice, parse_constant=_no_number)
        signature = content.pop("signature")
        expected = _signature(content, key)
    # a number that no float can hold, or more brackets than Python follows, is found when it is written again
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


def _no_field_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses what two readers could read in two ways."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("it has a field twice")
    return fields


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")
