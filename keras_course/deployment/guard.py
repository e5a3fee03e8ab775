"""Guards the application of ``keras-course serve``: limits, time-outs, allowed hosts and origins, and the access log.

A request occupies a place while the service works on it, not while its client sends or reads. ``connections`` limits
what a client can do before and after that.
"""

import asyncio
import ipaddress
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keras_course.errors import check_positive

Log = Callable[[str], None]

# Keys in the scope of a request.
ABORT: Final = "keras_course.abort"
"""The server's function that ends the connection, also in the middle of an answer."""
GIVE_UP: Final = "keras_course.give_up"
"""The application's function to call when the client has gone."""
IS_CLOSING: Final = "keras_course.is_closing"
"""The server's function that returns True once the connection has ended."""
INPUT_COUNT: Final = "keras_course.inputs"
"""The number of pictures or texts in the request."""
_REQUEST: Final = "keras_course.request"

FEW_BYTES: Final = 2**16
"""A body or an answer of at most so many bytes is small: it is always accepted, and sent in one piece."""
_LONGEST_PATH: Final = 200
LARGEST_DRAINED: Final = 2**26
"""The largest body that is received, though smaller ones are refused: a client reads that answer only after it has sent
the body."""
_DRAIN_SECONDS: Final = 2
_SAFE_HEADERS: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """The limits of one request, and of all requests together."""

    body_bytes: int = 2**23
    pixels: int = 25_000_000  # of a decoded picture
    pictures: int = 32  # in a form
    rows: int = 1024  # pictures in a prepared batch
    seconds: int = 20  # from the first byte of a request to its answer
    requests: int = 256  # that are processed at the same time; further ones are answered 503
    batch_size: int = 32  # pictures or texts in a batch of the model
    text_bytes: int = 2**18  # of the body of a request to a text model, instead of body_bytes
    texts: int = 128  # in a body
    characters: int = 10_000  # of a text
    # of all requests whose clients are still sending, or still reading a large answer; beyond it, the oldest of them is
    # dropped, and the requests that are processed may hold as much again
    waiting_bytes: int = 2**28

    def __post_init__(self) -> None:
        check_positive(**vars(self))


class Places:
    """Counts the requests that are processed, and the bytes of all requests."""

    def __init__(self, limits: RequestLimits) -> None:
        self.taken = 0
        self.bytes_of_taken = 0
        self._limits = limits
        self._waiting: dict[_Request, int] = {}  # the oldest first
        self._bytes_of_waiting = 0

    def add_waiting(self, request: "_Request", count: int) -> None:
        """Adds bytes to a request that waits for its client, and drops the oldest request if there are too many."""
        self._waiting[request] = self._waiting.get(request, 0) + count
        self._bytes_of_waiting += count
        if self._bytes_of_waiting > self._limits.waiting_bytes:
            oldest = next(iter(self._waiting))
            self.remove_waiting(oldest)
            oldest.give_up(for_others=True)

    def remove_waiting(self, request: "_Request") -> None:
        """Removes a request that no longer waits for its client."""
        self._bytes_of_waiting -= self._waiting.pop(request, 0)

    def check(self, count: int = 0) -> None:
        """Refuses a request of ``count`` bytes if there is no place for it."""
        has_room = count <= FEW_BYTES or self.bytes_of_taken + count <= self._limits.waiting_bytes
        if self.taken >= self._limits.requests or not has_room:
            raise _Refusal(503, f"{self._limits.requests} requests are under way; retry later")


