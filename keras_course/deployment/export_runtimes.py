"""Opens exported models in ONNX Runtime, LiteRT and OpenVINO, which need no framework and no Keras."""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from keras_course._backend import select
from keras_course._backend.model_formats import Opened, Shape, shape_of
from keras_course.deployment.locate import read_file
from keras_course.deployment.onnx_files import check_own_tensors
from keras_course.errors import CourseError

if TYPE_CHECKING:
    import numpy as np

_PROCESSOR: Final = "CPUExecutionProvider"
_SMALLEST_PART: Final = 16
"""Pictures for each processor from which on a batch is divided among threads."""


def open_onnx(path: Path, threads: int | None, trust: bool) -> Opened:
    """Opens an ONNX file in ONNX Runtime.

    Args:
        path: The file.
        threads: The largest number of threads; None for one for each processor.
        trust: True to allow tensors in other files.

    Returns:
        The opened model.

    Raises:
        CourseError: The file is a link, or has a tensor in another file.
    """
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
    takes = shape_of(taken.shape)
    in_parts = workers > 1 and providers == [_PROCESSOR] and takes is not None and takes[0] is None

    def answer(session: Any, pictures: "np.ndarray") -> "np.ndarray":
        return session.run(None, {taken.name: pictures})[0]

    @cache  # opened for the first large batch
    def single_thread() -> tuple[Any, ThreadPoolExecutor]:
        return open_session(1), ThreadPoolExecutor(workers, thread_name_prefix="onnx")

    def run(pictures: "np.ndarray") -> "np.ndarray":
        pictures = pictures.astype("float32", copy=False)
        # threads of one run wait for each other in every layer, those with a part of the batch each only once
        if not in_parts or len(pictures) < workers * _SMALLEST_PART:
            return answer(session, pictures)
        single, pool = single_thread()
        return np.concatenate(list(pool.map(partial(answer, single), np.array_split(pictures, workers))))

    card = session.get_modelmeta().custom_metadata_map.get(FILE_NAME, "")
    return Opened(f"ONNX Runtime {select.version_of('onnxruntime')}", run, takes, shape_of(given.shape), card)


def _providers(runtime: Any) -> list[str]:
    """Returns a GPU if there is one, then the CPU; others use the network or compile for minutes."""
    return [name for name in ("CUDAExecutionProvider", _PROCESSOR) if name in runtime.get_available_providers()]


def open_litert(path: Path, threads: int | None, trust: bool) -> Opened:
    """Opens a LiteRT file.

    Args:
        path: The file.
        threads: The largest number of threads; None for as many as LiteRT likes.
        trust: Not used; the format is never safe.

    Returns:
        The opened model.
    """
    runtime: Any = import_module("ai_edge_litert.interpreter")
    # from bytes, because the card at the end of the file is no part of the model
    interpreter = runtime.Interpreter(model_content=path.read_bytes(), num_threads=threads)
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape: list[tuple[int, ...]] = []

    def run(pictures: "np.ndarray") -> "np.ndarray":
        if shape != [pictures.shape]:
            interpreter.resize_tensor_input(taken["index"], pictures.shape)
            interpreter.allocate_tensors()
            shape[:] = [pictures.shape]
        interpreter.set_tensor(taken["index"], pictures.astype("float32", copy=False))
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])

    numpy: Any = import_module("numpy")
    with select.without_chatter():  # its first run prints how it computes
        run(numpy.zeros((2, *taken["shape"][1:]), "float32"))
    takes, gives = (shape_of(details["shape_signature"]) for details in (taken, given))
    return Opened(f"LiteRT {select.version_of('ai_edge_litert')}", run, takes, gives)


def open_openvino(path: Path, threads: int | None, trust: bool) -> Opened:
    """Opens a folder with OpenVINO's two files.

    Args:
        path: The folder.
        threads: The largest number of threads; None for as many as OpenVINO likes.
        trust: True to allow links.

    Returns:
        The opened model.

    Raises:
        CourseError: A file is a link.
    """
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

    def run(pictures: "np.ndarray") -> "np.ndarray":
        return compiled(pictures.astype("float32", copy=False))[0]

    takes, gives = (_openvino_shape(end.get_partial_shape()) for end in (compiled.inputs[0], compiled.outputs[0]))
    return Opened(f"OpenVINO {select.version_of('openvino').partition('-')[0]}", run, takes, gives)


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


def write_openvino(onnx: Path, folder: Path) -> None:
    """Converts an ONNX file to OpenVINO's two files.

    Args:
        onnx: The ONNX file.
        folder: The folder to create for the two files.
    """
    runtime = _openvino()
    folder.mkdir()
    model = runtime.Core().read_model(onnx)
    runtime.save_model(model, folder / "model.xml", compress_to_fp16=False)
