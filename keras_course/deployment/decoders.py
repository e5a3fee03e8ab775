"""Decodes untrusted pictures in processes that can be killed, so that no picture delays others for long."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_course._backend import select
from keras_course.deployment import decode_process
from keras_course.errors import CourseError
from keras_course.preprocessing import PictureFormat

Pixels = npt.NDArray[np.uint8]

BYTES_FOR_PIXEL: Final = 24
"""Memory for each pixel, enough to decode and rotate the most expensive kind of picture."""
OTHER_BYTES: Final = 2**28
"""Memory for Python, the libraries and the file, in bytes."""
_FEWEST: Final = 2
_MOST: Final = 4
_SIGNAL_OF_TIME: Final = getattr(signal, "SIGPROF", 0)
_START: Final = "from keras_course.deployment.decode_process import main; main()"


class _Waiting(NamedTuple):
    content: bytes
    name: str
    answer: "asyncio.Future[Pixels]"
    client: str


class _Queue:
    """Waiting pictures; clients take turns, so that only a client that sends many has to wait longer."""

    def __init__(self) -> None:
        self._of_clients: OrderedDict[str, deque[_Waiting]] = OrderedDict()

    def append(self, waiting: _Waiting) -> None:
        self._of_clients.setdefault(waiting.client, deque()).append(waiting)

    def pop(self) -> _Waiting | None:
        """Removes and returns the next picture, without those that were canceled while they waited."""
        while self._of_clients:
            client, pictures = self._of_clients.popitem(last=False)
            while pictures:
                waiting = pictures.popleft()
                if not waiting.answer.done():
                    if pictures:
                        self._of_clients[client] = pictures  # behind all others
                    return waiting
        return None


@dataclass
class Decoders:
    """Some processes that decode pictures; one of them takes all pictures, the others only fast ones.

    A picture that takes seconds therefore delays only other slow ones. The memory of each process, and its computing
    time for each picture, are limited; the system kills a process that exceeds them, and it is started again.
    """

    picture_format: PictureFormat
    pixels: int  # the largest number of pixels of a picture
    seconds: float  # after which a process is killed, whether it computes or waits
    seconds_of_short: float = 1.0  # of computing for a picture that seems fast; it is then decoded as a slow one
    seconds_of_long: float = 5.0  # of computing for any picture: five times what the largest takes
    _short: _Queue = field(default_factory=_Queue)
    _long: _Queue = field(default_factory=_Queue)
    _workers: "list[asyncio.Task[None]]" = field(default_factory=list)
    _wake_ups: "list[asyncio.Event]" = field(default_factory=list)

    def start(self) -> None:
        """Starts the first process without waiting for it; call it in the event loop."""
        if not self._workers:
            count = min(max(select.processors(), _FEWEST), _MOST)
            self._wake_ups = [asyncio.Event() for _ in range(count)]
            self._workers = [asyncio.create_task(self._work(number)) for number in range(count)]

    async def prepare(self, content: bytes, name: str, client: str) -> Pixels:
        """Returns a picture, uint8 (height, width, channels), when its client's turn comes; ``name`` is for errors."""
        self.start()
        answer: asyncio.Future[Pixels] = asyncio.get_running_loop().create_future()
        self._append(self._short, _Waiting(content, name, answer, client))
        return await answer

    async def close(self) -> None:
        """Kills the processes."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._workers.clear()

    def _append(self, queue: _Queue, waiting: _Waiting) -> None:
        queue.append(waiting)
        for wake_up in self._wake_ups:
            wake_up.set()

    async def _work(self, number: int) -> None:
        takes_all = number == 0
        decoder = _Decoder(self.picture_format, self.pixels, nice=10 if takes_all else 5)
        try:
            if takes_all:  # the others start when several pictures wait
                with suppress(OSError):  # the next picture starts it again, and gets the error
                    await decoder.start()
            while True:
                waiting = (takes_all and self._long.pop()) or self._short.pop()
                if waiting:
                    await self._decode(decoder, waiting, takes_all)
                else:
                    self._wake_ups[number].clear()
                    await self._wake_ups[number].wait()
        finally:
            await decoder.kill()

    async def _decode(self, decoder: "_Decoder", waiting: _Waiting, takes_all: bool) -> None:
        """Decodes one picture, or passes it on to the process that takes all."""
        try:
            pixels = await self._pixels(decoder, waiting, takes_all)
        except Exception as error:
            if not waiting.answer.done():  # else it was canceled meanwhile
                waiting.answer.set_exception(error)
            return
        if pixels is None:
            self._append(self._long, waiting)
        elif not waiting.answer.done():
            waiting.answer.set_result(pixels)

    async def _pixels(self, decoder: "_Decoder", waiting: _Waiting, takes_all: bool) -> Pixels | None:
        """Returns the pixels of one picture, or None if it takes too long for this process."""
        seconds = self.seconds_of_long if takes_all else self.seconds_of_short
        for _ in range(2):  # a process may have been killed for another reason
            try:
                async with asyncio.timeout(self.seconds):
                    return await decoder.ask(waiting.content, waiting.name, seconds, takes_all)
            except (EOFError, ConnectionError, TimeoutError) as end:
                code = await decoder.kill()
                with suppress(OSError):  # so that the next picture need not wait for it
                    await decoder.start()
                if isinstance(end, TimeoutError) or code == -_SIGNAL_OF_TIME:
                    if takes_all:
                        message = f"{waiting.name} takes too long to decode; give a smaller picture"
                        raise CourseError(message) from None
                    return None
        raise CourseError(f"{waiting.name} ends the process that decodes it; save it again, or give another")


class _Decoder:
    """One process, started when it is needed."""

    def __init__(self, picture_format: PictureFormat, pixels: int, nice: int) -> None:
        self._picture_format, self._pixels, self._nice = picture_format, pixels, nice
        self._connection: _Connection | None = None

    async def start(self) -> "_Connection":
        """Starts the process without waiting until it reads."""
        settings = {
            "parent": os.getpid(),
            "picture_format": self._picture_format.to_dict(),
            "pixels": self._pixels,
            "memory_bytes": OTHER_BYTES + BYTES_FOR_PIXEL * self._pixels,
            "nice": self._nice,
        }
        process = select.second_process("", "-c", _START, json.dumps(settings))
        # threads would take memory, and compete for processors
        process["env"] |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._connection = await _connect(process["args"], process["env"])
        return self._connection

    async def ask(self, content: bytes, name: str, seconds: float, decode_slow: bool) -> Pixels | None:
        """Lets the process decode a picture; returns None if it seems slow, unless ``decode_slow``.

        Raises an ``EOFError`` or a ``ConnectionError`` if the process has ended.
        """
        if self._connection is not None and self._connection.reader.at_eof():  # it has ended since the last picture
            await self.kill()
        reader, writer, _ = self._connection or await self.start()
        called = name.encode("utf-8", "replace")[: decode_process.LONGEST_NAME]
        writer.write(decode_process.REQUEST.pack(seconds, decode_slow, len(called), len(content)) + called)
        writer.write(content)
        await writer.drain()
        kind, count = decode_process.ANSWER.unpack(await reader.readexactly(decode_process.ANSWER.size))
        shape = self._picture_format.shape
        # the answer is no more trusted than the picture
        if kind == decode_process.PIXELS and count == int(np.prod(shape)):
            return np.frombuffer(await reader.readexactly(count), np.uint8).reshape(shape)
        if kind == decode_process.ERROR and count <= decode_process.LONGEST_ERROR:
            raise CourseError((await reader.readexactly(count)).decode("utf-8", "replace"))
        if kind == decode_process.IS_SLOW and not count and not decode_slow:
            return None
        raise EOFError

    async def kill(self) -> int | None:
        """Kills the process, if there is one, and returns its exit code, also if it had ended before."""
        connection, self._connection = self._connection, None
        if connection is None:
            return None
        connection.writer.close()
        return await connection.end()


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    end: Callable[[], Awaitable[int]]


async def _connect(command: list[str], environment: dict[str, str]) -> _Connection:
    """Starts a process, connected by its standard input and output."""
    nothing = subprocess.DEVNULL
    if sys.platform == "win32":
        pipe = subprocess.PIPE
        started = await asyncio.create_subprocess_exec(
            *command, env=environment, stdin=pipe, stdout=pipe, stderr=nothing
        )
        assert started.stdout is not None
        assert started.stdin is not None

        async def kill() -> int:
            with suppress(ProcessLookupError):
                started.kill()
            return await started.wait()

        return _Connection(started.stdout, started.stdin, kill)
    # uvloop would fork, which is slow with much memory in use and unsafe with a framework's threads
    here, there = socket.socketpair()
    try:
        with there:
            end_there = there.fileno()
            process = subprocess.Popen(
                command, env=environment, stdin=end_there, stdout=end_there, stderr=nothing, start_new_session=True
            )
        reader, writer = await asyncio.open_connection(sock=here)
    except BaseException:
        here.close()
        raise

    async def end() -> int:
        process.kill()
        return await asyncio.to_thread(process.wait)

    return _Connection(reader, writer, end)