class Guard:
    """An ASGI application around another one: counts and times requests, and refuses those that break a limit.

    See ``service.make_app`` for ``hosts`` and ``origins``.
    """

    def __init__(
        self, app: ASGIApp, limits: RequestLimits, places: Places, hosts: Sequence[str], origins: Sequence[str]
    ) -> None:
        self._app, self._limits, self._places = app, limits, places
        self._hosts, self._origins = hosts, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limits, headers = self._limits, dict(scope["headers"])
        has_begun = False
        timeout = asyncio.timeout(limits.seconds)
        current = _Request(scope, receive, self._places, limits, timeout)
        claimed = headers.get(b"content-length", b"0")
        claimed_bytes = int(claimed) if claimed.isdigit() and len(claimed) < 20 else 0

        async def send_safely(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                current.leave_place()
                message["headers"] = [*message.get("headers", []), *_SAFE_HEADERS]
            try:
                await send(message)
            except RuntimeError:  # uvloop raises it if the connection has just ended
                if not scope.get(IS_CLOSING, _do_nothing)():
                    raise
                scope.get(ABORT, _do_nothing)()

        async def refuse(code: int, message: str) -> None:
            if code != 408 and not current.is_whole and claimed_bytes <= LARGEST_DRAINED:
                await _drain(receive)
            # the rest of an unread body would be taken for the next request
            more = {"Connection": "close", **({"Retry-After": "1"} if code == 503 else {})}
            await JSONResponse({"error": message}, code, headers=more)(scope, receive, send_safely)

        try:
            self._check(scope, headers, claimed_bytes)
            async with timeout:
                await self._app(scope, current.receive, send_safely)
        except _Refusal as refusal:
            if not has_begun:
                await refuse(refusal.code, refusal.message)
        except TimeoutError:
            if has_begun:  # the client does not read its answer, or has gone
                scope.get(ABORT, _do_nothing)()
            elif current.was_for_others:
                await refuse(503, "the service has too much to read at once; retry later")
            elif current.was_given_up:  # the client has gone
                return
            elif current.is_whole:
                await refuse(503, f"the service is too busy to answer within {limits.seconds} seconds; retry later")
            else:
                await refuse(408, f"the request took more than {limits.seconds} seconds; send it faster")
        finally:
            current.end()

    def _check(self, scope: Scope, headers: Mapping[bytes, bytes], claimed_bytes: int) -> None:
        """Refuses a request whose headers break a rule."""
        if self._hosts and (names := self._foreign_host(scope)) is not None:
            known = " and ".join(self._hosts)
            message = f"Host is {names[:80]!r}; this service answers to {known}; --allowed-host adds a name"
            raise _Refusal(421, message)
        if claimed_bytes > self._limits.body_bytes:
            most = self._limits.body_bytes
            raise _Refusal(413, f"the request has {claimed_bytes:,} bytes; at most {most:,} are read")
        if scope["method"] == "POST":
            if self._is_cross_site(headers):
                raise _Refusal(403, "cross-site request refused; send it from this service's own page")
            self._places.check()

    def _foreign_host(self, scope: Scope) -> str | None:
        """Returns the names in the header Host, or None if it is a single name of this service."""
        names = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(names) == 1 and self._is_own_name(_without_port(names[0]), scope):
            return None
        return ", ".join(names)

    def _is_own_name(self, name: str, scope: Scope) -> bool:
        if name.lower() in self._hosts:
            return True
        address = (scope.get("server") or ("",))[0]
        return _as_address(name) is not None and _as_address(name) == _as_address(address)

    def _is_cross_site(self, headers: Mapping[bytes, bytes]) -> bool:
        """Returns True if the page of another site sent the request; only browsers send these headers."""
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
        if site == b"cross-site":
            return True
        if origin is None:
            return False
        if origin == b"null":  # a browser that hides the origin
            return site != b"same-origin"
        place = origin.decode("latin-1").lower().partition("://")[2]
        host = headers.get(b"host", b"").decode("latin-1").lower()
        # behind a proxy, Host may be the proxy's name for this service
        return _without_default_port(place) != _without_default_port(host) and _without_port(place) not in self._origins


class _Request:
    """Counts the bytes of one request, and can end it."""

    def __init__(
        self, scope: Scope, receive: Receive, places: Places, limits: RequestLimits, timeout: asyncio.Timeout
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._places = places
        self._limits = limits
        self._timeout = timeout
        self._total = 0
        self._has_place = False
        self._needs_place = scope["method"] == "POST"
        self.is_whole = False
        self.was_given_up = self.was_for_others = False
        scope[GIVE_UP] = self.give_up
        scope[_REQUEST] = self

    async def receive(self) -> Message:
        """Returns the next part of the body; refuses the request when it is too large or there is no place."""
        message = await self._receive()
        count = len(message.get("body", b""))
        self._total += count
        if self._total > self._limits.body_bytes:
            raise _Refusal(413, f"the request is too large; at most {self._limits.body_bytes:,} bytes are read")
        if message.get("more_body", False):
            self._places.add_waiting(self, count)
        elif not self.is_whole:
            self.is_whole = True
            self._places.remove_waiting(self)
            if self._needs_place:
                self._places.check(self._total)
                self._places.taken += 1
                self._places.bytes_of_taken += self._total
                self._has_place = True
        return message

    def leave_place(self) -> None:
        """Frees the place of the request when only its answer is left to send."""
        if self._has_place:
            self._has_place = False
            self._places.taken -= 1
            self._places.bytes_of_taken -= self._total

    def wait_for_reader(self, count: int) -> None:
        """Counts the bytes of an answer that is sent in parts."""
        self._places.add_waiting(self, count)

    def give_up(self, for_others: bool = False) -> None:
        """Ends the work for this request, because its client has gone, or to make room for others."""
        self.was_given_up, self.was_for_others = True, for_others
        with suppress(RuntimeError):  # it has just ended
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def end(self) -> None:
        """Removes the request from all counts."""
        self.leave_place()
        self._places.remove_waiting(self)
        self._scope.pop(GIVE_UP, None)
        self._scope.pop(_REQUEST, None)


class _Refusal(BaseException):
    """Ends a request with an error; not an ``Exception``, which the parser of forms would swallow."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


class PartedResponse(StreamingResponse):
    """A large answer that is made and sent in parts, so that others are served in between.

    It holds ``held`` bytes in memory until its client has read it; ``length`` is its size in bytes, 0 if unknown.
    """

    def __init__(self, request: Request, parts: Iterator[bytes], kind: str, *, held: int, length: int = 0) -> None:
        headers = {"Content-Length": str(length)} if length else None
        super().__init__(_one_by_one(parts), media_type=kind, headers=headers)
        self._request: _Request | None = request.scope.get(_REQUEST)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer."""
        if self._request is not None:
            self._request.wait_for_reader(self._held)
        await self.stream_response(send)


class AccessLog:
    """An ASGI application around another one that logs each request when it has ended."""

    def __init__(self, app: ASGIApp, log: Log, inputs: str = "pictures") -> None:
        self._app = app
        self._log = log
        self._inputs = inputs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status: int | None = None

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            facts = {"method": scope["method"], "path": scope["path"], "count": scope.get(INPUT_COUNT, 0)}
            milliseconds = 1000 * (time.perf_counter() - started)
            self._log(log_line(status, milliseconds=milliseconds, inputs=self._inputs, **facts))


def log_line(
    status: int | None,
    *,
    method: str = "-",
    path: str = "",
    milliseconds: float = 0.0,
    count: int = 0,
    inputs: str = "pictures",
) -> str:
    """Returns an ASCII line of the access log; it holds nothing of the content of a request."""
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    shown = json.dumps(path[:_LONGEST_PATH])  # escapes what could move a terminal's cursor
    return f"{now} {method} {shown} {status or '-'} {milliseconds:.1f} ms {count} {inputs}"


async def _one_by_one(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
        await asyncio.sleep(0)


async def _drain(receive: Receive) -> None:
    """Reads and discards the body: a client that is still sending would see a broken connection and no answer."""
    total = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while total < LARGEST_DRAINED:
                message = await receive()
                total += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _without_port(host: str) -> str:
    """Removes the port from ``localhost:8000`` and ``[::1]:8000``."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _without_default_port(host: str) -> str:
    """Removes a port that browsers leave out."""
    return _without_port(host) if host.endswith((":80", ":443")) else host


def _as_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Returns an IP address, also one in square brackets; an IPv4 address in IPv6 form becomes IPv4."""
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _do_nothing() -> None:
    pass
