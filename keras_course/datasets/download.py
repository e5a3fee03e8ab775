"""Downloads that a class room can rely on: several sources, a hash, resuming, and an end to all waiting.

``pooch`` checks the hash and puts the file in place, ``requests`` speaks to the server, ``filelock`` keeps two
processes apart. What is added here is the patience: a thread does nothing but talk to the network and hands
over what it gets; whatever it hangs in (name look-up, handshake, a body that trickles), the caller stops
waiting in time. The thread never touches the disk.
"""

import contextlib
import errno
import ipaddress
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch
import requests
from filelock import FileLock, Timeout
from requests.adapters import HTTPAdapter
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from keras_course.errors import CourseError

__all__ = ["Patience", "fetch", "locked", "set_aside"]

CHUNK_BYTES = 8 * 1024
# Data flow when a block of this size arrives in time; fewer bytes are a trickle, which is as good as silence.
BLOCK_BYTES = 64 * 1024
LARGEST_FILE_BYTES = 2**30

# The first kind that fits is shown: `requests` writes its errors for programmers, in several lines.
_REASONS = (
    (requests.exceptions.InvalidSchema, "sends us to an address that is not https"),
    (requests.exceptions.SSLError, "the secure connection failed"),
    (requests.exceptions.ProxyError, "the proxy does not let us through"),
    (requests.exceptions.Timeout, "no answer in time"),
    (requests.exceptions.ChunkedEncodingError, "the connection was cut"),
    (requests.exceptions.ConnectionError, "no connection"),
)


class Patience:
    """Say how long a download may wait: for an answer, for a block of data, and in vain altogether.

    Time in which data flow costs nothing. Every other second (a name look-up, a silent server, a trickle,
    another process that holds the lock) is paid from ``total``, which all sources and files share.

    Args:
        total: Seconds of fruitless waiting in all.
        first_byte: Seconds that one source has for its first answer, name look-up and handshake included.
        block: Seconds in which each further 64 KiB must arrive.

    Example:
        >>> patience = Patience(total=5.0, first_byte=1.5, block=1.5)
        >>> 4.0 < patience.left() <= 5.0
        True
    """

    def __init__(self, total: float = 180.0, first_byte: float = 15.0, block: float = 60.0) -> None:
        self.first_byte = first_byte
        self.block = block
        self._left = total
        self._since = time.monotonic()

    def left(self) -> float:
        """Return the seconds that may still be waited; zero or less when patience is at its end."""
        return self._left - (time.monotonic() - self._since)

    def charge(self) -> None:
        """Book the time since the last call as waited in vain."""
        self._left, self._since = self.left(), time.monotonic()

    def forgive(self) -> None:
        """Forget the time since the last booking, because it brought data."""
        self._since = time.monotonic()


class _SourceError(Exception):
    """One source failed; the next one may do better. The message is the reason, in a few words."""


def fetch(
    file_name: str,
    sources: Sequence[str],
    known_hash: str,
    folder: str | Path,
    *,
    patience: Patience | None = None,
    largest: int = LARGEST_FILE_BYTES,
) -> Path:
    """Give the path of a file whose hash is known, downloading it if it is not in the folder yet.

    The sources are asked in their order. What has arrived lies in ``<file_name>.part``, and the next attempt
    (now, in the next process, or from the next source) continues there. Proxies from the environment are used.

    Args:
        file_name: The name that the file gets in the folder.
        sources: Addresses of the same file, the best one first; https, or http on this computer.
        known_hash: The hash of the whole file: 64 hexadecimal digits for SHA-256, or ``md5:`` and 32. If it is empty,
            because the publisher gives none, the file is taken as it comes over a secure connection, and it is for the
            caller to look at it.
        folder: Where the file is kept; made when missing.
        patience: How long to wait; without it, minutes.
        largest: The most bytes to accept, so that a wrong source cannot fill the disk.

    Returns:
        The path of the complete file with the right hash.

    Raises:
        CourseError: No source delivered the file, a source is not https, or the folder cannot be written
            (no space, no permission). The message names the reasons; what has arrived is kept.

    Example:
        A file that is there and right needs no network:

        >>> import hashlib, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = Path(folder.name, "seven.txt").write_bytes(b"7")
        >>> sha256 = hashlib.sha256(b"7").hexdigest()
        >>> fetch("seven.txt", ["https://example.org/seven.txt"], sha256, folder.name).name
        'seven.txt'
        >>> folder.cleanup()

    Source:
        https://www.fatiando.org/pooch and RFC 9110, section 14 (Range requests).
    """
    for url in sources:
        if not _is_secure(url):
            raise CourseError(f"the download source {url} is not https; give an address that begins with https://")
    patience = patience or Patience()
    target = Path(folder) / file_name
    with locked(target.with_name(f"{file_name}.lock"), patience):
        try:
            if target.exists():
                if not known_hash or _has_hash(target, known_hash):
                    return target
                set_aside(target)
            _try_sources(sources, target, known_hash, patience, largest)
        except OSError as error:
            raise _disk_error(target.parent, error) from error
    return target


