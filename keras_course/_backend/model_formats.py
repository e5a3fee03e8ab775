"""What a model format is, the formats of the frameworks themselves, and what each backend needs to write a format.

``deployment.formats`` adds ONNX, LiteRT and OpenVINO, whose runtimes need no framework. No framework is imported before
a model of its format is opened.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from keras_course._backend import select
from keras_course.errors import MissingPackageError

if TYPE_CHECKING:
    import numpy as np  # the names of the formats are needed where nothing heavy is imported

Run: TypeAlias = "Callable[[np.ndarray], np.ndarray]"
Shape: TypeAlias = tuple[int | None, ...]
"""The shape of a batch; None is a side of any length."""
Writers: TypeAlias = Mapping[str, tuple[tuple[str, ...], str]]


class Opened(NamedTuple):
    """A model that its runtime has opened.

    ``run`` maps uint8 or float32 pictures (n, height, width, channels), or int32 tokens (n, tokens), to logits (n,
    classes). A shape is None if the file does not say it; ``input_type`` is the type of the input's numbers, as in
    NumPy. ``card`` is a text, empty without a card, and None if the format has no field for it.
    """

    runtime: str
    run: Run
    takes: Shape | None = None
    gives: Shape | None = None
    input_type: str | None = None
    card: str | None = None


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of exported models; ``file_name`` is the usual name of a model, which may be a folder.

    ``writers`` has, for each backend that can write the format, the further packages that it needs and the command that
    installs them. ``open`` takes the path, the largest number of threads (None: one for each processor, or as many as
    the runtime likes) and whether the model is trusted. A format is safe if an untrusted model can do nothing but
    compute. ``card_folder`` is the folder of the card, if the file is an archive.
    """

    name: str
    file_name: str
    is_folder: bool = False
    runtime: str
    install: str
    writers: Writers = field(default_factory=dict)
    open: Callable[[Path, int | None, bool], Opened]
    is_safe: bool = True
    card_folder: str = ""


def writer_of(known: Format, backend: str) -> str:
    """Returns the backend to write a format: the current one if it can, else an installed one, in a second process."""
    current_first = sorted(known.writers, key=lambda name: name != backend)
    missing = {}
    for name in current_first:
        packages, install = known.writers[name]
        absent = next((package for package in (name, *packages) if not select.is_installed(package)), None)
        if absent is None:
            return name
        missing[name] = absent, install
    raise MissingPackageError(f"the format {known.name!r}", *missing[current_first[0]])


def shape_of(sides: Iterable[Any]) -> Shape | None:
    """Returns a shape with None for a side of any length, which runtimes write as a name or as -1; None if empty."""
    return tuple(int(side) if isinstance(side, Integral) and int(side) >= 0 else None for side in sides) or None


def number_type(name: Any) -> str:
    """Returns the type, as in NumPy, to which inputs are converted for a model that takes numbers of a type."""
    known = str(name).rpartition(".")[2]
    return known if known in ("int32", "int64") else "float32"


def _open_saved_model(path: Path, threads: int | None, trust: bool) -> Opened:
    framework: Any = import_module("tensorflow")
    loaded = framework.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]
    ((name, taken),) = serve.structured_input_signature[1].items()
    (given,) = serve.structured_outputs.values()
    numbers = number_type(taken.dtype.name)

    def run(inputs: "np.ndarray") -> "np.ndarray":
        (logits,) = serve(**{name: framework.constant(inputs.astype(numbers, copy=False))}).values()
        return logits.numpy()

    vars(run)["loaded"] = loaded  # keeps its variables alive
    title = f"TensorFlow {select.version_of('tensorflow')}"
    return Opened(title, run, shape_of(taken.shape), shape_of(given.shape), numbers)


def _open_torch(path: Path, threads: int | None, trust: bool) -> Opened:
    framework: Any = import_module("torch")
    program = framework.export.load(path)
    module = program.module()
    (taken,), (given,) = program.graph_signature.user_inputs, program.graph_signature.user_outputs
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.name in (taken, given)}
    takes, gives = (shape_of(getattr(values[name], "shape", ())) for name in (taken, given))
    numbers = number_type(getattr(values[taken], "dtype", "float32"))

    def run(inputs: "np.ndarray") -> "np.ndarray":
        with framework.no_grad():
            return module(framework.from_numpy(inputs.astype(numbers, copy=False))).numpy()

    return Opened(f"PyTorch {select.version_of('torch')}", run, takes, gives, numbers)


def extra(name: str) -> str:
    """Returns the command that installs an extra of this package."""
    return f'pip install "keras-course[{name}]"'


ONNX_WRITERS: Final = {
    "torch": (("onnx", "onnxscript"), extra("onnx-torch")),
    "tensorflow": (("onnx", "tf2onnx"), extra("onnx-tensorflow")),
    "jax": (("onnx", "jax2onnx"), extra("onnx-jax")),
}

LITERT_WRITERS: Final = {"tensorflow": ((), select.INSTALL["tensorflow"])}

SAVED_MODEL: Final = Format(
    name="saved_model",
    file_name="saved_model",
    is_folder=True,
    runtime="tensorflow",
    install=select.INSTALL["tensorflow"],
    writers={"tensorflow": ((), select.INSTALL["tensorflow"])},
    open=_open_saved_model,
    is_safe=False,  # its operations can read and write files
)

EXPORTED_PROGRAM: Final = Format(
    name="torch",
    file_name="model.pt2",
    runtime="torch",
    install=select.INSTALL["torch"],
    writers={"torch": ((), select.INSTALL["torch"])},
    open=_open_torch,
    is_safe=False,  # PyTorch evaluates parts of the file as Python, and unpickles others
    card_folder="model/extra/",
)
