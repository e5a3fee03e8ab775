"""Downloads with several sources, a hash, resuming after a cut, and time-outs for every kind of waiting.

``requests`` talks to the server, and ``filelock`` keeps two processes apart. The folder may be shared with other users.
Links are not written through, and those of other users are not followed.
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
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

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
    """The time-outs of a download in seconds: for all waiting together, for an answer, and for each further 64 KiB.

    ``total`` is shared by all sources and files. Time in which data arrive does not count; a name look-up, a silent or
    very slow server, or another process that holds the lock does.
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
    """Returns the path of a file, and downloads it if it is not in the folder yet, which is created if needed.

    The sources, https or http on this computer, are tried in their order. Received data are kept in
    ``<file_name>.part``; the next attempt, also of another process or from the next source, resumes there.

    ``known_hash`` is 64 hexadecimal digits for SHA-256, or ``md5:`` and 32; "" if the publisher gives none, so that the
    caller has to check the file. ``largest`` is the limit in bytes, so that a wrong source cannot fill the disk. Raises
    a CourseError with the reasons if no source delivers the file or the folder cannot be written to.

    Source: RFC 9110, section 14 (Range requests).
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

    The folder is created if needed. Raises a CourseError if it cannot be written to, or if the other process makes no
    progress.
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
    """Renames a damaged file to ``<name>.broken`` and prints one line on stderr; nothing is deleted."""
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
    with contextlib.closing(_receive(url, start, patience)) as received:
        status, headers, length = next(received)
        if status == 206 and not headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise _SourceError("sends another range than requested")
        if status in (200, 206):
            # A server without ranges answers 200 and sends everything again.
            start = start if status == 206 else 0
            with open_to_append(part) as file, _progress_bar(part.stem, start, length) as advance:
                if file.tell() < start:
                    raise _SourceError(f"{part.name} was changed by another process")
                file.truncate(start)
                file.seek(start)
                for chunk in received:
                    file.write(chunk)
                    advance(len(chunk))
                    if file.tell() > largest:
                        file.truncate(0)
                        raise _SourceError(f"more than {largest:,} bytes")
                file.flush()
                os.fsync(file.fileno())
        elif status != 416 or not start:
            raise _SourceError(f"HTTP status {status}")
        # 416 means that nothing follows the partial file: the hash decides whether it is complete.


def _receive(url: str, start: int, patience: Patience) -> Generator[Any, None, None]:
    """Yields status, headers and length of an answer, then its bytes, as long as they arrive in time.

    ``requests`` has no time-out for a name look-up that hangs or for headers that arrive byte by byte, and neither can
    be interrupted. So a daemon thread receives, and is abandoned when it is late; it never touches the disk.
    """
    items: queue.SimpleQueue[Any] = queue.SimpleQueue()  # at the end b"", or the error
    is_abandoned = threading.Event()

    def request() -> None:
        # The hash is that of the stored bytes, so no compression may be added on the way.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        times = (patience.first_byte, patience.block)
        try:
            with _SecureSession() as session, session.get(url, headers=headers, stream=True, timeout=times) as answer:
                items.put((answer.status_code, answer.headers, answer.raw.length_remaining))
                for chunk in answer.iter_content(CHUNK_BYTES):
                    if is_abandoned.is_set():
                        return
                    items.put(chunk)
            items.put(b"")
        except Exception as error:  # raised again in the caller's thread
            items.put(error)

    threading.Thread(target=request, name=f"download {url}", daemon=True).start()
    deadline = time.monotonic() + patience.first_byte
    arrived = 0
    try:
        while True:
            try:
                item = items.get(timeout=max(0.0, min(deadline - time.monotonic(), patience.left())))
            except queue.Empty:
                raise _SourceError("no answer in time") from None
            if isinstance(item, Exception):
                if problem := _settings_problem(url, item):
                    raise CourseError(problem) from item  # which all sources have
                raise _SourceError(_reason(url, item)) from item
            if not item:
                return
            if isinstance(item, tuple):
                deadline = time.monotonic() + patience.block
            elif (arrived := arrived + len(item)) >= BLOCK_BYTES:
                arrived = 0
                deadline = time.monotonic() + patience.block
                patience.forgive()
            yield item
    finally:
        is_abandoned.set()


class _SecureSession(requests.Session):
    """Allows https, and http only for this computer, also after redirections."""

    def send(self, request: Any, **kwargs: Any) -> Any:
        if not _is_secure(request.url):
            raise requests.exceptions.InvalidSchema(request.url)
        return super().send(request, **kwargs)


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
    """Describes the problem of the file of certificates that a variable names, "" for none."""
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
        total = None if length is None else start + length
        yield partial(progress.advance, progress.add_task(name, total=total, completed=start))
