"""The server of ``keras-course serve``: Uvicorn, on a socket of this machine unless told otherwise."""

import asyncio
import ipaddress
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from keras_course._backend.formats import require
from keras_course.errors import CourseError

if TYPE_CHECKING:
    from keras_course.deployment.runtimes import Runtime
    from keras_course.deployment.service import Limits

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]", "::1")
LARGEST_HEADERS: Final = 2**15
"""Bytes of the first line and the headers of a request."""
SECONDS_FOR_HEADERS: Final = 10
FEWEST_CONNECTIONS: Final = 64
"""So many are always allowed, also where fewer requests are: a browser keeps half a dozen open."""
PACKAGES: Final = ("starlette", "uvicorn", "httptools", "python_multipart")


def bind(host: str = "127.0.0.1", port: int = 8000) -> socket.socket:
    """Takes a port.

    Args:
        host: The address to listen on.
        port: Its port; 0 for a free one.

    Returns:
        The socket.

    Raises:
        CourseError: The port is taken or not allowed, or the address is none of this machine.

    Example:
        >>> with bind(port=0) as taken:
        ...     taken.getsockname()[0]
        '127.0.0.1'
    """
    if not 0 <= port < 2**16:
        raise CourseError(f"--port is {port}; give a number from 0 to 65535, 0 for a free one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off the waiting for more to send, 40 ms an answer, only where TCP is named
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host.strip("[]"), port))
    except OSError as error:
        taken.close()
        raise CourseError(f"--host {host} --port {port} cannot be used: {error.strerror}; give another") from None
    return taken


def serve(
    runtime: "Runtime",
    listening: socket.socket,
    *,
    limits: "Limits | None" = None,
    log: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Answers requests until it is told to stop by Ctrl-C or SIGTERM; what is under way is finished.

    Args:
        runtime: The model.
        listening: A bound socket, as ``bind`` makes it.
        limits: What requests may take.
        log: Whether to write a line about each request to the error output.
        ready: Is called when requests are answered.

    Raises:
        MissingPackageError: The packages of the server are not installed.
    """
    check_installed()
    import uvicorn

    from keras_course.deployment.service import Limits, make_app

    host = listening.getsockname()[0]
    # a page elsewhere could let its own name lead here; so here only our own names are answered
    hosts = tuple(dict.fromkeys((*LOOPBACK, host))) if ipaddress.ip_address(host).is_loopback else ()
    limits = limits or Limits()
    config = uvicorn.Config(
        make_app(runtime, limits=limits, hosts=hosts, log=_write if log else None),
        http=_protocol(limits, log),
        ws="none",
        proxy_headers=False,
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=30,
        backlog=2048,
    )

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

    with suppress(KeyboardInterrupt):  # which Uvicorn raises again when it has finished
        Announcing(config).run(sockets=[listening])


def check_installed() -> None:
    """Makes sure that the packages of the server are there.

    Raises:
        MissingPackageError: One is not; the message says what to install.
    """
    require(*PACKAGES, what="keras-course serve", install='pip install "keras-course[serve]"')


def address(listening: socket.socket) -> str:
    """Says where a browser finds the service.

    Args:
        listening: A bound socket.

    Returns:
        An address such as ``http://127.0.0.1:8000``.

    Example:
        >>> with bind(port=0) as taken:
        ...     address(taken).rpartition(":")[0]
        'http://127.0.0.1'
    """
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _write(line: str) -> None:
    with suppress(OSError, ValueError):  # nobody reads it any more
        print(line, file=sys.stderr, flush=True)


def _protocol(limits: "Limits", log: bool) -> type[asyncio.Protocol]:
    """Uvicorn's protocol, with an end to connections that are too many, and to requests that do not come to theirs."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    from keras_course.deployment.service import log_line

    most_connections = max(FEWEST_CONNECTIONS, 2 * limits.requests)
    seconds_for_headers = min(SECONDS_FOR_HEADERS, limits.seconds)
    # the application has given it up by then, and says why; what goes on is a body that nobody reads
    seconds_for_body = limits.seconds + 1

    class LimitedRequests(HttpToolsProtocol):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            self._header_bytes: int | None = 0  # None while a body is read
            self._deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > most_connections:
                self._refuse(503, "Service Unavailable")
                return
            self._wait_for_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            if self._header_bytes is not None:
                if not self._header_bytes and self._deadline is None:
                    self._wait_for_headers()
                # what comes with the end of the headers is counted, too, but not more than one read of it
                self._header_bytes += len(data.partition(b"\r\n\r\n")[0])
                if self._header_bytes > LARGEST_HEADERS:
                    self._refuse(431, "Request Header Fields Too Large")
                    return
            super().data_received(data)

        def on_headers_complete(self) -> None:
            self._header_bytes = None
            self._stop_waiting()
            self._deadline = self.loop.call_later(seconds_for_body, self.transport.close)
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._header_bytes = 0
            self._stop_waiting()
            super().on_message_complete()

        def send_400_response(self, msg: str) -> None:
            self._refuse(400, "Bad Request")

        def _wait_for_headers(self) -> None:
            self._deadline = self.loop.call_later(seconds_for_headers, self._refuse, 408, "Request Timeout")

        def _stop_waiting(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _refuse(self, code: int, reason: str) -> None:
            self._stop_waiting()
            if self.transport.is_closing():
                return
            if log and (code != 408 or self._header_bytes):  # a browser opens connections that it may never use
                _write(log_line(code))
            is_answering = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
            if not is_answering:  # else it would get into another answer
                body = f'{{"error":"{reason.lower()}"}}'.encode()
                head = f"HTTP/1.1 {code} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            self.transport.close()

    return LimitedRequests
