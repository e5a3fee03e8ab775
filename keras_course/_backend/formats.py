"""The formats in which a model can be saved: who writes each, what opens it, and whether a stranger's may be opened.

No framework is imported here before a model of its format is opened. A format is safe if opening a file and running the
model cannot do anything but compute. Of the formats here three are not: a SavedModel can read and write files; of a
``.pt2`` PyTorch evaluates descriptions as Python, and unpickles what it cannot read otherwise; LiteRT only computes,
but believes where in the memory a file says that things are, and a damaged one can end the process.
"""

import os
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from numbers import Integral
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from keras_course._backend import select
from keras_course._backend.onnx_files import check_own_tensors
from keras_course.errors import CourseError, MissingPackageError, reason_of

if TYPE_CHECKING:
    import numpy as np  # the names of the formats are asked for where nothing heavy is imported

CARD: Final = "card.json"
"""The name of a model's card, in whatever place a format has for it."""

LARGEST_FILE_BYTES: Final = 2**31

_PROCESSOR: Final = "CPUExecutionProvider"
_SMALLEST_PART: Final = 16
"""As many pictures for each processor, and a batch is worth a thread of its own for each part."""

Run: TypeAlias = "Callable[[np.ndarray], np.ndarray]"
Shape: TypeAlias = tuple[int | None, ...]
"""That of a batch; None is a side of any length."""


class Opened(NamedTuple):
    """A model in its own runtime.

    Args:
        runtime: What computes, with its version.
        run: From uint8 or float32 pictures (n, height, width, channels) to logits (n, classes).
        takes: The shape of what it takes, None if it does not say.
        gives: The shape of what it gives, None if it does not say.
        card: The text of its card, empty without one; None where the format has no place of its own for it.
    """

    runtime: str
    run: Run
    takes: Shape | None = None
    gives: Shape | None = None
    card: str | None = None


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format.

    Args:
        name: As on the command line.
        file_name: How a file or folder of it is called.
        is_folder: Whether it is a folder.
        runtime: The package that opens it, as it is imported.
        install: What brings that package.
        writers: The backends that can write it, and for each what has to be installed besides: packages, as they are
            imported, and what brings them.
        open: Opens a file or folder with at most so many threads; None for one for each processor (ONNX), or as many as
            the runtime likes. The last argument says whether the model is trusted.
        is_safe: Whether a stranger's can be opened.
        card_folder: Where in the archive the card is, if the file is one.
    """

    name: str
    file_name: str
    is_folder: bool = False
    runtime: str
    install: str
    writers: Mapping[str, tuple[tuple[str, ...], str]] = field(default_factory=dict)
    open: Callable[[Path, int | None, bool], Opened]
    is_safe: bool = True
    card_folder: str = ""


def format_of(path: Path) -> str:
    """Says of which format a model is, by its name or, if it is a folder, by what is in it.

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


def check_can_be_opened(path: Path, *, trust: bool = False) -> None:
    """Makes sure of all that can be known of a model without opening it.

    Args:
        path: Its file or folder.
        trust: As for ``open_export``.

    Raises:
        CourseError: It is not to be trusted, too large, or made of links, or the runtime is not installed.

    Example:
        >>> check_can_be_opened(Path("no_such_model.tflite"))
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: no_such_model.tflite is in the format litert, in which a model can run code ...
    """
    kind = format_of(path)
    if known := FORMATS.get(kind):
        if not known.is_safe and not trust:
            raise CourseError(
                f"{path} is in the format {known.name}, in which a model can run code or end the process; if you made "
                "it yourself, add --trust, in Python open_model(path, trust=True); else ask for another format"
            )
        require(known.runtime, what=str(path), install=known.install)
        if path.is_dir() != known.is_folder:
            raise CourseError(f"{path} is not a {'folder' if known.is_folder else 'file'}, as {known.name} models are")
    if sum(file.stat().st_size for file in files_of(path, links=trust)) > LARGEST_FILE_BYTES:
        raise CourseError(f"{path} has more than {LARGEST_FILE_BYTES:,} bytes; models are smaller")


def open_export(path: Path, *, threads: int | None = None, trust: bool = False) -> Opened:
    """Opens an exported model in the runtime of its format.

    Args:
        path: Its file or folder.
        threads: How many threads to use at most.
        trust: Whether a format may be opened in which a stranger's model could run code or end the process.

    Returns:
        The model and the name of the runtime.

    Raises:
        CourseError: The runtime is not installed, the model cannot be opened, or it is not to be trusted.
    """
    known = FORMATS[format_of(path)]
    check_can_be_opened(path, trust=trust)
    try:
        return known.open(path, threads, trust)
    except CourseError:
        raise
    except Exception as error:  # each runtime has errors of its own
        raise CourseError(f"{path} cannot be opened as a model: {reason_of(error)}") from error