@contextlib.contextmanager
def locked(lock_file: str | Path, patience: Patience) -> Iterator[None]:
    """Hold a lock that only one process can hold, waiting for another one as long as its downloads grow.

    Args:
        lock_file: The file that stands for the lock. Its folder is made when missing.
        patience: How long to wait while nothing grows.

    Yields:
        Nothing; the lock is held inside the ``with`` block.

    Raises:
        CourseError: Another process holds the lock and gets nowhere, or the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder) / "digits.lock", Patience()):
        ...     print("alone")
        alone
    """
    lock_file = Path(lock_file)
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_file)
        _acquire(lock, lock_file.parent, patience)
    except (OSError, NotImplementedError) as error:
        raise _disk_error(lock_file.parent, error) from error
    try:
        yield
    finally:
        lock.release()


def set_aside(file: Path) -> None:
    """Rename a damaged file to ``<name>.broken`` and say so in one line on stderr; nothing is deleted.

    Args:
        file: The damaged file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "digits.npz").write_bytes(b"?")
        ...     set_aside(Path(folder, "digits.npz"))
        ...     [file.name for file in Path(folder).iterdir()]
        ['digits.npz.broken']
    """
    broken = file.with_name(f"{file.name}.broken")
    file.replace(broken)
    print(f"{file} is damaged; it is now {broken.name}, and a fresh copy is looked for", file=sys.stderr)


def _has_hash(file: Path, known_hash: str) -> bool:
    algorithm, _, digits = known_hash.rpartition(":")
    return pooch.file_hash(str(file), alg=algorithm or "sha256") == digits


def _acquire(lock: FileLock, folder: Path, patience: Patience) -> None:
    """Take the lock; while another process has it, lose patience only if its partial files stand still."""
    arrived = _partial_bytes(folder)
    while True:
        try:
            lock.acquire(timeout=max(0.0, min(1.0, patience.left())), poll_interval=0.05)
            return
        except Timeout:
            before, arrived = arrived, _partial_bytes(folder)
            if arrived >= before + BLOCK_BYTES:
                patience.forgive()
            elif patience.left() <= 0:
                raise CourseError(f"another process holds {lock.lock_file} and gets nowhere; end it, or wait") from None


def _partial_bytes(folder: Path) -> int:
    return sum(_size(part) for part in folder.rglob("*.part"))


def _try_sources(sources: Sequence[str], target: Path, known_hash: str, patience: Patience, largest: int) -> None:
    """Download from the first source that has the right file."""
    failures = []
    for url in sources:
        try:
            _download(url, target, known_hash, patience, largest)
            return
        except _SourceError as error:
            failures.append(f"{urlsplit(url).hostname}: {error}")
        if patience.left() <= 0:
            break
    raise CourseError(f"{target.name} could not be downloaded ({'; '.join(failures)})")


def _download(url: str, target: Path, known_hash: str, patience: Patience, largest: int) -> None:
    """Download from one source, coming back after a cut as long as each visit brings at least a block."""
    part = target.with_name(f"{target.name}.part")
    downloader = partial(_continue_part, part=part, patience=patience, largest=largest)
    may_restart = True
    longest = _size(part)
    while True:
        patience.charge()
        is_resumed = _size(part) > 0
        try:
            with _quiet_pooch():
                pooch.retrieve(url, known_hash or None, target.name, target.parent, downloader=downloader)
            return
        except ValueError as error:  # how pooch reports a wrong hash, after it has removed the file
            if not (is_resumed and may_restart):
                raise _SourceError("wrong content") from error
            may_restart, longest = False, 0  # the beginning, perhaps of another file, may be to blame
        except _SourceError:
            if _size(part) < longest + BLOCK_BYTES or patience.left() <= 0:
                raise
            longest = _size(part)


