"""Opens an untrusted model in a separate process with limits, and kills the process when it breaks one.

The process is started once and kept. It limits itself (see ``limits.confine``), opens the model, and then answers one
request after the other through pipes. Requests hold pictures or tokens, and nothing else. The process ends when its
parent does.

NumPy and psutil are imported after the process has been started, so that it opens the model in the meantime.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from keras_course._backend import select
from keras_course.deployment.formats import ModelFile, check_model_file
from keras_course.errors import CourseError, check_positive
from keras_course.files import folder_beside
from keras_course.foreign_text import printable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Generator, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from keras_course.cards import ModelCard

    _Reading = Generator[int, bytes, tuple[dict[str, Any], bytes]]

__all__ = ["LimitedProcess", "ModelProcess", "ProcessLimits", "start_model"]

_START: Final = "from keras_course.deployment.child import start; start()"
_LARGEST_MESSAGE: Final = 2**24
"""The largest JSON text with which a process introduces its model; it has the card, whose signs it escapes."""
_LARGEST_ANSWER: Final = 2**16
"""The largest JSON text of an answer, which an event loop parses."""
_CHECK_SECONDS: Final = 0.05
"""Time between two checks of the memory and the deadline."""
_CHECKS_PER_CHILD_CHECK: Final = 20
"""The memory of the process's own children is counted in one check of so many, because finding them takes longer."""
_LONGEST_ERROR: Final = 1000
_MALFORMED: Final = "gave a malformed answer"
_PIPE_BYTES: Final = 2**20
"""The size that the pipes' buffers are given. A message that fits is sent without waiting."""

# Linux kills a child when the *thread* that started it ends, so a thread that is never stopped starts all of them.
_starter = ThreadPoolExecutor(1, thread_name_prefix="start")


def _renew_starter() -> None:
    global _starter
    _starter = ThreadPoolExecutor(1, thread_name_prefix="start")


if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=_renew_starter)


@dataclass(frozen=True, kw_only=True)
class ProcessLimits:
    """The limits of a model's process.

    Args:
        seconds: The time to open the model, and the time for each answer.
        memory: The memory of the process in bytes.
        threads: The largest number of threads; None leaves it to the runtime.

    Raises:
        CourseError: A number is not positive.

    Example:
        >>> ProcessLimits(seconds=0)
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: seconds is 0; give a number above 0
    """

    seconds: float = 50
    memory: int = 4 * 2**30
    threads: int | None = None

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise CourseError(f"seconds is {self.seconds}; give a number above 0")
        check_positive(memory=self.memory, threads=1 if self.threads is None else self.threads)


