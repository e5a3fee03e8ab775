"""The formats in which a model can be saved, how to tell them apart, and which of them are safe to open.

A format is safe if opening a file and running the model can do nothing but compute. Three formats are not safe. A
SavedModel can read and write files. PyTorch evaluates parts of a ``.pt2`` file as Python and unpickles others. LiteRT
only computes, but trusts the memory offsets in a file, so that a damaged one can end the process.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from keras_course._backend import select
from keras_course._backend.model_formats import (
    EXPORTED_PROGRAM,
    LITERT_WRITERS,
    ONNX_WRITERS,
    SAVED_MODEL,
    Format,
    Opened,
    Shape,
    extra,
    number_type,
    shape_of,
)
from keras_course.deployment.locate import LARGEST_MODEL_BYTES, find_model, read_file, size_of
from keras_course.deployment.onnx_files import check_own_tensors
from keras_course.errors import CourseError, reason_of

if TYPE_CHECKING:
    import numpy as np

_PROCESSOR: Final = "CPUExecutionProvider"
_SMALLEST_PART: Final = 16
"""Pictures for each processor from which on a batch is divided among threads."""


class ModelFile(NamedTuple):
    """A model on the disk, and its format."""

    path: Path
    format: str  # "keras", or one of FORMATS
    is_given: bool = True  # True if the person named this path, and not the run folder around it

    @property
    def is_keras(self) -> bool:
        """True if Keras opens the model."""
        return self.format == "keras"


def find_model_file(path: str | Path) -> ModelFile:
    """Returns the file that ``find_model`` finds, with its format."""
    found = find_model(path)
    return ModelFile(found, format_of(found), found == Path(path))


def format_of(path: Path) -> str:
    """Returns ``keras`` or one of ``FORMATS``: the format that a model's name or, in a folder, its files tell."""
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
    """Checks all that can be checked of a model without opening it: that it is safe, not too large, and without links.

    ``trust`` allows links, and formats in which a model can run code or end the process.
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
    if size_of(path, links=trust) > LARGEST_MODEL_BYTES:
        raise CourseError(f"{path} has more than {LARGEST_MODEL_BYTES:,} bytes; models are smaller")


def open_export(file: ModelFile, *, threads: int | None = None, trust: bool = False) -> Opened:
    """Opens an exported model in the runtime of its format. See ``check_model_file`` and ``runtimes.open_model``."""
    check_model_file(file, trust=trust)
    try:
        return FORMATS[file.format].open(file.path, threads, trust)
    except CourseError:
        raise
    except Exception as error:  # each runtime has errors of its own
        raise CourseError(f"{file.path} cannot be opened as a model: {reason_of(error)}") from error


def write_openvino(onnx: Path, folder: Path) -> None:
    """Converts an ONNX file to a new folder with OpenVINO's two files."""
    runtime = _openvino()
    folder.mkdir()
    model = runtime.Core().read_model(onnx)
    runtime.save_model(model, folder / "model.xml", compress_to_fp16=False)


# --- Runtimes --------------------------------------------------------------------------------------------------


def _open_onnx(path: Path, threads: int | None, trust: bool) -> Opened:
    import numpy as np

    from keras_course.cards import FILE_NAME

    runtime: Any = import_module("onnxruntime")
    source: str | bytes = str(path)
    if not trust:
        source = read_file(path.resolve())
        try:
            check_own_tensors(source)
        except CourseError as error:
            raise CourseError(f"{path} is not opened: {error}") from None
    providers = _providers(runtime)
    workers = threads or select.processors()

    def open_session(threads: int) -> Any:
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # errors are in the exception
        options.add_session_config_entry("session.load_model_format", "ONNX")  # the checks above are for this format
        # threads that spin while they wait take processors from other work
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.intra_op_num_threads = threads
        return runtime.InferenceSession(source, options, providers=providers)

    session = open_session(workers)
    taken, given = session.get_inputs()[0], session.get_outputs()[0]
    takes, numbers = shape_of(taken.shape), number_type(taken.type.removeprefix("tensor(").removesuffix(")"))
    in_parts = workers > 1 and providers == [_PROCESSOR] and takes is not None and takes[0] is None

    def answer(session: Any, inputs: "np.ndarray") -> "np.ndarray":
        return session.run(None, {taken.name: inputs})[0]

    @cache  # opened for the first large batch
    def single_thread() -> tuple[Any, ThreadPoolExecutor]:
        return open_session(1), ThreadPoolExecutor(workers, thread_name_prefix="onnx")

    def run(inputs: "np.ndarray") -> "np.ndarray":
        inputs = inputs.astype(numbers, copy=False)
        # threads of one run wait for each other in every layer, those with a part of the batch each only once
        if not in_parts or len(inputs) < workers * _SMALLEST_PART:
            return answer(session, inputs)
        single, pool = single_thread()
        return np.concatenate(list(pool.map(partial(answer, single), np.array_split(inputs, workers))))

    card = session.get_modelmeta().custom_metadata_map.get(FILE_NAME, "")
    title = f"ONNX Runtime {select.version_of('onnxruntime')}"
    return Opened(title, run, takes, shape_of(given.shape), numbers, card)


