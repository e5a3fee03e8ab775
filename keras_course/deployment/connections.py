"""The connections of ``keras-course serve``: what each may send, and how long it may take to send and to read.

The protocol is Uvicorn's with httptools. Whatever a client does, its connection takes a bounded number of bytes and
ends after a bounded time, and where all places are taken the slowest clients lose theirs.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from keras_course.deployment.service import ABORT, GIVE_UP, IS_CLOSING, Limits, Log, log_line

LARGEST_HEADERS: Final = 2**15
"""Bytes of the first line and the headers of a request."""
MOST_HEADERS: Final = 128
LONGEST_ADDRESS: Final = 2**13
LARGEST_FRAMING: Final = 2**13
"""Bytes around a body that comes in chunks, their sizes and extensions and the headers after it, besides an eighth of
the body: chunks of a few bytes each take a thousand times as long to read."""
LARGEST_DRAINED: Final = 2**26
"""Bytes of a body, most of which nobody reads: the application refuses what is larger than its own limit, and says so,
which a client hears only when it has sent what it is sending."""
MOST_REQUESTS_AHEAD: Final = 16
"""That a client sends before it has its answers."""
SECONDS_FOR_HEADERS: Final = 10
SECONDS_TO_READ: Final = 10
"""Without a client's taking any more of its answer."""
SECONDS_OF_IDLENESS: Final = 30
"""Between two requests on one connection."""
FEWEST_CONNECTIONS: Final = 64
"""So many are always allowed, also where fewer requests are: a browser keeps half a dozen open."""
OTHER_FILES: Final = 96
"""What the process keeps open besides connections."""

_SLICE: Final = 2**13
"""Bytes that are parsed before they are counted."""
_SHORTEST_LINE: Final = len("GET / HTTP/1.1")
_MANY_BLANKS: Final = 64
"""Empty lines, of which some old clients send one before a request."""
_LARGEST_HELD_BACK: Final = 2**20
_SECONDS_OF_GRACE: Final = 1
"""A connection that is younger does not lose its place, unless nothing has come on it."""
_SECONDS_BETWEEN_LOOKS: Final = 0.25

_NEVER: Final = float("inf")
_IDLE: Final = 0
_HEADERS: Final = 1
_BODY: Final = 2
_ANSWER: Final = 3


