"""What the process does in which a model is opened that may come from anybody; ``isolation.py`` starts it.

Both sides speak the same way: four bytes with the length of a text in JSON, the text, and as many bytes as it says.
"""

import json
import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from keras_course.errors import CourseError
from keras_course.limits import confine, keep_to

if TYPE_CHECKING:
    from keras_course.deployment.runtimes import Runtime

__all__ = ["TASKS", "start"]

_LARGEST_FILE: Final = 2**31
_BESIDE: Final = 2**30
"""Memory that a process may reserve beyond what it may fill: stacks of threads, and what runtimes take in advance."""


def start() -> None:
    """Begins the process: limits it, then does what it was started for."""
    settings = json.loads(sys.argv[1])
    has_gpu = settings["device"] != "cpu" and Path("/dev/nvidiactl").exists()  # its driver reserves whatever there is
    confine(
        parent=settings["parent"],
        memory_bytes=None if has_gpu else settings["memory"] + _BESIDE,
        file_bytes=_LARGEST_FILE,
    )
    if settings["only"]:  # a model has no business with other files; what runs it asks for the system's
        keep_to(["/bin", "/etc", "/opt", "/proc", "/sys", "/run", settings["only"]], [str(Path.cwd()), "/dev"])
    # what a framework prints must not be taken for an answer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from keras_course._backend import select

    select.apply_device(settings["device"])
    with suppress(BrokenPipeError, KeyboardInterrupt):
        try:
            TASKS[settings["task"]](settings, answers)
        except CourseError as error:
            _say(answers, error=str(error))
        except MemoryError:
            _say(answers, error=f"{settings['path']} takes more memory than it may")


def _answer(settings: dict[str, Any], answers: IO[bytes]) -> None:
    """Opens a model, and answers until nobody asks any more."""
    from keras_course.deployment.runtimes import open_here

    path, needs_card = Path(settings["path"]), settings["needs_card"]
    runtime = open_here(path, threads=settings["threads"], needs_card=needs_card)
    _say(
        answers,
        card=runtime.card.to_json(),
        format=runtime.format,
        runtime=runtime.name,
        seconds=runtime.seconds,
        compiled=runtime.compiled,
    )
    while request := _hear():
        try:
            _answer_one(runtime, request, answers)
        except CourseError as error:
            _say(answers, error=str(error))


def _answer_one(runtime: "Runtime", request: dict[str, Any], answers: IO[bytes]) -> None:
    import numpy as np

    shape, dtype = request["shape"], np.dtype(request["dtype"])
    content = sys.stdin.buffer.read(math.prod(shape) * dtype.itemsize)
    pictures = np.frombuffer(content, dtype).reshape(shape)
    if request["ask"] == "heat":
        heat = runtime.heat(pictures, request["label"])
        outputs = np.zeros(0, "<f4") if heat is None else np.ascontiguousarray(heat, "<f4")
    else:
        outputs = np.ascontiguousarray(runtime.outputs(pictures), "<f4")
    _say(answers, outputs.tobytes(), shape=outputs.shape, bytes=outputs.nbytes)


def _export(settings: dict[str, Any], answers: IO[bytes]) -> None:
    """Writes a model in another format."""
    from keras_course._backend import select
    from keras_course.deployment.export import export_here

    select.import_keras()
    done = export_here(settings["path"], format=settings["format"], output=settings["output"])
    _say(answers, **{**vars(done), "path": str(done.path)})


TASKS: Final = {"answer": _answer, "export": _export}


def _hear() -> dict[str, Any] | None:
    """Reads the next request; None where nobody asks any more."""
    length = sys.stdin.buffer.read(4)
    return json.loads(sys.stdin.buffer.read(int.from_bytes(length, "big"))) if len(length) == 4 else None


def _say(answers: IO[bytes], content: bytes = b"", **facts: Any) -> None:
    header = json.dumps(facts).encode()
    answers.write(len(header).to_bytes(4, "big") + header + content)
    answers.flush()
