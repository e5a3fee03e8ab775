"""Decoding pictures of strangers in processes that can be killed, so that no picture holds up another for long."""

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
"""Memory for each pixel, in which the costliest kind of a picture can be decoded and turned upright."""
OTHER_BYTES: Final = 2**28
"""Memory for Python, the libraries and the file."""
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
    """Pictures that wait; clients take turns, so that one who sends many waits longer, and not the others."""

    def __init__(self) -> None:
        self._of_clients: OrderedDict[str, deque[_Waiting]] = OrderedDict()

    def append(self, waiting: _Waiting) -> None:
        self._of_clients.setdefault(waiting.client, deque()).append(waiting)

    def pop(self) -> _Waiting | None:
        """Takes the next one; what was given up while it waited is left out."""
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
    """Some processes that decode; one of them takes all pictures, the others only those that do not take long.

    So a picture that takes seconds, or that was made to, holds up only its like. Each process is limited in memory, and
    in computing for each picture; one that goes further is killed by the system, and started again.

    Args:
        picture_format: What the pictures become.
        pixels: How many one may have.
        seconds: After how many a process is killed even if it only waits.
        seconds_of_short: Of computing, for a picture that seems not to take long. If it does, it is begun again among
            those that do.
        seconds_of_long: Of computing, for any picture: five times what the largest takes.
    """

    picture_format: PictureFormat
    pixels: int
    seconds: float
    seconds_of_short: float = 1.0
    seconds_of_long: float = 5.0
    _short: _Queue = field(default_factory=_Queue)
    _long: _Queue = field(default_factory=_Queue)
    _workers: "list[asyncio.Task[None]]" = field(default_factory=list)
    _news: "list[asyncio.Event]" = field(default_factory=list)

    def start(self) -> None:
        """Starts the first process, without waiting for it; it has to be called in the event loop."""
        if not self._workers:
            count = min(max(select.processors(), _FEWEST), _MOST)
            self._news = [asyncio.Event() for _ in range(count)]
            self._workers = [asyncio.create_task(self._work(number)) for number in range(count)]

    async def prepare(self, content: bytes, name: str, client: str) -> Pixels:
        """Decodes a picture, when it is its turn.

        Args:
            content: The bytes of a file.
            name: What to call it in an error.
            client: Who sends it; clients take turns.

        Returns:
            uint8 (height, width, channels).

        Raises:
            CourseError: It cannot be decoded, or takes longer than any picture should.
        """
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
        for news in self._news:
            news.set()

    async def _work(self, number: int) -> None:
        takes_all = number == 0
        decoder = _Decoder(self.picture_format, self.pixels, nice=10 if takes_all else 5)
        try:
            if takes_all:  # the others start when several pictures wait
                with suppress(OSError):  # who needs it starts it again, and is told why that fails
                    await decoder.start()
            while True:
                waiting = (takes_all and self._long.pop()) or self._short.pop()
                if waiting:
                    await self._decode(decoder, waiting, takes_all)
                else:
                    self._news[number].clear()
                    await self._news[number].wait()
        finally:
            await decoder.kill()

    async def _decode(self, decoder: "_Decoder", waiting: _Waiting, takes_all: bool) -> None:
        """Gets the answer for one picture, or hands it on to the process that takes all."""
        try:
            pixels = await self._pixels(decoder, waiting, takes_all)
        except Exception as error:
            if not waiting.answer.done():  # else it was given up meanwhile
                waiting.answer.set_exception(error)
            return
        if pixels is None:
            self._append(self._long, waiting)
        elif not waiting.answer.done():
            waiting.answer.set_result(pixels)

    async def _pixels(self, decoder: "_Decoder", waiting: _Waiting, takes_all: bool) -> Pixels | None:
        """Gives the pixels of one picture, or None where it takes too long for this process."""
        seconds = self.seconds_of_long if takes_all else self.seconds_of_short
        for _ in range(2):  # a process may have been killed for something else
            try:
                async with asyncio.timeout(self.seconds):
                    return await decoder.ask(waiting.content, waiting.name, seconds, takes_all)
            except (EOFError, ConnectionError, TimeoutError) as end:
                code = await decoder.kill()
                with suppress(OSError):  # the next one need not wait for that
                    await decoder.start()
                if isinstance(end, TimeoutError) or code == -_SIGNAL_OF_TIME:
                    if takes_all:
                        message = f"{waiting.name} takes too long to decode; give a smaller picture"
                        raise CourseError(message) from None
                    return None
        raise CourseError(f"{waiting.name} ends the process that decodes it; save it again, or give another")


class _Decoder:
    """One process, which is started when there is none."""

    def __init__(self, picture_format: PictureFormat, pixels: int, nice: int) -> None:
        self._picture_format, self._pixels, self._nice = picture_format, pixels, nice
        self._connection: _Connection | None = None

    async def start(self) -> "_Connection":
        """Starts the process, which then begins to read; it need not be waited for."""
        settings = {
            "parent": os.getpid(),
            "picture_format": self._picture_format.to_dict(),
            "pixels": self._pixels,
            "memory_bytes": OTHER_BYTES + BYTES_FOR_PIXEL * self._pixels,
            "nice": self._nice,
        }
        process = select.second_process("", "-c", _START, json.dumps(settings))
        # threads would take memory, and the processors from each other
        process["env"] |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._connection = await _connect(process["args"], process["env"])
        return self._connection

    async def ask(self, content: bytes, name: str, seconds: float, may_take_long: bool) -> Pixels | None:
        """Has a picture decoded.

        Args:
            content: The bytes of a file.
            name: What to call it in an error.
            seconds: Of computing, after which the system kills the process.
            may_take_long: Whether a picture is decoded that seems to take long.

        Returns:
            uint8 (height, width, channels), or None for a picture that seems to take long.

        Raises:
            CourseError: It cannot be decoded.
            EOFError: The process has ended.
            ConnectionError: The process has ended.
        """
        if self._connection is not None and self._connection.reader.at_eof():  # it has ended since the last picture
            await self.kill()
        reader, writer, _ = self._connection or await self.start()
        called = name.encode("utf-8", "replace")[: decode_process.LONGEST_NAME]
        writer.write(decode_process.QUESTION.pack(seconds, may_take_long, len(called), len(content)) + called)
        writer.write(content)
        await writer.drain()
        kind, count = decode_process.ANSWER.unpack(await reader.readexactly(decode_process.ANSWER.size))
        shape = self._picture_format.shape
        # what it says is as little to be trusted as the picture
        if kind == decode_process.PIXELS and count == int(np.prod(shape)):
            return np.frombuffer(await reader.readexactly(count), np.uint8).reshape(shape)
        if kind == decode_process.ERROR and count <= decode_process.LONGEST_ERROR:
            raise CourseError((await reader.readexactly(count)).decode("utf-8", "replace"))
        if kind == decode_process.TAKES_LONG and not count and not may_take_long:
            return None
        raise EOFError

    async def kill(self) -> int | None:
        """Kills the process, if there is one, and gives the exit code, also of one that had ended before."""
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
    """Starts a process whose standard input and output lead here."""
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
    # uvloop would fork, which takes longer the more memory is in use, and which no framework with threads puts up with
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
