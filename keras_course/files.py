"""Files that are either whole or as they were before."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Opens a file beside ``path`` that takes its place when the block ends well, and vanishes when it does not.

    Args:
        path: The file to write; its folder is made if needed.

    Yields:
        A binary file to write to.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with replacing(path) as file:
        ...     _ = file.write(b"1 2 3")
        >>> path.read_bytes()
        b'1 2 3'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # without it a power cut can leave the new name on an empty file
        beside.chmod(_DEFAULT_MODE)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def sha256_of(path: str | Path) -> str:
    """Computes the SHA-256 of a file, a piece at a time.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "empty.txt"
        >>> path.touch()
        >>> sha256_of(path)[:8]
        'e3b0c442'
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _default_mode() -> int:
    """What a plain ``open`` would give; mkstemp's files are for the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


_DEFAULT_MODE = _default_mode()
