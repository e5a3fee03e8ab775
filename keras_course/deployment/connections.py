"""Limits the connections of ``keras-course serve``: what a client may send, and how long it may send and read.

The protocol is Uvicorn's with httptools. Each connection takes a bounded number of bytes and ends after a bounded time.
When there are too many, the slowest ones are closed.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from keras_course.deployment.guard import ABORT, GIVE_UP, IS_CLOSING, LARGEST_DRAINED, Log, RequestLimits, log_line

LARGEST_HEADERS: Final = 2**15
"""The largest size of the first line and the headers of a request, in bytes."""
MOST_HEADERS: Final = 128
LONGEST_ADDRESS: Final = 2**13
LARGEST_FRAMING: Final = 2**13
"""The bytes around a chunked body (sizes and extensions of chunks, trailing headers) may be so many, and an eighth of
the body more: chunks of a few bytes take a thousand times as long to read."""
MOST_REQUESTS_AHEAD: Final = 16
"""The number of requests that a client may send before it has its answers (pipelining)."""
SECONDS_FOR_HEADERS: Final = 10
SECONDS_TO_READ: Final = 10
"""The time in which a client has to read some more of its answer."""
SECONDS_OF_IDLENESS: Final = 30
"""The time between two requests on one connection."""
FEWEST_CONNECTIONS: Final = 64
"""So many are always allowed, because a browser keeps half a dozen open."""
OTHER_FILES: Final = 96
"""The number of other files that the process keeps open."""

_SLICE: Final = 2**13
"""The number of bytes that are parsed at a time."""
_SHORTEST_LINE: Final = len("GET / HTTP/1.1")
_MANY_BLANKS: Final = 64
"""The number of empty lines before a request; some old clients send one."""
_LARGEST_BUFFER: Final = 2**20
_SECONDS_OF_GRACE: Final = 1
"""A younger connection is not closed for others, unless it is unused."""
_CHECK_SECONDS: Final = 0.25

_NEVER: Final = float("inf")
_IDLE: Final = 0
_HEADERS: Final = 1
_BODY: Final = 2
_ANSWER: Final = 3


def protocol(limits: RequestLimits, log: Log | None = None, inputs: str = "pictures") -> type[asyncio.Protocol]:
    """Returns the class for ``http`` of ``uvicorn.Config``; it logs the requests that do not reach the application.

    Their lines in the log say 0 ``inputs``.
    """
    most_connections = _connections_allowed(max(FEWEST_CONNECTIONS, 2 * limits.requests))
    seconds_for_headers = min(SECONDS_FOR_HEADERS, limits.seconds)
    seconds_to_read = min(SECONDS_TO_READ, limits.seconds)
    # by then the application has refused the request; the rest is a body that nothing reads
    seconds_for_body = limits.seconds + 1
    watched: set[int] = set()

    class LimitedConnection(HttpToolsProtocol):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            self._phase = _IDLE
            self._since = time.monotonic()
            self._framing = 0
            self._body_bytes = 0
            self._buffered = b""
            self._answers: deque[Any] = deque()  # incomplete answers, the current one first
            self._unread_since = _NEVER
            self._deadline = _NEVER

        # --- Receiving ---

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._enter(_HEADERS)
            if len(self.connections) > most_connections:
                others = [one for one in self.connections if one is not self]
                slowest = min(others, key=lambda one: one.rank(self._since))
                (slowest if slowest.rank(self._since) < _NOT_CLOSED else self).make_room()
            if id(self.connections) not in watched:
                watched.add(id(self.connections))
                self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._buffered = b""
            self._end_answers()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            if self._buffered or self._phase == _ANSWER:
                self._buffer(data)
            else:
                self._parse(data)

        def _parse(self, data: bytes) -> None:
            """Parses a little at a time, and none of the next request before the answer to this one has been sent."""
            place = 0
            while place < len(data) and not self.transport.is_closing():
                if self._phase == _ANSWER:
                    self._buffer(data[place:])
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

        def _buffer(self, data: bytes) -> None:
            self._buffered += data
            self.flow.pause_reading()
            if len(self._buffered) > _LARGEST_BUFFER:
                self._abort()

        def _continue(self) -> None:
            if self._phase != _ANSWER and not self.transport.is_closing():
                data, self._buffered = self._buffered, b""
                self._parse(data)

        def on_header(self, name: bytes, value: bytes) -> None:
            if self.transport.is_closing():
                return
            if len(self.headers) >= MOST_HEADERS:  # including those after a body
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
            if self._buffered:
                self.loop.call_soon(self._continue)

        def send_400_response(self, msg: str) -> None:
            self._refuse(400, "Bad Request")

        def _enter(self, phase: int) -> None:
            self._phase = phase
            self._since = time.monotonic()
            self._framing = self._body_bytes = 0

        # --- Sending ---

        def pause_writing(self) -> None:
            self._unread_since = time.monotonic()
            super().pause_writing()

        def resume_writing(self) -> None:
            self._unread_since = _NEVER
            super().resume_writing()

        def shutdown(self) -> None:
            super().shutdown()
            self._deadline = time.monotonic() + limits.seconds + 1

        # --- Time-outs ---

        def _watch(self) -> None:
            """Checks all connections at intervals, which costs less than a timer for each request."""
            now = time.monotonic()
            for connection in list(self.connections):
                connection.check(now)
            if self.connections:
                self.loop.call_later(_CHECK_SECONDS, self._watch)
            else:
                watched.discard(id(self.connections))

        def check(self, now: float) -> None:
            """Closes this connection if it has taken too long."""
            is_closing = self.transport.is_closing()
            if (is_closing or not self._answers) and not self.flow.write_paused:
                is_unread = self.transport.get_write_buffer_size() > 0
                self._unread_since = min(self._unread_since, now) if is_unread else _NEVER
            if now > self._deadline or now - self._unread_since > seconds_to_read:
                self._abort()
            elif is_closing:
                return
            elif self._phase == _HEADERS and now - self._since > seconds_for_headers:
                self._refuse(408, "Request Timeout")
            elif now - self._since > {_BODY: seconds_for_body, _IDLE: SECONDS_OF_IDLENESS}.get(self._phase, now):
                self._close()

        def rank(self, now: float) -> tuple[int, float]:
            """Returns a sort key: connections with the smallest are closed first to make room."""
            is_unused = self._phase == _IDLE or (self._phase == _HEADERS and not self._framing)
            if self.transport.is_closing() or (is_unused and now - self._since > _SECONDS_OF_GRACE):
                return 0, self._since
            if now - self._unread_since > _SECONDS_OF_GRACE:
                return 1, self._unread_since
            if self._phase in (_HEADERS, _BODY) and now - self._since > _SECONDS_OF_GRACE:
                return 1, self._since
            return (2, self._since) if is_unused else _NOT_CLOSED

        def make_room(self) -> None:
            """Closes this connection, because there are too many."""
            if self.transport.is_closing() or self._unread_since < _NEVER:
                self._abort()
            else:
                self._refuse(503, "Service Unavailable")

        def _close(self) -> None:
            """Closes the connection after the written data have been sent."""
            self._end_answers()
            self.transport.close()

        def _abort(self) -> None:
            """Closes the connection at once."""
            self._end_answers()
            self.transport.abort()

        def _end_answers(self) -> None:
            for answer in self._answers:
                answer.disconnected = True
                if give_up := answer.scope.get(GIVE_UP):
                    give_up()

        def _refuse(self, code: int, reason: str) -> None:
            if self.transport.is_closing():
                return
            # browsers open connections that they may never use
            if log is not None and (code != 408 or self._framing):
                log(log_line(code, inputs=inputs))
            is_answered = self._phase == _BODY and self.cycle.response_started
            is_behind = self._phase != _BODY and self._answers
            if not (is_answered or is_behind or len(self._answers) > 1):  # else it would be inside of another answer
                body = f'{{"error":"{reason.lower()}"}}'.encode()
                head = f"HTTP/1.1 {code} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            self._close()

    return LimitedConnection


_NOT_CLOSED: Final = (3, 0.0)


def _connections_allowed(wanted: int) -> int:
    """Returns a number of connections that the system allows this process, after raising its limit if possible."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = wanted + OTHER_FILES
        if soft != resource.RLIM_INFINITY and soft < needed:
            most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
            return max(1, min(wanted, max(soft, most) - OTHER_FILES))
    return wanted
