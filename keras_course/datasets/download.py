"""Downloads with several sources, a hash, resuming after a cut, and time-outs for every kind of waiting.

``requests`` talks to the server, and ``filelock`` keeps two processes apart. The time-outs of ``requests`` cover
neither a name look-up that hangs nor headers that arrive byte by byte; so a thread receives, and the caller stops
waiting in time. The thread never touches the disk.

The folder may be shared with other users. Links are not written through, and those of other users are not followed.
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
# A source that delivers fewer bytes in the time of a block counts as silent.
BLOCK_BYTES = 64 * 1024
LARGEST_FILE_BYTES = 2**30

# The first matching reason is shown, since the messages of `requests` have several lines.
_REASONS = (
    (requests.exceptions.InvalidSchema, "redirects to an address that is not https"),
    ((requests.exceptions.InvalidURL, ValueError), "redirects to an invalid address"),
    (requests.exceptions.TooManyRedirects, "redirects in circles"),
    (requests.exceptions.SSLError, "the secure connection failed"),
    (requests.exceptions.ProxyError, "the proxy refused the connection"),
    (requests.exceptions.Timeout, "no answer in time"),
    (requests.exceptions.ChunkedEncodingError, "the connection was cut"),
    (requests.exceptions.ConnectionError, "no connection"),
    (requests.exceptions.ContentDecodingError, "sends content that cannot be unpacked"),
)


class Patience:
    """The time-outs of a download: for an answer, for a block of data, and for all waiting together.

    Time in which data arrive does not count. Every other second (a name look-up, a silent or very slow server, another
    process that holds the lock) is subtracted from ``total``, which all sources and files share.

    Args:
        total: Seconds of waiting without data, in all.
        first_byte: Seconds until the first answer of a source, including name look-up and handshake.
        block: Seconds until each further 64 KiB.

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
        """Returns the seconds that are left; zero or less when the time is over."""
        return self._left - (time.monotonic() - self._since)

    def charge(self) -> None:
        """Counts the time since the last call as waiting."""
        self._left, self._since = self.left(), time.monotonic()

    def forgive(self) -> None:
        """Does not count the time since the last call, because data have arrived."""
        self._since = time.monotonic()


class _SourceError(Exception):
    """A source has failed, and the next one is tried. The message is the reason, in a few words."""