def _providers(runtime: Any) -> list[str]:
    """Returns a GPU if there is one, then the CPU; others use the network or compile for minutes."""
    return [name for name in ("CUDAExecutionProvider", _PROCESSOR) if name in runtime.get_available_providers()]


def _open_litert(path: Path, threads: int | None, trust: bool) -> Opened:
    runtime: Any = import_module("ai_edge_litert.interpreter")
    # from bytes, because the card at the end of the file is no part of the model
    interpreter = runtime.Interpreter(model_content=path.read_bytes(), num_threads=threads)
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape: list[tuple[int, ...]] = []
    numpy: Any = import_module("numpy")
    numbers = number_type(numpy.dtype(taken["dtype"]).name)

    def run(inputs: "np.ndarray") -> "np.ndarray":
        if shape != [inputs.shape]:
            interpreter.resize_tensor_input(taken["index"], inputs.shape)
            interpreter.allocate_tensors()
            shape[:] = [inputs.shape]
        interpreter.set_tensor(taken["index"], inputs.astype(numbers, copy=False))
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])

    with select.without_chatter():  # its first run prints how it computes
        run(numpy.zeros((2, *taken["shape"][1:]), numbers))
    takes, gives = (shape_of(details["shape_signature"]) for details in (taken, given))
    return Opened(f"LiteRT {select.version_of('ai_edge_litert')}", run, takes, gives, numbers)


def _open_openvino(path: Path, threads: int | None, trust: bool) -> Opened:
    runtime = _openvino()
    # its default on some processors is bfloat16, which changes the answers
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    core = runtime.Core()
    if trust:
        model = core.read_model(path / "model.xml")
    else:
        model = core.read_model(model=read_file(path / "model.xml"), weights=read_file(path / "model.bin"))
    compiled = core.compile_model(model, "CPU", settings)
    numbers = number_type(compiled.inputs[0].get_element_type().to_dtype().name)

    def run(inputs: "np.ndarray") -> "np.ndarray":
        return compiled(inputs.astype(numbers, copy=False))[0]

    takes, gives = (_openvino_shape(end.get_partial_shape()) for end in (compiled.inputs[0], compiled.outputs[0]))
    return Opened(f"OpenVINO {select.version_of('openvino').partition('-')[0]}", run, takes, gives, numbers)


def _openvino_shape(sides: Any) -> Shape | None:
    return None if sides.rank.is_dynamic else shape_of(-1 if side.is_dynamic else side.get_length() for side in sides)


def _openvino() -> Any:
    """Imports OpenVINO without its telemetry, which reports each import and each conversion to its makers."""
    reporting = "openvino_telemetry"
    before = sys.modules.get(reporting)
    sys.modules[reporting] = None  # type: ignore[assignment]
    try:
        return import_module("openvino")
    finally:
        if before is None:
            del sys.modules[reporting]
        else:
            sys.modules[reporting] = before


FORMATS: Final = {
    known.name: known
    for known in (
        Format(
            name="onnx",
            file_name="model.onnx",
            runtime="onnxruntime",
            install=extra("onnx"),
            writers=ONNX_WRITERS,
            open=_open_onnx,
        ),
        SAVED_MODEL,
        Format(
            name="litert",
            file_name="model.tflite",
            runtime="ai_edge_litert",
            install=extra("litert"),
            writers=LITERT_WRITERS,
            open=_open_litert,
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
            open=_open_openvino,
        ),
    )
}
"""All formats besides Keras' own, by name."""
