"""Exports a saved model to another format, for programs without Keras.

The export is opened in the runtime of its format and compared with Keras before it replaces an older one. If the
backend in use cannot write a format, a second process writes it on a backend that can.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from keras_course._backend import select
from keras_course._backend.model_formats import Format, writer_of
from keras_course.cards import FILE_NAME, ModelCard, put_card, read_required_card, shapes_of
from keras_course.deployment.formats import FORMATS, ModelFile, find_model_file, write_openvino
from keras_course.deployment.isolation import LimitedProcess, ProcessLimits
from keras_course.deployment.locate import is_pretrained, size_of
from keras_course.deployment.model_files import load_keras_model
from keras_course.deployment.quantization import (
    SMALLEST_COSINE,
    OutputChange,
    check_quantize,
    measure_change,
    write_int8,
)
from keras_course.deployment.runtimes import answers_of, card_with_outputs, open_here, open_keras
from keras_course.errors import CourseError, reason_of
from keras_course.files import folder_beside
from keras_course.foreign_text import printable

if TYPE_CHECKING:
    import keras

__all__ = ["Exported", "export_here", "export_model"]

TOLERANCE: Final = 1e-4
"""The largest difference between the logits of an export and of Keras, relative to the largest logit above 1."""

BATCHES: Final = (1, 5)
"""The batch sizes for the comparison: an export has to take batches of any size."""

QUANTIZED_BATCH: Final = 32
"""The number of inputs on which a quantized export is compared."""

SECONDS: Final = 600
"""The longest time for a second process."""

LIMITS: Final = ProcessLimits(seconds=SECONDS, memory=8 * 2**30)
"""The limits of an export; converters hold a model several times."""


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Args:
        path: The file or folder.
        format: The format.
        size: The size in bytes.
        written_by: The backend that wrote it.
        runtime: The runtime that opened it for the comparison.
        difference: The largest difference between its logits and those of Keras.
        cosine: The smallest cosine between its logits and those of Keras, if it is quantized.
    """

    path: Path
    format: str
    size: int
    written_by: str
    runtime: str
    difference: float
    cosine: float | None = None


def export_model(
    path: str | Path,
    *,
    format: str,
    output: str | Path | None = None,
    quantize: str = "",
    trust: bool = False,
    backend: str = "",
) -> Exported:
    """Writes a saved model in another format, and checks that it gives the same answers there.

    All formats compute in 32 bits; layers of 16 bits are exported, and compared, as layers of 32 bits. The model is
    opened in a separate process with limits, because its file may come from anyone.

    A quantized model is smaller and faster, and its answers differ a little. How much is measured on random inputs and
    written on its card, as the metrics ``int8_largest_difference``, ``int8_smallest_cosine`` and ``int8_agreement``.

    Args:
        path: The folder of a run, a ``.keras`` file, or the name of a pre-trained model.
        format: One of ``onnx``, ``saved_model``, ``litert``, ``torch`` and ``openvino``.
        output: The file or folder to write; by default in ``exports`` beside the model, or in the current folder for a
            pre-trained model. An existing export is replaced after the comparison.
        quantize: ``int8`` for weights of 8 bits, in the format ``onnx``; by default ``model.int8.onnx`` is written.
        trust: True to open the model in this process, without limits.
        backend: The backend on which Keras opens the model in the other process; by default the one in use.

    Returns:
        The path of the export, and the measured difference.

    Raises:
        CourseError: There is no such model or format, a package is missing, or the answers differ.

    Example:
        >>> export_model("runs/no_such_lesson", format="onnx")
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: there is no runs/no_such_lesson; give a run folder or the file of a model
    """
    source, target = _check(path, format, output, quantize)
    if trust:
        return export_here(source, format=format, output=target, quantize=quantize)
    name = select.choose_for_second_process(backend)
    settings = {"format": format, "output": str(target.absolute()), "quantize": quantize}
    with LimitedProcess("export", source, LIMITS, backend=name, **settings) as process:
        done = process.receive()
    writer, runtime = (printable(str(done[name])) for name in ("written_by", "runtime"))
    cosine = None if done["cosine"] is None else float(done["cosine"])
    return Exported(target, format, int(done["size"]), writer, runtime, float(done["difference"]), cosine)


