"""The program of the process that opens an untrusted model; ``isolation.py`` starts it.

A message in either direction is four bytes with the length of a JSON text, the text, and as many bytes as it announces.
"""

import json
import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from keras_course.errors import CourseError
from keras_course.limits import confine, restrict_files

if TYPE_CHECKING:
    from keras_course.deployment.runtimes import Runtime

__all__ = ["TASKS", "start"]

_LARGEST_FILE: Final = 2**31
_RESERVED: Final = 2**30
"""Memory that a process may reserve in addition to what it may use: stacks of threads, and buffers of runtimes."""


def start() -> None:
    """Limits the process, and runs its task."""
    settings = json.loads(sys.argv[1])
    has_gpu = settings["device"] != "cpu" and Path("/dev/nvidiactl").exists()  # its driver reserves all memory
    confine(
        parent=settings["parent"],
        memory_bytes=None if has_gpu else settings["memory"] + _RESERVED,
        file_bytes=_LARGEST_FILE,
    )
    if settings["only"]:  # runtimes read some of the system's files; the model needs no other file than its own
        restrict_files(["/bin", "/etc", "/opt", "/proc", "/sys", "/run", settings["only"]], [str(Path.cwd()), "/dev"])
    # what a framework prints must not get into the answers
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from keras_course._backend import select

    select.apply_device(settings["device"])
    with suppress(BrokenPipeError, KeyboardInterrupt):
        try:
            TASKS[settings["task"]](settings, answers)
        except CourseError as error:
            _send(answers, error=str(error))
        except MemoryError:
            _send(answers, error=f"{settings['path']} takes more memory than it may")


def _serve(settings: dict[str, Any], answers: IO[bytes]) -> None:
    """Opens a model, and answers requests until the input ends."""
    from keras_course.deployment.formats import ModelFile
    from keras_course.deployment.runtimes import open_here

    file = ModelFile(Path(settings["path"]), settings["format"])
    runtime = open_here(file, threads=settings["threads"], needs_card=settings["needs_card"])
    facts: dict[str, Any] = {"runtime": runtime.name, "seconds": runtime.seconds}
    facts |= {"compiled": runtime.compiled, "any_length": runtime.any_length}
    _send(answers, card=runtime.card.to_json(), **facts)
    while request := _receive():
        try:
            _answer(runtime, request, answers)
        except CourseError as error:
            _send(answers, error=str(error))


def _answer(runtime: "Runtime", request: dict[str, Any], answers: IO[bytes]) -> None:
    import numpy as np

    shape, dtype = request["shape"], np.dtype(request["dtype"])
    content = sys.stdin.buffer.read(math.prod(shape) * dtype.itemsize)
    inputs = np.frombuffer(content, dtype).reshape(shape)
    if request["ask"] == "heat":
        heat = runtime.heat(inputs, request["label"])
        outputs = np.zeros(0, "<f4") if heat is None else np.ascontiguousarray(heat, "<f4")
    else:
        outputs = np.ascontiguousarray(runtime.outputs(inputs), "<f4")
    _send(answers, outputs.tobytes(), shape=outputs.shape, bytes=outputs.nbytes)


def _export(settings: dict[str, Any], answers: IO[bytes]) -> None:
    """Writes a model in another format."""
    from keras_course._backend import select
    from keras_course.deployment.export import export_here

    select.import_keras()
    chosen = {name: settings[name] for name in ("format", "output", "quantize")}
    done = export_here(settings["path"], **chosen)
    _send(answers, **{**vars(done), "path": str(done.path)})


TASKS: Final = {"answer": _serve, "export": _export}


def _receive() -> dict[str, Any] | None:
    """Returns the next request, or None at the end of the input."""
    length = sys.stdin.buffer.read(4)
    return json.loads(sys.stdin.buffer.read(int.from_bytes(length, "big"))) if len(length) == 4 else None


def _send(answers: IO[bytes], content: bytes = b"", **facts: Any) -> None:
    header = json.dumps(facts).encode()
    answers.write(len(header).to_bytes(4, "big") + header + content)
    answers.flush()