def files_of(path: Path, *, links: bool = False) -> list[Path]:
    """Lists the files of a model: those in its folder, or itself.

    Args:
        path: A file or folder.
        links: Whether they may be links. A link can lead to a file that is nobody's business, or to another model.

    Returns:
        The files.

    Raises:
        CourseError: Something else is among them; to open a pipe is to wait for somebody who writes into it.

    Example:
        >>> [file.name for file in files_of(Path(__file__))]
        ['formats.py']
    """
    files = [file for file in path.rglob("*") if file.is_symlink() or not file.is_dir()] if path.is_dir() else [path]
    for file in files:
        if not links and file != path and file.is_symlink():
            raise CourseError(f"{file} is a link; a model is made of files of its own: copy the file there")
        if not file.is_file():
            raise CourseError(f"{file} is not a file; models are made of files alone")
        if not links and file.stat().st_nlink > 1:
            raise CourseError(
                f"{file} is a file with several names (hard links); a model is made of files of its own: copy it"
            )
    return files


def open_file(path: Path) -> IO[bytes]:
    """Opens a file of a model to read it, and never what a link in its place leads to.

    Args:
        path: The file; links in the folders above it are followed.

    Returns:
        The open file.

    Raises:
        CourseError: It is a link, has several names, or is no file.

    Example:
        >>> with open_file(Path(__file__)) as file:
        ...     file.read(14)[3:]
        b'The formats'
    """
    try:
        # to open a pipe is to wait for somebody who writes into it
        flags = ("O_NOFOLLOW", "O_BINARY", "O_NONBLOCK", "O_CLOEXEC")
        descriptor = os.open(path, os.O_RDONLY | sum(getattr(os, name, 0) for name in flags))
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {reason_of(error)}") from None
    file = os.fdopen(descriptor, "rb")
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        file.close()
        raise CourseError(f"{path} is a link, or not a file; a model is made of files of its own: copy it")
    return file


def read_file(path: Path) -> bytes:
    """Reads a file of a model, as ``open_file`` opens it.

    Args:
        path: The file.

    Returns:
        Its bytes.

    Raises:
        CourseError: As for ``open_file``.

    Example:
        >>> read_file(Path(__file__))[3:14]
        b'The formats'
    """
    with open_file(path) as file:
        return file.read(LARGEST_FILE_BYTES)


def require(*packages: str, what: str, install: str) -> None:
    """Makes sure that packages are installed.

    Args:
        *packages: Their names, as they are imported.
        what: What needs them.
        install: What brings them.

    Raises:
        MissingPackageError: One is not.

    Example:
        >>> require("numpy", what="this", install="pip install numpy")
    """
    for package in packages:
        if not select.is_installed(package):
            raise MissingPackageError(what, package, install)


def writer_of(kind: str, backend: str) -> str:
    """Says which backend is to write a format: the one in use if it can, else one that is installed and can.

    Args:
        kind: One of ``FORMATS``.
        backend: The backend in use.

    Returns:
        The name of a backend; if it is another one, the model has to be handed to a process that runs on it.

    Raises:
        MissingPackageError: None can; the message says what to install.
    """
    writers = FORMATS[kind].writers
    own_first = sorted(writers, key=lambda name: name != backend)
    for name in own_first:
        packages, _ = writers[name]
        if all(map(select.is_installed, (name, *packages))):
            return name
    name = own_first[0]
    packages, install = writers[name]
    missing = next(package for package in (name, *packages) if not select.is_installed(package))
    raise MissingPackageError(f"the format {kind!r}", missing, install)


def write_openvino(onnx: Path, folder: Path) -> None:
    """Makes OpenVINO's two files of a model that was written as ONNX.

    Args:
        onnx: The file.
        folder: Where to; it is made.
    """
    runtime = _openvino()
    folder.mkdir()
    model = runtime.Core().read_model(onnx)
    runtime.save_model(model, folder / "model.xml", compress_to_fp16=False)


# --- Openers ---------------------------------------------------------------------------------------------------


def _open_onnx(path: Path, threads: int | None, trust: bool) -> Opened:
    import numpy as np

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
        options.log_severity_level = 4  # what is wrong is said in the exception
        options.add_session_config_entry("session.load_model_format", "ONNX")  # another one has not been looked through
        # threads that wait by counting take the processor from whoever else has something to do on it
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.intra_op_num_threads = threads
        return runtime.InferenceSession(source, options, providers=providers)

    session = open_session(workers)
    taken, given = session.get_inputs()[0], session.get_outputs()[0]
    takes = _shape(taken.shape)
    in_parts = workers > 1 and providers == [_PROCESSOR] and takes is not None and takes[0] is None

    def answer(session: Any, pictures: "np.ndarray") -> "np.ndarray":
        return session.run(None, {taken.name: pictures})[0]

    @cache  # opened for the first large batch
    def single_thread() -> tuple[Any, ThreadPoolExecutor]:
        return open_session(1), ThreadPoolExecutor(workers, thread_name_prefix="onnx")

    def run(pictures: "np.ndarray") -> "np.ndarray":
        pictures = pictures.astype("float32", copy=False)
        # the threads of one run wait for each other in every layer, those of parts of a batch once
        if not in_parts or len(pictures) < workers * _SMALLEST_PART:
            return answer(session, pictures)
        single, pool = single_thread()
        return np.concatenate(list(pool.map(partial(answer, single), np.array_split(pictures, workers))))

    card = session.get_modelmeta().custom_metadata_map.get(CARD, "")
    return Opened(f"ONNX Runtime {select.version_of('onnxruntime')}", run, takes, _shape(given.shape), card)


