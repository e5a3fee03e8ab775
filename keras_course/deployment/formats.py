"""The formats in which a model can be saved, how to tell them apart, and which of them are safe to open.

A format is safe if opening a file and running the model can do nothing but compute. Three formats are not safe. A
SavedModel can read and write files. PyTorch evaluates parts of a ``.pt2`` file as Python and unpickles others. LiteRT
only computes, but trusts the memory offsets in a file, so that a damaged one can end the process.
"""

from pathlib import Path
from typing import Final, NamedTuple

from keras_course._backend import select
from keras_course._backend.model_formats import (
    EXPORTED_PROGRAM,
    LITERT_WRITERS,
    ONNX_WRITERS,
    SAVED_MODEL,
    Format,
    Opened,
    extra,
)
from keras_course.deployment.export_runtimes import open_litert, open_onnx, open_openvino
from keras_course.deployment.locate import LARGEST_MODEL_BYTES, files_of, find_model
from keras_course.errors import CourseError, reason_of

FORMATS: Final = {
    known.name: known
    for known in (
        Format(
            name="onnx",
            file_name="model.onnx",
            runtime="onnxruntime",
            install=extra("onnx"),
            writers=ONNX_WRITERS,
            open=open_onnx,
        ),
        SAVED_MODEL,
        Format(
            name="litert",
            file_name="model.tflite",
            runtime="ai_edge_litert",
            install=extra("litert"),
            writers=LITERT_WRITERS,
            open=open_litert,
            is_safe=False,
        ),
        EXPORTED_PROGRAM,
        Format(
            name="openvino",
            file_name="openvino",
            is_folder=True,
            runtime="openvino",
            install=extra("openvino"),
            writers=ONNX_WRITERS,  # converted from ONNX, which all backends write with a batch of any size
            open=open_openvino,
        ),
    )
}
"""All formats besides Keras' own, by name."""


class ModelFile(NamedTuple):
    """A model on the disk, and its format.

    Args:
        path: The file or folder.
        format: ``keras``, or one of ``FORMATS``.
        is_given: True if the person named this path, and not the run folder around it.
    """

    path: Path
    format: str
    is_given: bool = True

    @property
    def is_keras(self) -> bool:
        """True if Keras opens the model."""
        return self.format == "keras"


def find_model_file(path: str | Path) -> ModelFile:
    """Returns the file of a model and its format.

    Args:
        path: The folder of a run, a model's file or folder in any format, or the name of a pre-trained model.

    Returns:
        The path and the format of the model.

    Raises:
        CourseError: There is no model, or its format is unknown.

    Example:
        >>> find_model_file("runs/no_such_lesson")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no runs/no_such_lesson; give a run folder or the file of a model
    """
    found = find_model(path)
    return ModelFile(found, format_of(found), found == Path(path))


def format_of(path: Path) -> str:
    """Returns the format of a model, which its name or, in a folder, its files tell.

    Args:
        path: A file or folder.

    Returns:
        ``keras``, or one of ``FORMATS``.

    Raises:
        CourseError: The format is unknown.

    Example:
        >>> format_of(Path("runs/04_mnist_dense/model.keras")), format_of(Path("digits.onnx"))
        ('keras', 'onnx')
    """
    if path.is_dir():
        inside = {"saved_model.pb": "saved_model", "model.xml": "openvino"}
        for file, kind in inside.items():
            if (path / file).is_file():
                return kind
    if path.suffix in (".keras", ".h5"):
        return "keras"
    for known in FORMATS.values():
        if path.suffix and path.suffix == Path(known.file_name).suffix:
            return known.name
    raise CourseError(f"{path} is no model of a known format; give a run folder, a .keras file, or an export")


def check_model_file(file: ModelFile, *, trust: bool = False) -> None:
    """Checks all that can be checked of a model without opening it.

    Args:
        file: The model.
        trust: True to allow formats in which a model can run code or end the process.

    Raises:
        CourseError: The format is not safe, the runtime is not installed, or the model is too large or made of links.

    Example:
        >>> check_model_file(ModelFile(Path("no_such_model.tflite"), "litert"))
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: no_such_model.tflite is in the format litert, in which a model can run code ...
    """
    path = file.path
    if known := FORMATS.get(file.format):
        if not known.is_safe and not trust:
            raise CourseError(
                f"{path} is in the format {known.name}, in which a model can run code or end the process; if you made "
                "it yourself, add --trust, in Python open_model(path, trust=True); else ask for another format"
            )
        select.require(known.runtime, what=str(path), install=known.install)
        if path.is_dir() != known.is_folder:
            raise CourseError(f"{path} is not a {'folder' if known.is_folder else 'file'}, as {known.name} models are")
    if sum(part.stat().st_size for part in files_of(path, links=trust)) > LARGEST_MODEL_BYTES:
        raise CourseError(f"{path} has more than {LARGEST_MODEL_BYTES:,} bytes; models are smaller")


def open_export(file: ModelFile, *, threads: int | None = None, trust: bool = False) -> Opened:
    """Opens an exported model in the runtime of its format.

    Args:
        file: The model, in one of ``FORMATS``.
        threads: The largest number of threads; None for one for each processor (ONNX), or as many as the runtime likes.
        trust: True to allow formats in which a model can run code or end the process.

    Returns:
        The opened model.

    Raises:
        CourseError: ``check_model_file`` refuses the model, or the runtime cannot open it.
    """
    check_model_file(file, trust=trust)
    try:
        return FORMATS[file.format].open(file.path, threads, trust)
    except CourseError:
        raise
    except Exception as error:  # each runtime has errors of its own
        raise CourseError(f"{file.path} cannot be opened as a model: {reason_of(error)}") from error
