"""Downloads that a class room can rely on: several sources, a hash, resuming, and an end to all waiting.

``requests`` speaks to the server, ``filelock`` keeps two processes apart. What is added here is the patience: a thread
does nothing but talk to the network and hands over what it gets; whatever it hangs in (name look-up, handshake, a body
that trickles), the caller stops waiting in time. The thread never touches the disk.

The folder may be one that others write to, too. No link is written through or, if it is another user's, followed.
"""

import contextlib
import errno
import hashlib
import ipaddress
import os
import queue
import re
import ssl
import stat
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from keras_course.errors import CourseError, DiskError, reason_of
from keras_course.files import Lock, is_own, open_to_append

__all__ = ["Patience", "fetch", "locked", "set_aside"]

CHUNK_BYTES = 8 * 1024
# Data flow when a block of this size arrives in time; fewer bytes are a trickle, which is as good as silence.
BLOCK_BYTES = 64 * 1024
LARGEST_FILE_BYTES = 2**30

# The first kind that fits is shown: `requests` writes its errors for programmers, in several lines.
_REASONS = (
    (requests.exceptions.InvalidSchema, "sends us to an address that is not https"),
    ((requests.exceptions.InvalidURL, ValueError), "sends us to an address that is none"),
    (requests.exceptions.TooManyRedirects, "sends us round in circles"),
    (requests.exceptions.SSLError, "the secure connection failed"),
    (requests.exceptions.ProxyError, "the proxy does not let us through"),
    (requests.exceptions.Timeout, "no answer in time"),
    (requests.exceptions.ChunkedEncodingError, "the connection was cut"),
    (requests.exceptions.ConnectionError, "no connection"),
    (requests.exceptions.ContentDecodingError, "sends what cannot be unpacked"),
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
    if _is_there(target, known_hash, largest):  # also where nothing can be written, not even a lock
        return target
    with locked(target.with_name(f"{file_name}.lock"), patience):
        try:
            if not _is_there(target, known_hash, largest):
                if target.exists():
                    set_aside(target)
                _try_sources(sources, target, known_hash, patience, largest)
        except OSError as error:
            raise _disk_error(target, error) from error
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
    lock = Lock(lock_file)
    try:
        _acquire(lock, patience)
    except OSError as error:
        raise _disk_error(lock.path, error) from error
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
    try:
        file.replace(broken)
    except OSError as error:
        raise CourseError(f"{file} is damaged and cannot be renamed to {broken.name} ({reason_of(error)})") from error
    print(f"{file} is damaged; it is now {broken.name}, and a fresh copy is looked for", file=sys.stderr)


def _is_there(file: Path, known_hash: str, largest: int) -> bool:
    """Says whether the file is there and right. A link of another user could lead to a pipe or a device."""
    try:
        entry, status = file.lstat(), file.stat()
        is_trusted = entry.st_uid in (getattr(os, "geteuid", int)(), 0, file.parent.stat().st_uid)
        if not stat.S_ISREG(status.st_mode) or status.st_size > largest:
            return False
        if not is_trusted and (stat.S_ISLNK(entry.st_mode) or not known_hash):
            return False
        return not known_hash or _has_hash(file, known_hash)
    except OSError:
        return False


def _has_hash(file: Path, known_hash: str) -> bool:
    algorithm, _, digits = known_hash.rpartition(":")
    with file.open("rb") as content:
        return hashlib.file_digest(content, algorithm or "sha256").hexdigest() == digits


def _acquire(lock: Lock, patience: Patience) -> None:
    """Take the lock; while another process has it, lose patience only if its partial files stand still."""
    folder = lock.path.parent
    arrived = _partial_bytes(folder)
    while not lock.acquire(timeout=min(1.0, patience.left())):
        before, arrived = arrived, _partial_bytes(folder)
        if arrived >= before + BLOCK_BYTES:
            patience.forgive()
        elif patience.left() <= 0:
            raise CourseError(f"another process holds {lock.path} and gets nowhere; end it, or wait")


def _partial_bytes(folder: Path) -> int:
    total = 0
    for part in folder.rglob("*.part"):
        with contextlib.suppress(OSError):  # it is complete by now
            status = part.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


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
    may_restart = True
    longest = _size(part)
    while True:
        patience.charge()
        is_resumed = _size(part) > 0
        try:
            _continue_part(url, part, patience, largest)
        except _SourceError:
            if _size(part) < longest + BLOCK_BYTES or patience.left() <= 0:
                raise
            longest = _size(part)
            continue
        if not known_hash or _has_hash(part, known_hash):
            part.replace(target)
            return
        part.unlink()
        if not (is_resumed and may_restart):
            raise _SourceError("wrong content")
        may_restart, longest = False, 0  # the beginning, perhaps of another file, may be to blame


def _continue_part(url: str, part: Path, patience: Patience, largest: int) -> None:
    """Fill the partial file from where it ends."""
    start = _size(part)
    with _Transfer(url, start, patience) as transfer:
        head = transfer.head()
        if head.status == 206 and not head.begins_at(start):
            raise _SourceError("sends another range than asked for")
        if head.status in (200, 206):
            # A server without ranges answers 200 and sends everything again.
            start = start if head.status == 206 else 0
            with open_to_append(part) as file, _progress_bar(part.stem, start, head.length()) as advance:
                if file.tell() < start:
                    raise _SourceError(f"{part.name} was changed meanwhile")
                file.truncate(start)
                file.seek(start)
                for chunk in transfer.chunks():
                    file.write(chunk)
                    advance(len(chunk))
                    if file.tell() > largest:
                        file.truncate(0)
                        raise _SourceError(f"more than {largest:,} bytes")
                file.flush()
                os.fsync(file.fileno())
        elif head.status != 416 or not start:
            raise _SourceError(f"HTTP status {head.status}")
        # 416 says that nothing lies behind the end of our part: the hash decides whether it is the whole file.


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
        self._url = url
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
            if problem := _problem_of_settings(self._url, item):
                raise CourseError(problem) from item  # no other source would help
            raise _SourceError(_reason(self._url, item)) from item
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


def _problem_of_settings(url: str, error: Exception) -> str:
    """What in the environment of this process keeps every download from working, as far as that is the cause."""
    variable, proxy = _proxy_of(url)
    if isinstance(error, requests.exceptions.InvalidSchema) and "SOCKS" in str(error):
        return f"{variable} names a SOCKS proxy, which needs PySocks, which is not installed; run: pip install PySocks"
    if proxy and not _is_address(proxy) and isinstance(error, (ValueError, requests.exceptions.RequestException)):
        return f"{variable} is not the address of a proxy; give one such as http://proxy.example.org:8080"
    # `requests` looks for the file before it connects, and reads it afterwards
    may_be_certificates = isinstance(error, requests.exceptions.SSLError) or type(error) is OSError
    return _problem_of_certificates(error) if may_be_certificates and url.startswith("https:") else ""


def _proxy_of(url: str) -> tuple[str, str]:
    """Gives the proxy that is used for an address, and the variable that names it; "" for none."""
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    names = [f"{urlsplit(url).scheme}_proxy", "all_proxy"]
    variables = [variable for name in names for variable in (name, name.upper()) if os.environ.get(variable)]
    return variables[0] if variables else "the system's setting", proxy or ""


def _is_address(proxy: str) -> bool:
    try:
        parts = urllib3.util.parse_url(requests.utils.prepend_scheme_if_needed(proxy, "http"))
        return parts.scheme in ("http", "https") and bool((parts.host or "").encode("idna"))
    except ValueError:
        return False


def _problem_of_certificates(error: Exception) -> str:
    """What is wrong with the file of certificates that a variable names. `requests` reads the first of two."""
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if named := os.environ.get(variable):
            return _unreadable_certificates(variable, Path(named))
    if (named := os.environ.get("SSL_CERT_FILE")) and _is_unknown_certificate(error):
        if problem := _unreadable_certificates("SSL_CERT_FILE", Path(named)):
            return problem
        return f"the server's certificate is not known; if it is in {named}, name that file in REQUESTS_CA_BUNDLE, too"
    return ""


def _unreadable_certificates(variable: str, file: Path) -> str:
    remedy = "give the file of your organisation's certificates, or leave the variable out"
    if not file.exists():
        return f"there is no {file}, which {variable} names; {remedy}"
    try:
        if file.is_file():  # a folder of certificates is looked into when one is wanted
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
        else:
            next(file.iterdir(), None)
    except ssl.SSLError:
        return f"{file}, which {variable} names, holds no certificates; {remedy}"
    except OSError as error:
        return f"{file}, which {variable} names, cannot be read ({reason_of(error)}); {remedy}"
    return ""


def _is_unknown_certificate(error: Exception) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _reason(url: str, error: Exception) -> str:
    if isinstance(error, requests.exceptions.ProxyError):
        variable, proxy = _proxy_of(url)
        if status := re.search(r"Tunnel connection failed: (\d{3})\b", str(error)):
            return f"the proxy that {variable} names refuses, HTTP status {status[1]}"
        if proxy:  # without the password that may be in it
            parts = urllib3.util.parse_url(requests.utils.prepend_scheme_if_needed(proxy, "http"))
            return f"the proxy {parts.netloc}, which {variable} names, cannot be reached"
    if _is_unknown_certificate(error):
        return "the server's certificate is not known, name your organisation's in REQUESTS_CA_BUNDLE if it has one"
    return next((words for kind, words in _REASONS if isinstance(error, kind)), type(error).__name__)


def _size(part: Path) -> int:
    """The bytes that have arrived; a file that is not ours is none of them."""
    try:
        status = part.lstat()
    except FileNotFoundError:
        return 0
    return status.st_size if is_own(status) else 0


def _disk_error(file: Path, error: OSError) -> DiskError:
    place = "KERAS_COURSE_CACHE may name another folder"
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = f"free some space and start again, what has arrived is kept; {place}" if is_full else place
    return DiskError(error.filename or file, error, remedy)


@contextlib.contextmanager
def _progress_bar(name: str, start: int, length: int | None) -> Iterator[Any]:
    """Show a bar on a terminal and nothing elsewhere; yields the function that advances it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.file.isatty()) as progress:
        task: TaskID = progress.add_task(name, total=None if length is None else start + length, completed=start)
        yield partial(progress.advance, task)
