"""A model that may come from anybody, opened in a process of its own: limited, and killed where it breaks a limit.

The process is started once and kept. It is told where the model is, limits itself (see ``limits.confine``) before it
opens it, and answers one request after the other, through pipes. It never learns anything but pictures. It ends when
its parent does, whatever becomes of that one.

NumPy and psutil are imported when the process has been started: meanwhile it opens the model.
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
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from keras_course._backend import formats, select
from keras_course.deployment.locate import find_model
from keras_course.errors import CourseError, check_positive
from keras_course.files import folder_beside
from keras_course.foreign_text import printable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Generator, Sequence

    import numpy as np
    import numpy.typing as npt

    from keras_course.cards import ModelCard

    _Reading = Generator[int, bytes, tuple[dict[str, Any], bytes]]

__all__ = ["LimitedProcess", "Limits", "ModelProcess", "start_model"]

_START: Final = "from keras_course.deployment.child import start; start()"
_LARGEST_MESSAGE: Final = 2**23
_LOOK: Final = 0.05  # seconds between two looks at the memory of a process that has not answered yet
_SELDOM: Final = 20  # with one look in so many, also at the processes that it has started
_LONGEST_ERROR: Final = 1000
_NONSENSE: Final = "does not answer as a model does"
_PIPE_BYTES: Final = 2**20
"""That the system holds on the way to the process and back: what fits into them is sent without waiting (Linux)."""

# Linux ends a child together with the *thread* that started it: so one that lasts as long as this process starts all.
_starter = ThreadPoolExecutor(1, thread_name_prefix="start")


def _renew_starter() -> None:
    global _starter
    _starter = ThreadPoolExecutor(1, thread_name_prefix="start")


if hasattr(os, "register_at_fork"):  # threads do not live on in a process that is forked off
    os.register_at_fork(after_in_child=_renew_starter)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the process of a model may take.

    Args:
        seconds: To open the model, and then for each answer.
        memory: Bytes that the process may fill.
        threads: How many it may compute with; None leaves it to what opens the model.

    Raises:
        CourseError: A number is not positive.

    Example:
        >>> Limits(seconds=0)
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: seconds is 0; give how many a model may take
    """

    seconds: float = 50
    memory: int = 4 * 2**30
    threads: int | None = None

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise CourseError(f"seconds is {self.seconds}; give how many a model may take")
        check_positive(memory=self.memory, threads=1 if self.threads is None else self.threads)