def _check(path: str | Path, format: str, output: str | Path | None, quantize: str) -> tuple[Path, Path]:
    """Returns the model file and the path to write, after all checks that need no open model."""
    known = FORMATS.get(format)
    if known is None:
        raise CourseError(f"format is {format!r}; give one of {', '.join(FORMATS)}")
    check_quantize(quantize, format)
    found = find_model_file(path)
    source = found.path
    if not found.is_keras:
        raise CourseError(f"{source} is an export already; give the folder of a run or a .keras file")
    beside_model = Path("exports", path) if is_pretrained(path) else source.parent / "exports"
    name = Path(known.file_name).with_suffix(f".{quantize}{Path(known.file_name).suffix}") if quantize else None
    target = Path(output) if output is not None else beside_model / (name or known.file_name)
    _check_target(target, known)
    return source, target


def export_here(source: str | Path, *, format: str, output: str | Path, quantize: str = "") -> Exported:
    """Writes a ``.keras`` file in another format, in this process and without limits. See ``export_model``."""
    source, target = Path(source), Path(output)
    known = FORMATS[format]
    card = read_required_card(source)

    import keras

    writer = writer_of(known, keras.backend.backend())
    select.require(known.runtime, what=f"the comparison of the format {format!r} with Keras", install=known.install)
    model = _in_float32(load_keras_model(source))
    card = card_with_outputs(card, model)
    card.check_model(str(source), *shapes_of(model))
    inputs = _random_inputs(card, QUANTIZED_BATCH if quantize else max(BATCHES))
    expected = answers_of(open_keras(model)[1](inputs), inputs, card)
    change: OutputChange | None = None
    with folder_beside(target) as folder:
        beside = folder / known.file_name
        if writer == keras.backend.backend():
            _write(model, card, beside, format)
            runtime, difference = _compare(beside, format, inputs, expected)
        else:
            runtime, difference = _export_on(source, beside, format, writer, inputs, expected)
        if quantize:
            change = _quantize(beside, card, inputs, expected)
        size = size_of(beside)
        _move(beside, target)
    if change is None:
        return Exported(target, format, size, writer, runtime, difference)
    return Exported(target, format, size, writer, runtime, change.difference, change.cosine)


def _random_inputs(card: ModelCard, count: int) -> np.ndarray:
    """Returns inputs for the comparison: random pictures, or texts of random tokens and of all lengths."""
    random = np.random.default_rng(0)
    shape = (count, *card.shape)
    if card.text_format is None:
        return random.integers(0, 256, shape, dtype="uint8")
    tokens = random.integers(0, len(card.text_format.vocabulary), shape, dtype="int32")
    length = card.text_format.sequence_length
    for row, kept in zip(tokens, np.linspace(1, length, count).astype(int), strict=True):
        padding = slice(0, length - kept) if card.text_format.padding == "left" else slice(kept, None)
        row[padding] = card.text_format.pad
    return tokens


def _quantize(path: Path, card: ModelCard, inputs: np.ndarray, expected: np.ndarray) -> OutputChange:
    """Replaces an ONNX file by one with weights of 8 bits, whose card says what that changes."""
    small = path.with_name("quantized.onnx")
    try:
        write_int8(path, small)
        _put_card_into_onnx(small, card)
        runtime = open_here(ModelFile(small, "onnx"), trust=True)
        change = measure_change(expected, runtime.outputs(inputs))
    except Exception as error:  # the package has errors of its own
        reason = reason_of(error.__cause__ or error)
        raise CourseError(f"the model cannot be quantized: {reason}; export it without quantize") from error
    if not change.cosine >= SMALLEST_COSINE:  # also where it is not a number
        raise CourseError(
            f"with weights of 8 bits the model gives other answers: a cosine of {change.cosine:.2g}, and at least "
            f"{SMALLEST_COSINE} is needed; export it without quantize"
        )
    measured = {
        "int8_largest_difference": change.difference,
        "int8_smallest_cosine": change.cosine,
        "int8_agreement": change.agreement,
    }
    _put_card_into_onnx(small, replace(card, metrics={**card.metrics, **measured}))
    small.replace(path)
    return change


def _in_float32(model: "keras.Model") -> "keras.Model":
    """Returns the model with 32-bit layers: runtimes lack 16-bit operations, or round differently."""
    import keras

    described = model.to_json()
    exact = re.sub(r'"(mixed_)?b?float16"', '"float32"', described)
    if exact == described:
        return model
    copy = keras.models.model_from_json(exact)
    copy.set_weights(model.get_weights())
    return copy


def _check_target(target: Path, known: Format) -> None:
    ending = Path(known.file_name).suffix
    if target.suffix != ending:
        called = f"a name that ends in {ending}" if ending else "the name of a folder, without an ending"
        raise CourseError(f"output is {str(target)!r}; give {called} for the format {known.name!r}")
    if file := next((above for above in target.parents if above.exists() and not above.is_dir()), None):
        raise CourseError(f"output is {str(target)!r}, and {file} is not a folder; give another name")
    if target.exists() and target.is_dir() != known.is_folder:
        raise CourseError(f"output is {str(target)!r}, which is no {known.name} model; give another name")
    if target.is_dir() and any(target.iterdir()) and not (target / FILE_NAME).is_file():
        raise CourseError(f"output is {str(target)!r}, a folder with other files; give another name")