def _providers(runtime: Any) -> list[str]:
    """A GPU where there is one, then the processor; what asks the network or compiles for minutes is left out."""
    return [name for name in ("CUDAExecutionProvider", _PROCESSOR) if name in runtime.get_available_providers()]


def _open_saved_model(path: Path, threads: int | None, trust: bool) -> Opened:
    framework: Any = import_module("tensorflow")
    loaded = framework.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]
    ((name, taken),) = serve.structured_input_signature[1].items()
    (given,) = serve.structured_outputs.values()

    def run(pictures: "np.ndarray") -> "np.ndarray":
        (logits,) = serve(**{name: framework.constant(pictures.astype("float32", copy=False))}).values()
        return logits.numpy()

    vars(run)["loaded"] = loaded  # its variables live only as long as it does
    return Opened(f"TensorFlow {select.version_of('tensorflow')}", run, _shape(taken.shape), _shape(given.shape))


def _open_litert(path: Path, threads: int | None, trust: bool) -> Opened:
    runtime: Any = import_module("ai_edge_litert.interpreter")
    # from bytes: the card, which follows the model, is no part of it
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
    with select.without_chatter():  # its first run tells how it computes
        run(numpy.zeros((2, *taken["shape"][1:]), "float32"))
    takes, gives = (_shape(details["shape_signature"]) for details in (taken, given))
    return Opened(f"LiteRT {select.version_of('ai_edge_litert')}", run, takes, gives)


def _open_torch(path: Path, threads: int | None, trust: bool) -> Opened:
    framework: Any = import_module("torch")
    program = framework.export.load(path)
    module = program.module()
    shapes = {node.name: getattr(node.meta.get("val"), "shape", ()) for node in program.graph.nodes}
    (taken,), (given,) = program.graph_signature.user_inputs, program.graph_signature.user_outputs

    def run(pictures: "np.ndarray") -> "np.ndarray":
        with framework.no_grad():
            return module(framework.from_numpy(pictures.astype("float32", copy=False))).numpy()

    return Opened(f"PyTorch {select.version_of('torch')}", run, _shape(shapes[taken]), _shape(shapes[given]))


def _open_openvino(path: Path, threads: int | None, trust: bool) -> Opened:
    runtime = _openvino()
    # its default on some processors is bfloat16, and its answers are then others
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
    return None if sides.rank.is_dynamic else _shape(-1 if side.is_dynamic else side.get_length() for side in sides)


def _openvino() -> Any:
    """Imports OpenVINO without the part that reports each import and each conversion to its makers."""
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


def _shape(sides: Iterable[Any]) -> Shape | None:
    """Brings each runtime's way to say how long a side is, and that it may be of any length, to ours."""
    # what is of any length has a name, or is -1
    return tuple(int(side) if isinstance(side, Integral) and int(side) >= 0 else None for side in sides) or None


def _extra(name: str) -> str:
    return f'pip install "keras-course[{name}]"'


_ONNX_WRITERS: Final = {
    "torch": (("onnx", "onnxscript"), _extra("onnx-torch")),
    "tensorflow": (("onnx", "tf2onnx"), _extra("onnx-tensorflow")),
    "jax": (("onnx", "jax2onnx"), _extra("onnx-jax")),
}

FORMATS: Final = {
    known.name: known
    for known in (
        Format(
            name="onnx",
            file_name="model.onnx",
            runtime="onnxruntime",
            install=_extra("onnx"),
            writers=_ONNX_WRITERS,
            open=_open_onnx,
        ),
        Format(
            name="saved_model",
            file_name="saved_model",
            is_folder=True,
            runtime="tensorflow",
            install=select.INSTALL["tensorflow"],
            writers={"tensorflow": ((), select.INSTALL["tensorflow"])},
            open=_open_saved_model,
            is_safe=False,
        ),
        Format(
            name="litert",
            file_name="model.tflite",
            runtime="ai_edge_litert",
            install=_extra("litert"),
            writers={"tensorflow": ((), select.INSTALL["tensorflow"])},
            open=_open_litert,
            is_safe=False,
        ),
        Format(
            name="torch",
            file_name="model.pt2",
            runtime="torch",
            install=select.INSTALL["torch"],
            writers={"torch": ((), select.INSTALL["torch"])},
            open=_open_torch,
            is_safe=False,
            card_folder="model/extra/",
        ),
        Format(
            name="openvino",
            file_name="openvino",
            is_folder=True,
            runtime="openvino",
            install=_extra("openvino"),
            # by way of ONNX, which all backends can write with a batch of any size
            writers=_ONNX_WRITERS,
            open=_open_openvino,
        ),
    )
}
"""All formats besides Keras' own, by name."""