def fetch(
    file_name: str,
    sources: Sequence[str],
    known_hash: str,
    folder: str | Path,
    *,
    patience: Patience | None = None,
    largest: int = LARGEST_FILE_BYTES,
) -> Path:
    """Returns the path of a file with a known hash, and downloads it if it is not in the folder yet.

    The sources are tried in their order. Received data are kept in ``<file_name>.part``; the next attempt, also of
    another process or from the next source, resumes there. Proxies from the environment are used.

    Args:
        file_name: The name of the file in the folder.
        sources: Addresses of the same file, the preferred one first; https, or http on this computer.
        known_hash: The hash of the whole file: 64 hexadecimal digits for SHA-256, or ``md5:`` and 32. If it is empty,
            because the publisher gives none, the file is accepted as it comes over a secure connection, and the caller
            has to check it.
        folder: The folder of the file; created if needed.
        patience: The time-outs; by default minutes.
        largest: Limit for the size in bytes, so that a wrong source cannot fill the disk.

    Returns:
        The path of the complete file with the right hash.

    Raises:
        CourseError: No source delivered the file, a source is not https, or the folder cannot be written to (no space,
            no permission). The message names the reasons; received data are kept.

    Example:
        An existing file with the right hash needs no network:

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
    if _is_valid(target, known_hash, largest):  # works in a read-only folder, too
        return target
    with locked(target.with_name(f"{file_name}.lock"), patience):
        try:
            if not _is_valid(target, known_hash, largest):
                if target.exists():
                    set_aside(target)
                _try_sources(sources, target, known_hash, patience, largest)
        except OSError as error:
            raise _disk_error(target, error) from error
    return target


@contextlib.contextmanager
def locked(lock_file: str | Path, patience: Patience) -> Iterator[None]:
    """Holds a lock that only one process can hold, and waits for another process as long as its downloads grow.

    Args:
        lock_file: The lock file. Its folder is created if needed.
        patience: The time-outs while no download grows.

    Yields:
        Nothing; the lock is held inside the ``with`` block.

    Raises:
        CourseError: Another process holds the lock and makes no progress, or the folder cannot be written to.

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
    """Renames a damaged file to ``<name>.broken`` and prints one line on stderr; nothing is deleted.

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
    print(f"{file} is damaged; it is renamed to {broken.name}, and a new copy is fetched", file=sys.stderr)


def _is_valid(file: Path, known_hash: str, largest: int) -> bool:
    """Returns whether the file exists with the right hash. A link of another user could lead to a pipe or a device."""
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
    """Takes the lock; while another process holds it, only the time in which its partial files do not grow counts."""
    folder = lock.path.parent
    arrived = _partial_bytes(folder)
    while not lock.acquire(timeout=min(1.0, patience.left())):
        before, arrived = arrived, _partial_bytes(folder)
        if arrived >= before + BLOCK_BYTES:
            patience.forgive()
        elif patience.left() <= 0:
            raise CourseError(f"another process holds {lock.path} and makes no progress; end it, or wait")


def _partial_bytes(folder: Path) -> int:
    total = 0
    for part in folder.rglob("*.part"):
        with contextlib.suppress(OSError):  # it is complete by now
            status = part.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def _try_sources(sources: Sequence[str], target: Path, known_hash: str, patience: Patience, largest: int) -> None:
    """Downloads from the first source that has the right file."""
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
    """Downloads from one source, and resumes after a cut as long as each attempt brings at least a block."""
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
        may_restart, longest = False, 0  # the resumed part may have been that of another file


def _continue_part(url: str, part: Path, patience: Patience, largest: int) -> None:
    """Resumes the partial file at its end."""
    start = _size(part)
    with _Transfer(url, start, patience) as transfer:
        head = transfer.head()
        if head.status == 206 and not head.begins_at(start):
            raise _SourceError("sends another range than requested")
        if head.status in (200, 206):
            # A server without ranges answers 200 and sends everything again.
            start = start if head.status == 206 else 0
            with open_to_append(part) as file, _progress_bar(part.stem, start, head.length()) as advance:
                if file.tell() < start:
                    raise _SourceError(f"{part.name} was changed by another process")
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
        # 416 means that nothing follows the partial file: the hash decides whether it is complete.


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
    """A GET request in its own thread; the caller takes the data that arrive in time."""

    def __init__(self, url: str, start: int, patience: Patience) -> None:
        self._url = url
        self._patience = patience
        self._deadline = time.monotonic() + patience.first_byte
        self._stopped = threading.Event()
        # First the head, then the chunks, then b"" or the error that ended it.
        self._items: queue.SimpleQueue[_Head | bytes | Exception] = queue.SimpleQueue()
        # a daemon thread, since a name look-up cannot be interrupted and must not keep Python from exiting
        threading.Thread(target=self._receive, args=(url, start), name=f"download {url}", daemon=True).start()

    def __enter__(self) -> "_Transfer":
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def head(self) -> _Head:
        head = self._next_item()
        assert isinstance(head, _Head)
        self._deadline = time.monotonic() + self._patience.block
        return head

    def chunks(self) -> Iterator[bytes]:
        arrived = 0
        while chunk := self._next_item():
            assert isinstance(chunk, bytes)
            arrived += len(chunk)
            if arrived >= BLOCK_BYTES:
                arrived = 0
                self._deadline = time.monotonic() + self._patience.block
                self._patience.forgive()
            yield chunk

    def _next_item(self) -> _Head | bytes:
        seconds = min(self._deadline - time.monotonic(), self._patience.left())
        try:
            item = self._items.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise _SourceError("no answer in time") from None
        if isinstance(item, Exception):
            if problem := _settings_problem(self._url, item):
                raise CourseError(problem) from item  # which all sources have
            raise _SourceError(_reason(self._url, item)) from item
        return item

    def _receive(self, url: str, start: int) -> None:
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
        except Exception as error:  # raised again in the caller's thread
            self._items.put(error)


class _SecureAdapter(HTTPAdapter):
    """Allows https, and http only for this computer, also after redirections."""

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


def _settings_problem(url: str, error: Exception) -> str:
    """Describes the environment variable that makes every download fail, if one is the cause; else returns ""."""
    variable, proxy = _proxy_of(url)
    if isinstance(error, requests.exceptions.InvalidSchema) and "SOCKS" in str(error):
        return f"{variable} names a SOCKS proxy, which needs PySocks, which is not installed; run: pip install PySocks"
    if proxy and not _is_address(proxy) and isinstance(error, (ValueError, requests.exceptions.RequestException)):
        return f"{variable} is not the address of a proxy; give one such as http://proxy.example.org:8080"
    # `requests` checks that the file exists before it connects, and reads it afterward
    may_be_certificates = isinstance(error, requests.exceptions.SSLError) or type(error) is OSError
    return _certificates_problem(error) if may_be_certificates and url.startswith("https:") else ""


def _proxy_of(url: str) -> tuple[str, str]:
    """Returns the variable that names the proxy for an address, and the proxy, "" for none."""
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


def _certificates_problem(error: Exception) -> str:
    """Describes the problem of the file of certificates that a variable names, else returns ""."""
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if named := os.environ.get(variable):
            return _unreadable_certificates(variable, Path(named))
    if (named := os.environ.get("SSL_CERT_FILE")) and _is_unknown_certificate(error):
        if problem := _unreadable_certificates("SSL_CERT_FILE", Path(named)):
            return problem
        return f"the server's certificate is unknown; if it is in {named}, set REQUESTS_CA_BUNDLE to that file, too"
    return ""


def _unreadable_certificates(variable: str, file: Path) -> str:
    remedy = "give the file of your organization's certificates, or leave the variable out"
    if not file.exists():
        return f"there is no {file}, which {variable} names; {remedy}"
    try:
        if file.is_file():  # a folder of certificates is searched on demand
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
        return "the server's certificate is unknown, set REQUESTS_CA_BUNDLE to that of your organization if it has one"
    return next((words for kind, words in _REASONS if isinstance(error, kind)), type(error).__name__)


def _size(part: Path) -> int:
    """Returns the number of received bytes; the file of another user does not count."""
    try:
        status = part.lstat()
    except FileNotFoundError:
        return 0
    return status.st_size if is_own(status) else 0


def _disk_error(file: Path, error: OSError) -> DiskError:
    place = "KERAS_COURSE_CACHE may name another folder"
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = f"free some space and start again, received data are kept; {place}" if is_full else place
    return DiskError(error.filename or file, error, remedy)


@contextlib.contextmanager
def _progress_bar(name: str, start: int, length: int | None) -> Iterator[Any]:
    """Shows a bar on a terminal and nothing elsewhere; yields the function that advances it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.file.isatty()) as progress:
        task: TaskID = progress.add_task(name, total=None if length is None else start + length, completed=start)
        yield partial(progress.advance, task)
