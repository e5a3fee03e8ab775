"""The formats in which a model can be saved: who writes each, and what opens it.

No framework is imported here before a model of its format is opened.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from keras_course._backend import select
from keras_course.errors import CourseError

CARD: Final = "card.json"
"""The name of a model's card, in whatever place a format has for it."""

LARGEST_FILE_BYTES: Final = 2**31

Run = Callable[[np.ndarray], np.ndarray]


class Opened(NamedTuple):
    """A model in its own runtime.

    Args:
        runtime: What computes, with its version.
        card: The text of its card, None where it has none.
        run: From uint8 or float32 pictures (n, height, width, channels) to logits (n, classes).
    """

    runtime: str
    card: str | None
    run: Run


@dataclass(frozen=True)
class Format:
    """A format.

    Args:
        name: As on the command line.
        file_name: How a file or folder of it is called.
        runtime: The package that opens it, as it is imported.
        install: What brings that package.
        open: Opens a file or folder with at most so many threads, None for as many as the runtime likes.
    """

    name: str
    file_name: str
    runtime: str
    install: str
    open: Callable[[Path, int | None], Opened]


def format_of(path: Path) -> str:
    """Says of which format a model is, by its name.

    Args:
        path: A file or folder.

    Returns:
        ``keras``, or one of ``FORMATS``.

    Raises:
        CourseError: It is none of them.

    Example:
        >>> format_of(Path("runs/04_mnist_dense/model.keras")), format_of(Path("digits.onnx"))
        ('keras', 'onnx')
    """
    if path.suffix == ".keras" or path.suffix == ".h5":
        return "keras"
    for known in FORMATS.values():
        if path.suffix and path.suffix == Path(known.file_name).suffix:
            return known.name
    raise CourseError(f"{path} is no model of a known format; give a run folder, a .keras file, or an export")


def open_export(path: Path, threads: int | None = None) -> Opened:
    """Opens an exported model in the runtime of its format.

    Args:
        path: Its file or folder.
        threads: How many threads to use at most.

    Returns:
        The model, its card and the name of the runtime.

    Raises:
        CourseError: The runtime is not installed, or the model cannot be opened.
    """
    known = FORMATS[format_of(path)]
    if not select.is_installed(known.runtime.partition(".")[0]):
        raise CourseError(f"{path} needs {known.runtime}, which is not installed; run: {known.install}")
    try:
        return known.open(path, threads)
    except CourseError:
        raise
    except Exception as error:  # each runtime has errors of its own
        reason = " ".join(str(error).split())[:300]
        raise CourseError(f"{path} cannot be opened as a model: {reason}") from error


def _open_onnx(path: Path, threads: int | None) -> Opened:
    runtime: Any = import_module("onnxruntime")
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise CourseError(f"{path} has more than {LARGEST_FILE_BYTES:,} bytes; models are smaller")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    # from bytes: a model in memory cannot ask for files beside it
    session = runtime.InferenceSession(path.read_bytes(), options, providers=runtime.get_available_providers())
    name = session.get_inputs()[0].name

    def run(pictures: np.ndarray) -> np.ndarray:
        return session.run(None, {name: pictures.astype("float32", copy=False)})[0]

    card = session.get_modelmeta().custom_metadata_map.get(CARD)
    return Opened(f"ONNX Runtime {runtime.__version__}", card, run)


FORMATS: Final = {
    known.name: known
    for known in (Format("onnx", "model.onnx", "onnxruntime", 'pip install "keras-course[onnx]"', _open_onnx),)
}
"""All formats besides Keras' own, by name."""
