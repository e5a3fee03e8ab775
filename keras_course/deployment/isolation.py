"""A model that may come from anybody, opened in a process of its own: limited, and killed where it breaks a limit.

The process is started once and kept. It is told where the model is, limits itself (see ``limits.confine``) before it
opens it, and answers one request after the other, through pipes. It never learns anything but pictures. It ends when
its parent does, whatever becomes of that one.
"""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Self

import numpy as np
import numpy.typing as npt
import psutil

from keras_course._backend import formats, select
from keras_course.cards import ModelCard
from keras_course.errors import CourseError, check_positive
from keras_course.files import folder_beside
from keras_course.foreign_text import printable

__all__ = ["LimitedProcess", "Limits", "ModelProcess"]

_START: Final = "from keras_course.deployment.child import start; start()"
_LARGEST_MESSAGE: Final = 2**23
_LOOK: Final = 0.05  # seconds between two looks at the memory of a process that has not answered yet
_SELDOM: Final = 20  # with one look in so many, also at the processes that it has started
_LONGEST_ERROR: Final = 1000

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
        path: The file or folder of a model.
        limits: What the process may take.
        backend: What Keras runs on there; empty where Keras is not needed.
        device: Where it computes, as for ``--device``.
        **settings: What the task needs to know besides.
    """

    def __init__(
        self, task: str, path: Path, limits: Limits, *, backend: str, device: str = "auto", **settings: Any
    ) -> None:
        self._path, self._limits, self._backend = path, limits, backend
        self._settings = {"only": None, **settings, "task": task, "path": str(path.absolute()), "device": device}
        self._lock = threading.RLock()
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
        self, request: dict[str, Any], array: np.ndarray, most: int, seconds: float | None
    ) -> tuple[dict[str, Any], bytes]:
        """Sends one request, and gives what is said and the bytes that follow, at most so many."""
        seconds = self._limits.seconds if seconds is None else seconds
        header = json.dumps(request).encode()
        stdin = self._process.stdin
        assert stdin is not None
        with self._lock:
            self._watched.deadline = time.monotonic() + seconds
            # it may have ended; what it said last is heard in any case
            with suppress(OSError, ValueError):
                stdin.write(len(header).to_bytes(4, "big") + header)
                stdin.write(np.ascontiguousarray(array).data)
                stdin.flush()
            return self._hear(seconds, most)

    def _hear(self, seconds: float, most: int) -> tuple[dict[str, Any], bytes]:
        """Waits for the next answer; the lock is held."""
        self._watched.deadline = time.monotonic() + seconds
        try:
            length = int.from_bytes(self._receive(4), "big")
            if length > _LARGEST_MESSAGE:
                self._fail("does not answer as a model does")
            said = dict(json.loads(self._receive(length)))
            size = int(said.get("bytes", 0))
            if "error" in said:
                words = str(said["error"]).replace(str(self._path.absolute()), str(self._path))
                raise CourseError(printable(words)[:_LONGEST_ERROR])
            if not 0 <= size <= most:
                self._fail(f"gives {size:,} bytes, and {most:,} are expected")
            return said, self._receive(size)
        except CourseError:
            raise
        except (ValueError, TypeError, RecursionError):
            self._fail("does not answer as a model does")
        finally:
            self._watched.deadline = None

    def _receive(self, count: int) -> bytes:
        """Reads so many bytes."""
        assert self._process.stdout is not None
        content = b""
        with suppress(OSError, ValueError):  # closed meanwhile
            content = self._process.stdout.read(count)
        if len(content) < count:
            self._fail(self._watched.reason or f"ended the process that opened it ({self._watched.way_out()})")
        return content

    def _fail(self, reason: str) -> NoReturn:
        self.close()
        raise CourseError(f"{self._path} {reason}")


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

    def introduce(self, *, seconds: float | None = None) -> tuple[ModelCard, dict[str, Any]]:
        """Waits until the model is open.

        Args:
            seconds: How long; without it, as long as the limits allow.

        Returns:
            Its card, and what opened it: ``format``, ``runtime``, ``seconds`` and whether the sizes of batches are
            ``compiled``.

        Raises:
            CourseError: It cannot be opened, or broke a limit.
        """
        said = self.hear(seconds=seconds)
        try:
            facts: dict[str, Any] = {"format": str(said["format"]), "runtime": printable(str(said["runtime"]))[:200]}
            facts |= {"seconds": float(said["seconds"]), "compiled": said["compiled"] is True}
            return ModelCard.from_json(said["card"]), facts
        except (KeyError, TypeError, ValueError):
            self._fail("does not say what it takes")

    def outputs(self, pictures: np.ndarray, numbers: int, *, seconds: float | None = None) -> npt.NDArray[np.float32]:
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
        request = {"ask": "outputs", "shape": pictures.shape, "dtype": pictures.dtype.str}
        said, content = self._ask(request, pictures, 4 * len(pictures) * numbers, seconds)
        if said.get("shape") != [len(pictures), numbers]:
            shape = printable(str(said.get("shape")))[:60]
            raise CourseError(
                f"{self._path} gives {shape} for {len(pictures)} pictures, and its card says {numbers} numbers each"
            )
        if len(content) != 4 * len(pictures) * numbers:
            self._fail("does not answer as a model does")
        return np.frombuffer(content, "<f4").reshape(len(pictures), numbers)

    def heat(self, picture: np.ndarray, label: int) -> npt.NDArray[np.float32] | None:
        """Asks for the places in a picture that speak for a class, by Grad-CAM.

        Args:
            picture: uint8 (height, width, channels).
            label: The class.

        Returns:
            float32 (height, width), or None where the model has no convolution or is no Keras model.

        Raises:
            CourseError: It broke a limit.
        """
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