def _write(model: "keras.Model", card: ModelCard, path: Path, kind: str) -> None:
    """Writes a model and its card on the backend in use."""
    from keras_course import _backend

    longest = None if card.text_format is None else card.text_format.sequence_length
    try:
        if kind == "openvino":
            onnx = path.parent / FORMATS["onnx"].file_name
            _backend.export(model, onnx, "onnx", longest=longest)
            write_openvino(onnx, path)
        else:
            _backend.export(model, path, kind, longest=longest)
    except Exception as error:  # each converter has errors of its own
        reason = reason_of(error)
        raise CourseError(f"the model cannot be written in the format {kind!r}: {reason}{_remedy(kind)}") from error
    if kind == "onnx":
        _put_card_into_onnx(path, card)
    else:
        put_card(path, card, folder=FORMATS[kind].card_folder)


def _remedy(kind: str) -> str:
    """Returns the advice to try another backend, whose converter may know more operations."""
    import keras

    others = [name for name in FORMATS[kind].writers if name != keras.backend.backend()]
    return f"; try it on {' or '.join(others)}" if others else ""


def _put_card_into_onnx(path: Path, card: ModelCard) -> None:
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {FILE_NAME: card.to_json()})
    onnx.save(model, path)


def _compare(path: Path, kind: str, inputs: np.ndarray, expected: np.ndarray) -> tuple[str, float]:
    """Opens an export and compares its logits with those of Keras."""
    try:
        runtime = open_here(ModelFile(path, kind), trust=True)  # it was written a moment ago
        difference = max(float(np.abs(runtime.outputs(inputs[:count]) - expected[:count]).max()) for count in BATCHES)
    except CourseError as error:
        reason = reason_of(error.__cause__ or error)
        raise CourseError(f"the export in the format {kind!r} does not run: {reason}{_remedy(kind)}") from error
    allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= allowed:  # also where it is not a number
        raise CourseError(
            f"the export in the format {kind!r} gives other answers than Keras: logits differ by {difference:.2g}, and "
            f"{allowed:.2g} is allowed; nothing is written"
        )
    return runtime.name, difference


def _move(beside: Path, target: Path) -> None:
    """Moves a file or folder to its place; a folder that is there is kept until the new one has replaced it."""
    if not target.is_dir():
        beside.replace(target)
        return
    if foreign := {path.name for path in target.iterdir()} - {path.name for path in beside.iterdir()}:
        raise CourseError(f"output is {str(target)!r}, a folder that also holds {min(foreign)!r}; give another name")
    old = beside.parent / "old"
    target.replace(old)
    try:
        beside.replace(target)
    except BaseException:
        old.replace(target)
        raise


# --- In a second process ---------------------------------------------------------------------------------------


def _export_on(
    source: Path, path: Path, kind: str, writer: str, inputs: np.ndarray, expected: np.ndarray
) -> tuple[str, float]:
    """Lets a process on another backend write the export, and compare it with the logits of this process."""
    task = path.parent / "task.npz"
    np.savez(task, inputs=inputs, expected=expected)
    process = select.second_process(writer, "-m", __name__, str(source.absolute()), str(path.absolute()), kind)
    try:
        done = subprocess.run(**process, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=path.parent)
    except subprocess.TimeoutExpired:
        raise CourseError(f"writing the format {kind!r} on {writer} took more than {SECONDS} seconds") from None
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        reason = " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}"
        raise CourseError(f"the format {kind!r} cannot be written on {writer}: {reason}") from None
    if "error" in answer:
        raise CourseError(answer["error"])
    return answer["runtime"], answer["difference"]


def _main(source: str, target: str, kind: str) -> dict[str, Any]:
    """Exports in the second process."""
    path = Path(target)
    try:
        model = _in_float32(load_keras_model(source))
        _write(model, card_with_outputs(read_required_card(Path(source)), model), path, kind)
        with np.load(path.parent / "task.npz", allow_pickle=False) as task:
            runtime, difference = _compare(path, kind, task["inputs"], task["expected"])
    except CourseError as error:
        return {"error": str(error)}
    return {"runtime": runtime, "difference": difference}


if __name__ == "__main__":
    select.import_keras()
    print("\n" + json.dumps(_main(*sys.argv[1:])))