class LimitedProcess:
    """A limited process with one task; it ends with the ``with`` block, with this object, or with the program.

    The task is one of ``child.TASKS``; without a backend it cannot use Keras. The device is one of ``auto``, ``cpu``,
    ``gpu`` and ``gpu:N``.
    """

    def __init__(
        self, task: str, path: Path, limits: ProcessLimits, *, backend: str, device: str = "auto", **settings: Any
    ) -> None:
        self.path, self._limits, self._backend = path, limits, backend
        self._settings = {"only": None, **settings, "task": task, "path": str(path.absolute()), "device": device}
        self._lock = threading.RLock()
        self._is_waiting = False  # an event loop waits for an answer
        self._begin()

    def _begin(self) -> None:
        """Starts the process."""
        stack = ExitStack()
        # the folder that a killed process left behind is removed by the next process
        folder = stack.enter_context(folder_beside(Path(tempfile.gettempdir()) / "keras-course-model"))
        limits = self._limits
        settings = {**self._settings, "parent": os.getpid(), "memory": limits.memory, "threads": limits.threads}
        command = select.second_process(self._backend, "-c", _START, json.dumps(settings))
        # the model need not know where the data are; what it writes goes to a folder that is removed
        environment = {key: value for key, value in command["env"].items() if not key.startswith("KERAS_COURSE_")}
        environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP", "KERAS_HOME"), str(folder))
        if limits.threads is not None:
            environment["OMP_NUM_THREADS"] = str(limits.threads)
        started: Future[subprocess.Popen[bytes]] = _starter.submit(
            subprocess.Popen,
            command["args"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            start_new_session=True,
        )
        self._process = started.result()
        self._room = _enlarge_pipes(self._process)
        self._monitor = _Monitor(self._process, limits)
        self._end = weakref.finalize(self, _end, self._monitor, stack)
        threading.Thread(target=self._monitor.run, name="monitor a model", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kills the process."""
        self._end()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def cancel(self) -> None:
        """Kills the process from another thread; a call that waits for an answer fails at once."""
        self._monitor.kill("was canceled")

    def receive(self, *, seconds: float | None = None) -> dict[str, Any]:
        """Returns the fields of the next message; raises a ``CourseError`` if it reports one, or a limit is broken."""
        with self._lock:
            return self._receive(self._limits.seconds if seconds is None else seconds, 0)[0]

    def _ask(
        self, request: dict[str, Any], array: "np.ndarray", most: int, seconds: float | None
    ) -> tuple[dict[str, Any], bytes]:
        """Sends one request, and returns the fields of the answer and the bytes after them, at most ``most``."""
        seconds = self._limits.seconds if seconds is None else seconds
        stdin = self._process.stdin
        assert stdin is not None
        with self._lock:
            self._monitor.deadline = time.monotonic() + seconds
            # if the process has ended, its last message is still read
            with suppress(OSError, ValueError):
                for part in _message(request, array):
                    stdin.write(part)
                stdin.flush()
            return self._receive(seconds, most)

    async def _ask_async(
        self, request: dict[str, Any], array: "np.ndarray", most: int
    ) -> tuple[dict[str, Any], bytes] | None:
        """Asks as ``_ask`` does, without blocking the event loop; returns None if sending would block."""
        import asyncio

        message = _message(request, array)
        if sum(map(len, message)) > self._room or self._is_waiting or not self._lock.acquire(blocking=False):
            return None
        try:
            if self._process.poll() is not None:
                return None
            self._is_waiting = True
            answer: asyncio.Future[tuple[dict[str, Any], bytes]] = asyncio.get_running_loop().create_future()
            with self._answering(self._limits.seconds):
                self._send(message)
                with _Listening(self._process, self._reading(most), answer):
                    return await answer
        except asyncio.CancelledError:
            self.close()  # else its answer would be taken for the answer to the next request
            raise
        finally:
            self._is_waiting = False
            self._lock.release()

    def _send(self, message: "Sequence[memoryview]") -> None:
        """Writes a message into the pipe, which has room for it unless the process has stopped reading."""
        assert self._process.stdin is not None
        descriptor = self._process.stdin.fileno()
        os.set_blocking(descriptor, False)
        try:
            with suppress(BrokenPipeError):  # its last message is still read
                if os.writev(descriptor, message) < sum(map(len, message)):
                    self._fail(_MALFORMED)
        except BlockingIOError:
            self._fail(_MALFORMED)
        finally:
            if not self._process.stdin.closed:
                os.set_blocking(descriptor, True)

    def _receive(self, seconds: float, most: int) -> tuple[dict[str, Any], bytes]:
        """Waits for the next message; the caller holds the lock."""
        reading = self._reading(most)
        with self._answering(seconds):
            try:
                count = next(reading)
                while True:
                    count = reading.send(self._read(count))
            except StopIteration as end:
                return end.value

    @contextmanager
    def _answering(self, seconds: float) -> "Iterator[None]":
        """Limits the time of an answer, and fails if it is malformed or the process has ended (EOFError)."""
        self._monitor.deadline = time.monotonic() + seconds
        try:
            yield
        except EOFError:
            self._fail(self._monitor.reason or f"ended the process that opened it ({self._monitor.describe_end()})")
        except CourseError:
            raise
        except (ValueError, TypeError, RecursionError) as error:
            self._fail(str(error) if isinstance(error, _MalformedError) else _MALFORMED)
        finally:
            self._monitor.deadline = None

    def _reading(self, most: int) -> "_Reading":
        """Parses a message: yields the number of bytes that it needs next, and returns the fields and the content."""
        length = int.from_bytes((yield 4), "big")
        if length > (_LARGEST_ANSWER if most else _LARGEST_MESSAGE):
            raise _MalformedError(_MALFORMED)
        said = dict(json.loads((yield length)))
        size = said.get("bytes", 0)
        if "error" in said:
            words = str(said["error"]).replace(str(self.path.absolute()), str(self.path))
            raise CourseError(printable(words)[:_LONGEST_ERROR])
        if type(size) is not int:
            raise _MalformedError(_MALFORMED)
        if not 0 <= size <= most:
            raise _MalformedError(f"gives {size:,} bytes, and {most:,} are expected")
        return said, (yield size)

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        content = b""
        with suppress(OSError, ValueError):  # closed meanwhile
            content = self._process.stdout.read(count)
        if len(content) < count:
            raise EOFError
        return content

    def _fail(self, reason: str) -> NoReturn:
        self.close()
        raise CourseError(f"{self.path} {reason}")


class ModelProcess(LimitedProcess):
    """The process in which a model in a safe format is open; if it has ended, the next request starts it again.

    Without ``needs_card``, a model that has no card gets that of ``cards.card_by_shapes``.
    """

    def __init__(
        self,
        file: ModelFile,
        limits: ProcessLimits,
        *,
        backend: str = "",
        device: str = "auto",
        needs_card: bool = True,
    ) -> None:
        self.format = file.format
        settings = {"format": file.format, "needs_card": needs_card}
        # the one file that the process may read besides the program's; Landlock wants the path without links
        settings["only"] = str(file.path.resolve())
        name = select.choose_for_second_process(backend) if file.is_keras else ""
        super().__init__("answer", file.path, limits, backend=name, device=device, **settings)

    def introduce(self, *, seconds: float | None = None) -> "tuple[ModelCard, dict[str, Any]]":
        """Waits until the model is open, and returns its card and some more fields of ``Runtime``.

        They are ``runtime`` (its name), ``seconds``, ``compiled`` and ``any_length``.
        """
        from keras_course.cards import ModelCard

        said = self.receive(seconds=seconds)
        try:
            facts: dict[str, Any] = {"runtime": printable(str(said["runtime"]))[:200]}
            facts["seconds"] = float(said["seconds"])
            facts |= {switch: said[switch] is True for switch in ("compiled", "any_length")}
            return ModelCard.from_json(said["card"]), facts
        except (KeyError, TypeError, ValueError):
            self._fail("did not describe itself when it was opened")

    def outputs(self, inputs: "np.ndarray", numbers: int, *, seconds: float | None = None) -> "npt.NDArray[np.float32]":
        """Returns the output of the model, float32 (n, numbers), for pictures or tokens. See ``Runtime.outputs``."""
        self._restart_if_ended()
        request, most = _output_request(inputs, numbers)
        return self._checked(*self._ask(request, inputs, most, seconds), len(inputs), numbers)

    async def outputs_async(self, inputs: "np.ndarray", numbers: int) -> "npt.NDArray[np.float32]":
        """Computes as ``outputs`` without blocking the event loop. See ``outputs``."""
        request, most = _output_request(inputs, numbers)
        answer = await self._ask_async(request, inputs, most)
        if answer is None:
            import asyncio

            return await asyncio.to_thread(self.outputs, inputs, numbers)
        return self._checked(*answer, len(inputs), numbers)

    def _checked(self, said: dict[str, Any], content: bytes, count: int, numbers: int) -> "npt.NDArray[np.float32]":
        """Returns the output in an answer, after checking that it has the shape of the card."""
        import numpy as np

        if said.get("shape") != [count, numbers]:
            shape = printable(str(said.get("shape")))[:60]
            raise CourseError(f"{self.path} gives {shape} for {count} inputs, and its card says {numbers} numbers each")
        if len(content) != 4 * count * numbers:
            self._fail(_MALFORMED)
        return np.frombuffer(content, "<f4").reshape(count, numbers)

    def heat(self, picture: "np.ndarray", label: int) -> "npt.NDArray[np.float32] | None":
        """Computes by Grad-CAM how much each pixel contributes to a class. See ``Runtime.heat``."""
        import numpy as np

        self._restart_if_ended()
        height, width, _ = picture.shape
        request = {"ask": "heat", "shape": picture.shape, "dtype": picture.dtype.str, "label": label}
        said, content = self._ask(request, picture, 4 * height * width, None)
        return np.frombuffer(content, "<f4").reshape(height, width) if said.get("shape") == [height, width] else None

    def _restart_if_ended(self) -> None:
        """Starts the process again if it has ended, so that one bad request does not stop later ones."""
        with self._lock:
            if self._process.poll() is not None:
                self.close()
                self._begin()
                self.introduce()


def _enlarge_pipes(process: "subprocess.Popen[bytes]") -> int:
    """Enlarges the pipes to a process and returns how many bytes the one to it holds; 0 where the system does not say.

    The system refuses where it limits the memory of all pipes of a user.
    """
    if sys.platform != "linux":
        return 0
    import fcntl

    assert process.stdin is not None
    assert process.stdout is not None
    for stream in (process.stdin, process.stdout):
        with suppress(OSError):
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return fcntl.fcntl(process.stdin, fcntl.F_GETPIPE_SZ)


def _output_request(inputs: "np.ndarray", numbers: int) -> tuple[dict[str, Any], int]:
    """Returns the request for the output of some inputs, and the size of the answer in bytes."""
    request = {"ask": "outputs", "shape": inputs.shape, "dtype": inputs.dtype.str}
    return request, 4 * len(inputs) * numbers


def _message(request: dict[str, Any], array: "np.ndarray") -> "tuple[memoryview, memoryview]":
    """Returns the bytes of a request, and those of its array without copying them."""
    import numpy as np

    header = json.dumps(request).encode()
    content = np.ascontiguousarray(array).data.cast("B")
    return memoryview(len(header).to_bytes(4, "big") + header), content


class _MalformedError(ValueError):
    """The message of a process is malformed; the text says why."""


class _Listening:
    """A context manager that reads an answer in the event loop into a future; EOFError if the process has ended."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        reading: "_Reading",
        answer: "asyncio.Future[tuple[dict[str, Any], bytes]]",
    ) -> None:
        assert process.stdout is not None
        self._stdout, self._reading, self._answer = process.stdout, reading, answer
        self._content = bytearray()
        self._count = next(reading)

    def __enter__(self) -> None:
        self._descriptor = self._stdout.fileno()
        self._answer.get_loop().add_reader(self._descriptor, self._read)

    def __exit__(self, *_: object) -> None:
        self._answer.get_loop().remove_reader(self._descriptor)
        os.set_blocking(self._descriptor, True)  # uvloop turns that off

    def _read(self) -> None:
        if self._answer.done():
            return
        try:
            chunk = os.read(self._descriptor, _PIPE_BYTES)
            if not chunk:
                raise EOFError
            self._content += chunk
            while len(self._content) >= self._count:
                part = bytes(self._content[: self._count])
                del self._content[: self._count]
                self._count = self._reading.send(part)
        except StopIteration as end:
            self._answer.set_result(end.value)
        except Exception as error:  # passed on to the caller, whatever it is
            self._answer.set_exception(error)


def start_model(
    file: ModelFile, *, threads: int | None = None, backend: str = "", limits: ProcessLimits | None = None
) -> ModelProcess:
    """Starts the process that opens a model, and does not wait for it. See ``runtimes.open_model``."""
    if not file.is_given and file.path.is_symlink():
        raise CourseError(f"{file.path} is a link, which is not followed; copy the file itself")
    check_model_file(file)
    return ModelProcess(file, replace(limits or ProcessLimits(), threads=threads), backend=backend)


class _Monitor:
    """Enforces the limits of a process from a thread; it must not keep the object alive that ends the process."""

    def __init__(self, process: "subprocess.Popen[bytes]", limits: ProcessLimits) -> None:
        self.process, self._limits = process, limits
        self.deadline: float | None = None  # of the current request
        self.reason = ""  # why the process was killed

    def run(self) -> None:
        """Kills the process when it breaks a limit; a call that waits for an answer then fails."""
        checks = 0
        while self.process.poll() is None:
            deadline = self.deadline
            if deadline is not None and time.monotonic() > deadline:
                self.kill(f"took more than {self._limits.seconds:g} seconds")
            # finding its children takes milliseconds, and hardly any model starts one
            elif self.memory_in_use(with_children=checks % _CHECKS_PER_CHILD_CHECK == 0) > self._limits.memory:
                self.kill(f"took more than {self._limits.memory / 2**20:,.0f} MiB of memory")
            checks += 1
            time.sleep(_CHECK_SECONDS)

    def kill(self, reason: str = "") -> None:
        """Kills the process and its children."""
        import psutil

        self.reason = self.reason or reason
        with suppress(psutil.Error):
            for one in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    one.kill()
        self.process.kill()

    def describe_end(self) -> str:
        """Returns how the process ended: the name of a signal, or its exit code."""
        code = None
        with suppress(subprocess.TimeoutExpired):
            code = self.process.wait(1)
        if code is not None and code < 0:
            with suppress(ValueError):
                return signal.Signals(-code).name
        return "still running" if code is None else f"exit code {code}"

    def memory_in_use(self, *, with_children: bool = True) -> int:
        """Returns the memory of the process, and of its children, in bytes."""
        import psutil

        total = 0
        with suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            for one in [process, *(process.children(recursive=True) if with_children else [])]:
                with suppress(psutil.Error):
                    total += one.memory_info().rss
        return total


def _end(monitor: _Monitor, stack: ExitStack) -> None:
    monitor.kill()
    monitor.process.wait()
    for stream in (monitor.process.stdin, monitor.process.stdout):
        with suppress(OSError, ValueError):
            assert stream is not None
            stream.close()
    stack.close()