class LimitedProcess:
    """A process with limits that does one thing with a file; it ends with the block, with this object, or the program.

    Args:
        task: What it does, one of ``child.TASKS``.
        path: The file or folder of a model; it is an attribute as well.
        limits: What the process may take.
        backend: What Keras runs on there; empty where Keras is not needed.
        device: Where it computes, as for ``--device``.
        **settings: What the task needs to know besides.
    """

    def __init__(
        self, task: str, path: Path, limits: Limits, *, backend: str, device: str = "auto", **settings: Any
    ) -> None:
        self.path, self._limits, self._backend = path, limits, backend
        self._settings = {"only": None, **settings, "task": task, "path": str(path.absolute()), "device": device}
        self._lock = threading.RLock()
        self._is_asked = False  # from an event loop
        self._begin()

    def _begin(self) -> None:
        """Starts the process."""
        stack = ExitStack()
        # one that a killed process has left behind is removed by the next one
        folder = stack.enter_context(folder_beside(Path(tempfile.gettempdir()) / "keras-course-model"))
        limits = self._limits
        settings = {**self._settings, "parent": os.getpid(), "memory": limits.memory, "threads": limits.threads}
        command = select.second_process(self._backend, "-c", _START, json.dumps(settings))
        # where the data of the course are is nothing to a model; what it writes goes to a folder that is removed
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
            pipesize=_PIPE_BYTES,
        )
        self._process = started.result()
        self._watched = _Watched(self._process, limits)
        self._end = weakref.finalize(self, _end, self._watched, stack)
        threading.Thread(target=self._watched.look, name="watch a model", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process, whatever it does."""
        self._end()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def cancel(self) -> None:
        """Ends the process from another thread; a call that waits for its answer fails at once."""
        self._watched.kill("was given up")

    def hear(self, *, seconds: float | None = None) -> dict[str, Any]:
        """Waits for what the process says without being asked.

        Args:
            seconds: How long; without it, as long as the limits allow.

        Returns:
            What it says.

        Raises:
            CourseError: It says that the file cannot be used, or it broke a limit.
        """
        with self._lock:
            return self._hear(self._limits.seconds if seconds is None else seconds, 0)[0]

    def _ask(
        self, request: dict[str, Any], array: "np.ndarray", most: int, seconds: float | None
    ) -> tuple[dict[str, Any], bytes]:
        """Sends one request, and gives what is said and the bytes that follow, at most so many."""
        seconds = self._limits.seconds if seconds is None else seconds
        stdin = self._process.stdin
        assert stdin is not None
        with self._lock:
            self._watched.deadline = time.monotonic() + seconds
            # it may have ended; what it said last is heard in any case
            with suppress(OSError, ValueError):
                for part in _message(request, array):
                    stdin.write(part)
                stdin.flush()
            return self._hear(seconds, most)

    async def _ask_soon(
        self, request: dict[str, Any], array: "np.ndarray", most: int
    ) -> tuple[dict[str, Any], bytes] | None:
        """Does as ``_ask`` from an event loop, without a thread; None where it would have to wait before it can ask."""
        import asyncio

        message = _message(request, array)
        if sys.platform != "linux" or sum(map(len, message)) > _PIPE_BYTES or not self._lock.acquire(blocking=False):
            return None
        try:
            if self._is_asked or self._process.poll() is not None:
                return None
            self._is_asked = True
            self._watched.deadline = time.monotonic() + self._limits.seconds
            answer: asyncio.Future[tuple[dict[str, Any], bytes]] = asyncio.get_running_loop().create_future()
            try:
                self._send(message)
                with _Listening(self._process, self._reading(most), answer):
                    return await answer
            except asyncio.CancelledError:
                self.close()  # what it answers would be taken for the answer to the next request
                raise
            except EOFError:
                self._fail_at_end()
            except CourseError:
                raise
            except (ValueError, TypeError, RecursionError) as error:
                self._fail(_reason_of(error))
            finally:
                self._watched.deadline = None
                self._is_asked = False
        finally:
            self._lock.release()

    def _send(self, message: "Sequence[memoryview]") -> None:
        """Sends what fits into the pipe, which is empty unless the process does not read."""
        assert self._process.stdin is not None
        descriptor = self._process.stdin.fileno()
        os.set_blocking(descriptor, False)
        try:
            with suppress(BrokenPipeError):  # what it said last is heard in any case
                if os.writev(descriptor, message) < sum(map(len, message)):
                    self._fail(_NONSENSE)
        except BlockingIOError:
            self._fail(_NONSENSE)
        finally:
            if not self._process.stdin.closed:
                os.set_blocking(descriptor, True)

    def _hear(self, seconds: float, most: int) -> tuple[dict[str, Any], bytes]:
        """Waits for the next answer; the lock is held."""
        self._watched.deadline = time.monotonic() + seconds
        reading = self._reading(most)
        try:
            count = next(reading)
            while True:
                count = reading.send(self._receive(count))
        except StopIteration as end:
            return end.value
        except CourseError:
            raise
        except (ValueError, TypeError, RecursionError) as error:
            self._fail(_reason_of(error))
        finally:
            self._watched.deadline = None

    def _reading(self, most: int) -> "_Reading":
        """Says how many bytes of an answer come next, is given these, and returns the answer."""
        length = int.from_bytes((yield 4), "big")
        if length > _LARGEST_MESSAGE:
            raise _NoAnswer(_NONSENSE)
        said = dict(json.loads((yield length)))
        size = int(said.get("bytes", 0))
        if "error" in said:
            words = str(said["error"]).replace(str(self.path.absolute()), str(self.path))
            raise CourseError(printable(words)[:_LONGEST_ERROR])
        if not 0 <= size <= most:
            raise _NoAnswer(f"gives {size:,} bytes, and {most:,} are expected")
        return said, (yield size)

    def _receive(self, count: int) -> bytes:
        """Reads so many bytes."""
        assert self._process.stdout is not None
        content = b""
        with suppress(OSError, ValueError):  # closed meanwhile
            content = self._process.stdout.read(count)
        if len(content) < count:
            self._fail_at_end()
        return content

    def _fail_at_end(self) -> NoReturn:
        self._fail(self._watched.reason or f"ended the process that opened it ({self._watched.way_out()})")

    def _fail(self, reason: str) -> NoReturn:
        self.close()
        raise CourseError(f"{self.path} {reason}")


class ModelProcess(LimitedProcess):
    """The process in which a model is open; where it has ended, it is started again for the next question.

    Args:
        path: The file or folder of the model, in a safe format.
        limits: What the process may take.
        backend: On which Keras opens a ``.keras`` file; without it, the one of this process.
        device: Where it computes, as for ``--device``.
        needs_card: Whether a model without a card is refused; else it gets ``cards.card_by_shapes``.

    Raises:
        CourseError: There is no backend for it.
    """

    def __init__(
        self, path: Path, limits: Limits, *, backend: str = "", device: str = "auto", needs_card: bool = True
    ) -> None:
        name = select.choose_for_second_process(backend) if formats.format_of(path) == "keras" else ""
        # the one file that it may read besides those of the program; a link in the way to it has been followed
        only = str(path.resolve())
        super().__init__("answer", path, limits, backend=name, device=device, needs_card=needs_card, only=only)

    def introduce(self, *, seconds: float | None = None) -> "tuple[ModelCard, dict[str, Any]]":
        """Waits until the model is open.

        Args:
            seconds: How long; without it, as long as the limits allow.

        Returns:
            Its card, and what opened it: ``format``, ``runtime``, ``seconds`` and whether the sizes of batches are
            ``compiled``.

        Raises:
            CourseError: It cannot be opened, or broke a limit.
        """
        from keras_course.cards import ModelCard

        said = self.hear(seconds=seconds)
        try:
            facts: dict[str, Any] = {"format": str(said["format"]), "runtime": printable(str(said["runtime"]))[:200]}
            facts |= {"seconds": float(said["seconds"]), "compiled": said["compiled"] is True}
            return ModelCard.from_json(said["card"]), facts
        except (KeyError, TypeError, ValueError):
            self._fail("does not say what it takes")

    def outputs(
        self, pictures: "np.ndarray", numbers: int, *, seconds: float | None = None
    ) -> "npt.NDArray[np.float32]":
        """Lets the model answer a batch.

        Args:
            pictures: uint8 or float32 (n, height, width, channels).
            numbers: How many numbers it has to give for each picture.
            seconds: As for ``introduce``.

        Returns:
            float32 (n, numbers).

        Raises:
            CourseError: The model cannot compute with them, gives something else, or broke a limit.
        """
        self._open_again()
        request, most = _outputs_of(pictures, numbers)
        return self._checked(*self._ask(request, pictures, most, seconds), len(pictures), numbers)

    async def outputs_soon(self, pictures: "np.ndarray", numbers: int) -> "npt.NDArray[np.float32]":
        """Does as ``outputs`` from an event loop, which goes on meanwhile.

        Args:
            pictures: As for ``outputs``.
            numbers: As for ``outputs``.

        Returns:
            As ``outputs``.

        Raises:
            CourseError: As for ``outputs``.
        """
        request, most = _outputs_of(pictures, numbers)
        answer = await self._ask_soon(request, pictures, most)
        if answer is None:
            import asyncio

            return await asyncio.to_thread(self.outputs, pictures, numbers)
        return self._checked(*answer, len(pictures), numbers)

    def _checked(self, said: dict[str, Any], content: bytes, count: int, numbers: int) -> "npt.NDArray[np.float32]":
        """Makes sure that an answer has the shape that the card promises."""
        import numpy as np

        if said.get("shape") != [count, numbers]:
            shape = printable(str(said.get("shape")))[:60]
            raise CourseError(
                f"{self.path} gives {shape} for {count} pictures, and its card says {numbers} numbers each"
            )
        if len(content) != 4 * count * numbers:
            self._fail(_NONSENSE)
        return np.frombuffer(content, "<f4").reshape(count, numbers)

    def heat(self, picture: "np.ndarray", label: int) -> "npt.NDArray[np.float32] | None":
        """Asks for the places in a picture that speak for a class, by Grad-CAM.

        Args:
            picture: uint8 (height, width, channels).
            label: The class.

        Returns:
            float32 (height, width), or None where the model has no convolution or is no Keras model.

        Raises:
            CourseError: It broke a limit.
        """
        import numpy as np

        self._open_again()
        height, width, _ = picture.shape
        request = {"ask": "heat", "shape": picture.shape, "dtype": picture.dtype.str, "label": label}
        said, content = self._ask(request, picture, 4 * height * width, None)
        return np.frombuffer(content, "<f4").reshape(height, width) if said.get("shape") == [height, width] else None

    def _open_again(self) -> None:
        """Starts the process anew where it has ended, so that one question costs no other one its answer."""
        with self._lock:
            if self._process.poll() is not None:
                self.close()
                self._begin()
                self.introduce()


def _outputs_of(pictures: "np.ndarray", numbers: int) -> tuple[dict[str, Any], int]:
    """Gives the request for the outputs of some pictures, and the bytes that may come back."""
    request = {"ask": "outputs", "shape": pictures.shape, "dtype": pictures.dtype.str}
    return request, 4 * len(pictures) * numbers


def _message(request: dict[str, Any], array: "np.ndarray") -> "tuple[memoryview, memoryview]":
    """Gives the bytes of a request, and those of what it is about without copying them."""
    import numpy as np

    header = json.dumps(request).encode()
    content = np.ascontiguousarray(array).data.cast("B")
    return memoryview(len(header).to_bytes(4, "big") + header), content


class _NoAnswer(ValueError):
    """What a process says is no answer; the message says why."""


def _reason_of(error: Exception) -> str:
    return str(error) if isinstance(error, _NoAnswer) else _NONSENSE


class _Listening:
    """While it lasts, what a process says goes to the reading of an answer, and the answer to a future.

    Args:
        process: The process.
        reading: What reads the answer.
        answer: What gets it, or the error; EOFError where the process has ended.
    """

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
        except Exception as error:  # whatever it is, who waits has to hear of it
            self._answer.set_exception(error)


def start_model(
    path: str | Path, *, threads: int | None = None, backend: str = "", limits: Limits | None = None
) -> ModelProcess:
    """Starts the process in which a model is opened, and does not wait for it.

    Args:
        path: The folder of a run, or the file or folder of a model.
        threads: How many threads the runtime may use.
        backend: On which Keras opens a ``.keras`` file; without it, the one in use.
        limits: What the process may take; its ``threads`` are those given here.

    Returns:
        The process.

    Raises:
        CourseError: There is no model, it is a link or not to be trusted, or its runtime is not installed.
    """
    found = find_model(path)
    if found != Path(path) and found.is_symlink():
        raise CourseError(f"{found} is a link; a model is made of files of its own: copy the file there")
    formats.check_can_be_opened(found)
    return ModelProcess(found, replace(limits or Limits(), threads=threads), backend=backend)


class _Watched:
    """What a thread looks at while a model answers: it has to keep no reference to what would end the process."""

    def __init__(self, process: "subprocess.Popen[bytes]", limits: Limits) -> None:
        self.process, self._limits = process, limits
        self.deadline: float | None = None  # for the answer that somebody waits for
        self.reason = ""  # why it was killed

    def look(self) -> None:
        """Kills the process when it breaks a limit; a call that waits for an answer then fails."""
        looks = 0
        while self.process.poll() is None:
            deadline = self.deadline
            if deadline is not None and time.monotonic() > deadline:
                self.kill(f"took more than {self._limits.seconds:g} seconds")
            # to find the processes that it has started takes milliseconds, and hardly any starts one
            elif self.filled(with_children=looks % _SELDOM == 0) > self._limits.memory:
                self.kill(f"took more than {self._limits.memory / 2**20:,.0f} MiB of memory")
            looks += 1
            time.sleep(_LOOK)

    def kill(self, reason: str = "") -> None:
        """Ends the process and those that it has started."""
        import psutil

        self.reason = self.reason or reason
        with suppress(psutil.Error):
            for one in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    one.kill()
        self.process.kill()

    def way_out(self) -> str:
        """Says how it has ended."""
        code = None
        with suppress(subprocess.TimeoutExpired):
            code = self.process.wait(1)
        if code is not None and code < 0:
            with suppress(ValueError):
                return signal.Signals(-code).name
        return "without an end" if code is None else f"exit code {code}"

    def filled(self, *, with_children: bool = True) -> int:
        """Counts the bytes of memory that the process fills, and those that it has started."""
        import psutil

        total = 0
        with suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            for one in [process, *(process.children(recursive=True) if with_children else [])]:
                with suppress(psutil.Error):
                    total += one.memory_info().rss
        return total


def _end(watched: _Watched, stack: ExitStack) -> None:
    watched.kill()
    watched.process.wait()
    for stream in (watched.process.stdin, watched.process.stdout):
        with suppress(OSError, ValueError):
            assert stream is not None
            stream.close()
    stack.close()