def _continue_part(url: str, output_file: str, _pooch: object, *, part: Path, patience: Patience, largest: int) -> None:
    """Fill the partial file from where it ends and hand it over to pooch, as one of its downloaders."""
    start = _size(part)
    with _Transfer(url, start, patience) as transfer:
        head = transfer.head()
        if head.status == 206 and not head.begins_at(start):
            raise _SourceError("sends another range than asked for")
        if head.status in (200, 206):
            # A server without ranges answers 200 and sends everything again.
            start = start if head.status == 206 else 0
            with part.open("ab" if start else "wb") as file, _progress_bar(part.stem, start, head.length()) as advance:
                for chunk in transfer.chunks():
                    file.write(chunk)
                    advance(len(chunk))
                    if file.tell() > largest:
                        file.truncate(0)
                        raise _SourceError(f"more than {largest:,} bytes")
        elif head.status != 416 or not start:
            raise _SourceError(f"HTTP status {head.status}")
        # 416 says that nothing lies behind the end of our part: the hash decides whether it is the whole file.
    part.replace(output_file)


@dataclass(frozen=True)
class _Head:
    """The status and headers of an answer."""

    status: int
    headers: Mapping[str, str]

    def begins_at(self, start: int) -> bool:
        return self.headers.get("Content-Range", "").startswith(f"bytes {start}-")

    def length(self) -> int | None:
        length = self.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else None


class _Transfer:
    """One GET request in a thread of its own, of which the caller takes as much as comes in time."""

    def __init__(self, url: str, start: int, patience: Patience) -> None:
        self._patience = patience
        self._deadline = time.monotonic() + patience.first_byte
        self._stopped = threading.Event()
        # First the head, then the chunks, then b"" or the error that ended it.
        self._items: queue.SimpleQueue[_Head | bytes | Exception] = queue.SimpleQueue()
        # A daemon: a name look-up cannot be interrupted, and must not keep Python from ending either.
        threading.Thread(target=self._talk, args=(url, start), name=f"download {url}", daemon=True).start()

    def __enter__(self) -> "_Transfer":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def head(self) -> _Head:
        head = self._take()
        assert isinstance(head, _Head)
        self._deadline = time.monotonic() + self._patience.block
        return head

    def chunks(self) -> Iterator[bytes]:
        arrived = 0
        while chunk := self._take():
            assert isinstance(chunk, bytes)
            arrived += len(chunk)
            if arrived >= BLOCK_BYTES:
                arrived = 0
                self._deadline = time.monotonic() + self._patience.block
                self._patience.forgive()
            yield chunk

    def _take(self) -> _Head | bytes:
        seconds = min(self._deadline - time.monotonic(), self._patience.left())
        try:
            item = self._items.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise _SourceError("no answer in time") from None
        if isinstance(item, Exception):
            raise _SourceError(_reason(item)) from item
        return item

    def _talk(self, url: str, start: int) -> None:
        # The hash is that of the stored bytes, so no compression may be added on the way.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        timeouts = (self._patience.first_byte, self._patience.block)
        try:
            with (
                _secure_session() as session,
                session.get(url, headers=headers, stream=True, timeout=timeouts) as answer,
            ):
                self._items.put(_Head(answer.status_code, answer.headers))
                for chunk in answer.iter_content(CHUNK_BYTES):
                    if self._stopped.is_set():
                        return
                    self._items.put(chunk)
            self._items.put(b"")
        except Exception as error:  # whatever it is, it belongs to the caller: a thread has nobody to tell
            self._items.put(error)


class _SecureAdapter(HTTPAdapter):
    """Speaks https, and http only to this computer. Redirections come by here too."""

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_secure(request.url):
            raise requests.exceptions.InvalidSchema(request.url)
        return super().send(request, *args, **kwargs)


def _secure_session() -> requests.Session:
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, _SecureAdapter())
    return session


def _is_secure(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and _is_this_computer(parts.hostname or ""))


def _is_this_computer(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    return next((words for kind, words in _REASONS if isinstance(error, kind)), type(error).__name__)


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _disk_error(folder: Path, error: Exception) -> CourseError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some space and start again; what has arrived is kept" if is_full else "choose another folder"
    return CourseError(f"cannot write to {folder} ({reason}); {remedy}, e.g. with KERAS_COURSE_CACHE=FOLDER")


@contextlib.contextmanager
def _progress_bar(name: str, start: int, length: int | None) -> Iterator[Any]:
    """Show a bar on a terminal and nothing elsewhere; yields the function that advances it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.file.isatty()) as progress:
        task: TaskID = progress.add_task(name, total=None if length is None else start + length, completed=start)
        yield partial(progress.advance, task)


@contextlib.contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Keep pooch from logging each address; a person gets one line or a progress bar."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
