"""The server of ``keras-course serve``: Uvicorn, by default on the loopback interface."""

import ipaddress
import logging
import re
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from keras_course._backend.select import require
from keras_course.errors import CourseError, reason_of

if TYPE_CHECKING:
    from keras_course.deployment.guard import RequestLimits
    from keras_course.deployment.runtimes import Runtime

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]", "::1")
BUFFER_BYTES: Final = 2**18
"""The system's buffer for one connection and direction; its default is megabytes, even if the client does not read."""
SECONDS_OF_STOPPING: Final = 5
"""The time to stop, in addition to the time of a request."""
PACKAGES: Final = ("starlette", "uvicorn", "httptools", "python_multipart")


def bind(host: str = "127.0.0.1", port: int = 8000) -> socket.socket:
    """Opens a socket on an address and a port; port 0 gives a free one."""
    if not 0 <= port < 2**16:
        raise CourseError(f"--port is {port}; give a number from 0 to 65535, 0 for a free one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY, which saves 40 ms an answer, only if TCP is named
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        taken.setsockopt(socket.SOL_SOCKET, buffer, BUFFER_BYTES)
    try:
        taken.bind((host.strip("[]"), port))
    except OSError as error:
        taken.close()
        raise CourseError(f"--host {host} --port {port} cannot be used: {reason_of(error)}; give another") from None
    return taken


def serve(
    runtime: "Runtime",
    listening: socket.socket,
    *,
    limits: "RequestLimits | None" = None,
    allowed_hosts: Sequence[str] = (),
    log: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Answers requests until Ctrl-C or SIGTERM, and finishes those under way; calls ``ready`` before the first.

    ``allowed_hosts`` are names of the service besides those of the machine; ``log`` writes a line for each request.
    """
    check_installed()
    named = check_hosts(allowed_hosts)
    import uvicorn

    from keras_course.deployment.connections import SECONDS_OF_IDLENESS, protocol
    from keras_course.deployment.guard import RequestLimits
    from keras_course.deployment.service import make_app

    limits = limits or RequestLimits()
    write = _print_to_stderr if log else None
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it warns of each malformed form
    config = uvicorn.Config(
        make_app(runtime, limits=limits, hosts=[*own_names(listening), *named], origins=named, log=write),
        http=protocol(limits, write, f"{runtime.card.kind}s"),
        ws="none",
        proxy_headers=False,
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=SECONDS_OF_IDLENESS,
        timeout_graceful_shutdown=limits.seconds + SECONDS_OF_STOPPING,
        backlog=2048,
    )

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

    with suppress(KeyboardInterrupt):  # which Uvicorn raises again when it has finished
        Announcing(config).run(sockets=[listening])


def check_hosts(names: Sequence[str]) -> list[str]:
    """Returns host names in lower case; raises a ``CourseError`` for others, such as one with ``http://`` or a port."""
    for name in names:
        if not _HOST.fullmatch(name):
            raise CourseError(
                f"--allowed-host is {name!r}; give a name such as model.example.com, without http:// and without a port"
            )
    return [name.lower() for name in names]


_HOST: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]")


def own_names(listening: socket.socket) -> list[str]:
    """Lists the names of this machine under which a socket can be reached.

    Only requests to known names are answered. Another site could let its own name resolve to this machine, and browsers
    would then treat the service as a part of that site (DNS rebinding).
    """
    host = listening.getsockname()[0]
    own = [host] if ipaddress.ip_address(host).is_loopback else [socket.gethostname().lower()]
    return list(dict.fromkeys((*LOOPBACK, *own)))


def check_installed() -> None:
    """Raises a ``MissingPackageError`` if a package of the server is not installed."""
    require(*PACKAGES, what="keras-course serve", install='pip install "keras-course[serve]"')


def address(listening: socket.socket) -> str:
    """Returns the address of the service for a browser, such as ``http://127.0.0.1:8000``."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _print_to_stderr(line: str) -> None:
    with suppress(OSError, ValueError):  # the reader has gone
        print(line, file=sys.stderr, flush=True)