def protocol(limits: Limits, log: Log | None = None) -> type[asyncio.Protocol]:
    """Makes the protocol of a server.

    Args:
        limits: What requests may take.
        log: Is called with a line about each request that the application never sees.

    Returns:
        What ``uvicorn.Config`` takes as ``http``.
    """
    most_connections = _connections_allowed(max(FEWEST_CONNECTIONS, 2 * limits.requests))
    seconds_for_headers = min(SECONDS_FOR_HEADERS, limits.seconds)
    seconds_to_read = min(SECONDS_TO_READ, limits.seconds)
    # the application has given it up by then, and says why; what goes on is a body that nobody reads
    seconds_for_body = limits.seconds + 1
    watched: set[int] = set()

    class LimitedConnection(HttpToolsProtocol):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            self._phase = _IDLE
            self._since = time.monotonic()
            self._framing = 0
            self._body_bytes = 0
            self._held_back = b""
            self._answers: deque[Any] = deque()  # that are not complete, the one under way first
            self._unread_since = _NEVER
            self._last_moment = _NEVER

        # --- What comes ---

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._enter(_HEADERS)
            if len(self.connections) > most_connections:
                others = [one for one in self.connections if one is not self]
                slowest = min(others, key=lambda one: one.rank(self._since))
                (slowest if slowest.rank(self._since) < _KEEPS_ITS_PLACE else self).give_way()
            if id(self.connections) not in watched:
                watched.add(id(self.connections))
                self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._held_back = b""
            self._end_answers()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            if self._held_back or self._phase == _ANSWER:
                self._hold_back(data)
            else:
                self._parse(data)

        def _parse(self, data: bytes) -> None:
            """Parses a little at a time, and none of the next request before the answer to this one has been sent."""
            place = 0
            while place < len(data) and not self.transport.is_closing():
                if self._phase == _ANSWER:
                    self._hold_back(data[place:])
                    return
                if self._phase == _IDLE:
                    self._enter(_HEADERS)
                end = min(place + _SLICE, len(data))
                if self._phase == _HEADERS:
                    if end - place >= _MANY_BLANKS and not data[place : place + _MANY_BLANKS].strip(b"\r\n"):
                        self._refuse(400, "Bad Request")
                        return
                    blank = data.find(b"\r\n\r\n", place + _SHORTEST_LINE, end)
                    end = blank + 4 if blank >= 0 else end
                part = data if end - place == len(data) else data[place:end]
                place = end
                self._framing += len(part)
                super().data_received(part)
                most = LARGEST_HEADERS if self._phase == _HEADERS else LARGEST_FRAMING + self._body_bytes // 8
                if self._framing > most:
                    self._refuse(431, "Request Header Fields Too Large")

        def _hold_back(self, data: bytes) -> None:
            self._held_back += data
            self.flow.pause_reading()
            if len(self._held_back) > _LARGEST_HELD_BACK:
                self._abort()

        def _go_on(self) -> None:
            if self._phase != _ANSWER and not self.transport.is_closing():
                data, self._held_back = self._held_back, b""
                self._parse(data)

        def on_header(self, name: bytes, value: bytes) -> None:
            if self.transport.is_closing():
                return
            if len(self.headers) >= MOST_HEADERS:  # those after a body are among them
                self._refuse(431, "Request Header Fields Too Large")
                return
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            if self.transport.is_closing():
                return
            if len(self.url) > LONGEST_ADDRESS:
                self._refuse(431, "Request Header Fields Too Large")
                return
            if len(self._answers) > MOST_REQUESTS_AHEAD:
                self._refuse(429, "Too Many Requests")
                return
            self._enter(_BODY)
            self.scope[ABORT] = self._abort
            self.scope[IS_CLOSING] = self.transport.is_closing
            super().on_headers_complete()
            self._answers.append(self.cycle)

        def on_body(self, body: bytes) -> None:
            if self.transport.is_closing():
                return
            self._framing -= len(body)
            self._body_bytes += len(body)
            if self._body_bytes > LARGEST_DRAINED:
                self._close()
                return
            super().on_body(body)

        def on_message_complete(self) -> None:
            if self.transport.is_closing():
                return
            super().on_message_complete()
            self._enter(_ANSWER if self._answers else _IDLE)

        def on_response_complete(self) -> None:
            self._answers.popleft()
            super().on_response_complete()
            if self._phase == _ANSWER and not self._answers:
                self._enter(_IDLE)
            if self._held_back:
                self.loop.call_soon(self._go_on)

        def send_400_response(self, msg: str) -> None:
            self._refuse(400, "Bad Request")

        def _enter(self, phase: int) -> None:
            self._phase = phase
            self._since = time.monotonic()
            self._framing = self._body_bytes = 0

        # --- What goes ---

        def pause_writing(self) -> None:
            self._unread_since = time.monotonic()
            super().pause_writing()

        def resume_writing(self) -> None:
            self._unread_since = _NEVER
            super().resume_writing()

        def shutdown(self) -> None:
            super().shutdown()
            self._last_moment = time.monotonic() + limits.seconds + 1

        # --- How long ---

        def _watch(self) -> None:
            """Looks at all connections, now and again: a timer for each request would take more time than that."""
            now = time.monotonic()
            for connection in list(self.connections):
                connection.look(now)
            if self.connections:
                self.loop.call_later(_SECONDS_BETWEEN_LOOKS, self._watch)
            else:
                watched.discard(id(self.connections))

        def look(self, now: float) -> None:
            """Ends what has taken too long."""
            is_closing = self.transport.is_closing()
            if (is_closing or not self._answers) and not self.flow.write_paused:
                is_unread = self.transport.get_write_buffer_size() > 0
                self._unread_since = min(self._unread_since, now) if is_unread else _NEVER
            if now > self._last_moment or now - self._unread_since > seconds_to_read:
                self._abort()
            elif is_closing:
                return
            elif self._phase == _HEADERS and now - self._since > seconds_for_headers:
                self._refuse(408, "Request Timeout")
            elif now - self._since > {_BODY: seconds_for_body, _IDLE: SECONDS_OF_IDLENESS}.get(self._phase, now):
                self._close()

        def rank(self, now: float) -> tuple[int, float]:
            """Says how early this connection has to make room for others, the smallest first."""
            is_unused = self._phase == _IDLE or (self._phase == _HEADERS and not self._framing)
            if self.transport.is_closing() or (is_unused and now - self._since > _SECONDS_OF_GRACE):
                return 0, self._since
            if now - self._unread_since > _SECONDS_OF_GRACE:
                return 1, self._unread_since
            if self._phase in (_HEADERS, _BODY) and now - self._since > _SECONDS_OF_GRACE:
                return 1, self._since
            return (2, self._since) if is_unused else _KEEPS_ITS_PLACE

        def give_way(self) -> None:
            """Ends this connection, since there are too many."""
            if self.transport.is_closing() or self._unread_since < _NEVER:
                self._abort()
            else:
                self._refuse(503, "Service Unavailable")

        def _close(self) -> None:
            """Ends the connection when what has been written is sent."""
            self._end_answers()
            self.transport.close()

        def _abort(self) -> None:
            """Ends the connection at once."""
            self._end_answers()
            self.transport.abort()

        def _end_answers(self) -> None:
            for answer in self._answers:
                answer.disconnected = True  # there is nobody to whom anything could be sent
                answer.scope.get(GIVE_UP, _nothing)()

        def _refuse(self, code: int, reason: str) -> None:
            if self.transport.is_closing():
                return
            # a browser opens connections that it may never use
            if log is not None and (code != 408 or self._framing):
                log(log_line(code))
            is_answered = self._phase == _BODY and self.cycle.response_started
            is_behind = self._phase != _BODY and self._answers
            if not (is_answered or is_behind or len(self._answers) > 1):  # else it would get into another answer
                body = f'{{"error":"{reason.lower()}"}}'.encode()
                head = f"HTTP/1.1 {code} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            self._close()

    return LimitedConnection


_KEEPS_ITS_PLACE: Final = (3, 0.0)


def _nothing() -> None:
    pass


def _connections_allowed(wanted: int) -> int:
    """Lowers a number of connections to what the system lets this process open, which is raised first if it can be."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = wanted + OTHER_FILES
        if soft != resource.RLIM_INFINITY and soft < needed:
            most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
            return max(1, min(wanted, max(soft, most) - OTHER_FILES))
    return wanted
