"""Finds the file of a model, and reads files of a model without following links."""

import os
import stat
from pathlib import Path
from typing import IO, Final

from keras_course.errors import CourseError, reason_of
from keras_course.pretrained.names import NAMES

__all__ = ["LARGEST_MODEL_BYTES", "files_of", "find_model", "is_pretrained", "open_file", "read_file", "size_of"]

LARGEST_MODEL_BYTES: Final = 2**31


def find_model(path: str | Path) -> Path:
    """Returns the path of a model: the named file or folder, or the model in the folder of a run.

    A pre-trained model, given by its name, is written to the cache if it is not there yet.
    """
    try:
        found = Path(path).expanduser()
        if (found / "model.keras").is_file():
            return found / "model.keras"
        is_there = found.exists()
    except (OSError, RuntimeError):  # the name is too long, or the user is unknown
        is_there = False
    if not is_there:
        if is_pretrained(path):
            from keras_course.pretrained import model_file

            return model_file(str(path))
        raise CourseError(f"there is no {path}; give a run folder or the file of a model")
    if not found.is_dir() and not found.is_file():  # opening a pipe would wait for a writer
        raise CourseError(f"{path} is not a file; give a run folder or the file of a model")
    if found.is_dir() and (found / "checkpoint.npz").exists():
        raise CourseError(f"{path} holds a run that has not ended, and no model yet; go on with it by --resume")
    return found


def is_pretrained(path: str | Path) -> bool:
    """Returns True for the name of a pre-trained model, unless a file or folder of that name exists."""
    return str(path) in NAMES and not Path(path).exists()


def files_of(path: Path, *, links: bool = False) -> list[Path]:
    """Returns the files of a model; unless allowed, links are refused, which could lead to somebody else's files."""
    files = [file for file in path.rglob("*") if file.is_symlink() or not file.is_dir()] if path.is_dir() else [path]
    for file in files:
        if not links and file != path and file.is_symlink():
            raise CourseError(f"{file} is a link, which is not followed; copy the file itself")
        if not file.is_file():
            raise CourseError(f"{file} is not a regular file; remove it")
        if not links and file.stat().st_nlink > 1:
            raise CourseError(f"{file} has several names (hard links); copy the file itself")
    return files


def size_of(path: Path, *, links: bool = False) -> int:
    """Returns the size of a model in bytes. See ``files_of``."""
    return sum(file.stat().st_size for file in files_of(path, links=links))


def open_file(path: Path) -> IO[bytes]:
    """Opens a regular file of a model for reading. It must not be a link, but the folders above it may be."""
    try:
        # without O_NONBLOCK, opening a pipe would wait for a writer
        flags = ("O_NOFOLLOW", "O_BINARY", "O_NONBLOCK", "O_CLOEXEC")
        descriptor = os.open(path, os.O_RDONLY | sum(getattr(os, name, 0) for name in flags))
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {reason_of(error)}") from None
    file = os.fdopen(descriptor, "rb")
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        file.close()
        raise CourseError(f"{path} is a link, or not a regular file; copy the file itself")
    return file


def read_file(path: Path) -> bytes:
    """Returns the bytes of a file of a model, unless it is a link; see ``open_file``."""
    with open_file(path) as file:
        return file.read(LARGEST_MODEL_BYTES)
