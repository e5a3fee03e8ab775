"""Atomic file replacement, locks, and files in folders that are shared with other users.

A shared folder, such as the cache of a class, may contain links that another user has put in the place of a file. They
are never written through. A file that cannot be written or locked raises a ``DiskError``, which names it.
"""

import errno
import glob
import hashlib
import io
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from keras_course.errors import DiskError

try:
    import fcntl
except ImportError:  # Windows: temporary files of killed processes stay
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import filelock

__all__ = [
    "Lock",
    "folder_beside",
    "is_archive",
    "is_own",
    "open_to_append",
    "remove_left_behind",
    "replacing",
    "replacing_by_name",
    "sha256_of",
]

_NO_LOCKS: Final = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of file systems without locks, such as those of some networks and clusters."""

_ARCHIVES: Final = (b"PK", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ")

_RANDOM: Final = "?" * 8
"""The random part of a name of ``tempfile``."""


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Opens a temporary file that replaces ``path`` if the block succeeds, and is deleted if it fails.

    Temporary files of the same name that a killed process has left behind are removed first.
    """
    path = Path(path)
    with _naming_file(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left_behind(path.parent, glob.escape(path.name))
        descriptor, beside = _new_file(path)
        try:
            with _Writer(io.FileIO(descriptor, "wb")) as file:
                yield file
                file.flush()
                os.fsync(descriptor)  # else a power cut can leave the new name on an empty file
                if fcntl is not None:
                    # by its descriptor: the name could lead to another file by now
                    os.fchmod(descriptor, _DEFAULT_MODE)
                    beside.replace(path)  # while it is locked, else another process could remove it
            if fcntl is None:  # Windows renames no open file
                beside.chmod(_DEFAULT_MODE)
                beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def replacing_by_name(path: str | Path) -> Iterator[Path]:
    """Yields a path of the same name for libraries that need one; the file written there replaces ``path``."""
    path = Path(path)
    with folder_beside(path) as folder:
        yield folder / path.name
        with (folder / path.name).open("rb+") as file:
            os.fsync(file.fileno())
        (folder / path.name).replace(path)


@contextmanager
def folder_beside(path: str | Path) -> Iterator[Path]:
    """Makes a temporary folder beside ``path`` that only this user can write to, and removes it when the block ends.

    Folders that a killed process has left behind are removed first.
    """
    path = Path(path)
    with _naming_file(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left_behind(path.parent, glob.escape(path.name))
        descriptor, folder = _new_folder(path)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if descriptor is not None:
                os.close(descriptor)


def open_to_append(path: str | Path) -> IO[bytes]:
    """Opens a file to append to, read and truncate. A link or the file of another user is removed and not followed."""
    path = Path(path)
    # without O_NONBLOCK a pipe would block
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    with _naming_file(path):
        try:
            if path.is_symlink():  # which Windows would follow
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise
        else:
            if is_own(os.fstat(descriptor)):
                file = os.fdopen(descriptor, "r+b")
                file.seek(0, os.SEEK_END)
                return file
            os.close(descriptor)
        path.unlink(missing_ok=True)
        return os.fdopen(os.open(path, flags | os.O_EXCL, 0o666), "r+b")


def is_own(status: os.stat_result) -> bool:
    """Returns whether the result of ``os.lstat`` is that of a file of this user without a second name (hard link)."""
    is_mine = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and is_mine


def remove_left_behind(folder: Path, pattern: str) -> None:
    """Removes temporary files of ``pattern``, such as ``*.npz``, of killed processes; those of running ones stay."""
    if fcntl is None:
        return
    for left in folder.glob(f".{pattern}.{_RANDOM}.part"):
        with suppress(OSError):  # in use, or another user's
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                status = os.fstat(descriptor)
                if status.st_uid != os.geteuid():
                    continue
                if stat.S_ISDIR(status.st_mode):
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink()
            finally:
                os.close(descriptor)


class Lock:
    """A lock file that one process at a time can hold.

    A link in its place is removed and not followed. On a file system without locks, one line on stderr says so, and the
    lock counts as held, since only simultaneous processes need it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: filelock.BaseFileLock | None = None

    @property
    def is_held(self) -> bool:
        """Whether this process holds the lock."""
        return self._lock is not None

    def acquire(self, timeout: float = 0.0) -> bool:
        """Takes the lock, waiting at most ``timeout`` seconds for another process; returns whether it is held now."""
        import filelock

        with _naming_file(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._remove_link()
            lock = filelock.FileLock(self.path)
            try:
                lock.acquire(timeout=max(0.0, timeout), poll_interval=0.05)
            except filelock.Timeout:
                return False
            except (OSError, NotImplementedError) as error:
                if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                    raise
                print(f"{self.path.parent} has no locks for files: let one process at a time use it", file=sys.stderr)
            self._lock = lock
        return True

    def release(self) -> None:
        """Releases the lock."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _remove_link(self) -> None:
        """Removes a link, a hard link or a pipe, which is never a lock."""
        with suppress(FileNotFoundError):
            status = os.lstat(self.path)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                self.path.unlink()


def is_archive(path: str | Path) -> bool:
    """Returns whether the content of a readable file is a zip, tar, 7z, RAR, gzip, bzip2 or xz archive."""
    try:
        if not Path(path).is_file():  # opening a pipe would block
            return False
        with Path(path).open("rb") as file:
            begin = file.read(262)
    except (OSError, ValueError):
        return False
    return begin.startswith(_ARCHIVES) or begin[257:] == b"ustar"


def sha256_of(path: str | Path) -> str:
    """Returns the hexadecimal SHA-256 of a file, without reading it at once."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _naming_file(path: Path) -> Iterator[None]:
    """Adds the file name to an error of the disk, which lacks it if an open file is written to."""
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        named = error.filename  # None for an open file, else perhaps an unrelated file
        if not isinstance(named, str | bytes | os.PathLike):
            raise DiskError(path, error) from error
        named = Path(os.fsdecode(named))
        if named in path.parents:  # a folder that cannot be created
            raise DiskError(named, error) from error
        if named == path or str(named).startswith(str(path.parent / f".{path.name}.")):
            raise DiskError(path, error) from error
        raise


class _Writer(io.BufferedWriter):
    """A writer without a file descriptor, through which Pillow would overlook a full disk."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


def _new_file(path: Path) -> tuple[int, Path]:
    """Creates an empty temporary file beside another one, locked so that no other process removes it."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        if _lock_new(descriptor):
            return descriptor, Path(name)
        os.close(descriptor)


def _new_folder(path: Path) -> tuple[int | None, Path]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        if fcntl is None:
            return None, folder
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            if _lock_new(descriptor):
                return descriptor, folder
            os.close(descriptor)


def _lock_new(descriptor: int) -> bool:
    """Locks a new file or folder; returns False if another process has removed it before that."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, where nothing is removed
        return True
    return os.fstat(descriptor).st_nlink > 0


def _default_mode() -> int:
    """Returns the mode of a file that ``open`` creates; mkstemp's files can only be read by the owner."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


_DEFAULT_MODE = _default_mode()
