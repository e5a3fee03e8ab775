"""Opened models: one class for every format and whatever opens it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_course._backend.activations import output_activations
from keras_course._backend.model_formats import Opened
from keras_course.cards import ModelCard, card_by_shapes, read_card, read_required_card, shapes_of
from keras_course.deployment.formats import ModelFile, find_model_file, open_export
from keras_course.deployment.locate import files_of
from keras_course.errors import CourseError, reason_of

if TYPE_CHECKING:
    import keras

    from keras_course.deployment.isolation import ModelProcess, ProcessLimits

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Runtime:
    """An opened model.

    Args:
        path: The file or folder of the model.
        format: The format, such as ``keras`` or ``onnx``.
        name: The runtime with its version, such as ``ONNX Runtime 1.32.0``.
        card: The model's card.
        run: From uint8 or float32 pictures (n, height, width, channels), 0..255, or int32 tokens (n,
            sequence_length), to the model's output in float32.
        seconds: The time that opening took.
        model: The Keras model, if it is open in this process.
        process: The process in which the model is open, if it is another one.
        compiled: True if each batch size is compiled when it first occurs.
        any_length: True if the model takes tokens of any length up to the card's ``sequence_length``.
    """

    path: Path
    format: str
    name: str
    card: ModelCard
    run: Callable[[np.ndarray], Logits]
    seconds: float = 0.0
    model: "keras.Model | None" = None
    process: "ModelProcess | None" = None
    compiled: bool = False
    any_length: bool = False

    def close(self) -> None:
        """Ends the process of the model, if it has one. Without this call, it ends with this object or the program."""
        if self.process is not None:
            self.process.close()

    def heat(self, picture: np.ndarray, label: int) -> np.ndarray | None:
        """Computes by Grad-CAM how much each pixel contributes to a class.

        Args:
            picture: uint8 (height, width, channels).
            label: The class.

        Returns:
            float32 (height, width), 0 to 1; None if the model is no Keras model, has no convolution, or takes texts.
        """
        if self.card.picture_format is None:
            return None
        if self.process is not None:
            return self.process.heat(picture, label) if self.compiled else None
        if self.model is None:
            return None
        from keras_course.explain import grad_cam

        try:
            return grad_cam(self.model, picture, label=label)
        except CourseError:  # it has no convolution
            return None

    def logits(self, inputs: np.ndarray) -> Logits:
        """Computes the logits of each class; their softmax gives the probabilities.

        Args:
            inputs: Pictures, uint8 or float32 (n, height, width, channels), as ``preprocessing.prepare`` makes them; or
                tokens, int32 (n, sequence_length), as ``preprocessing.text.encode`` makes them.

        Returns:
            float32 (n, classes); of a language model the logits of the token after each text.

        Raises:
            CourseError: The model gives embeddings, and no classes. See ``outputs`` for other errors.
        """
        return self._to_logits(self.outputs(inputs))

    async def logits_async(self, inputs: np.ndarray) -> Logits:
        """Computes as ``logits`` without blocking the event loop; the model needs its own process. See ``logits``."""
        assert self.process is not None
        self._check(inputs)
        return self._to_logits(await self.process.outputs_async(inputs, self.card.numbers))

    def outputs(self, inputs: np.ndarray) -> Logits:
        """Computes the output of the model: logits, probabilities or embeddings, as its card says.

        Args:
            inputs: Pictures, uint8 or float32 (n, height, width, channels), or tokens, int32 (n, sequence_length), or
                fewer of them if the model takes any number.

        Returns:
            float32 (n, classes), or (n, 1) for a model that ends with sigmoid. Of a language model that gives logits
            for each position of a text, those after its last token.

        Raises:
            CourseError: The shape of the inputs is not that of the card, a token is not in the vocabulary, the model
                cannot compute with them, or the shape of the output is not that of the card.
        """
        self._check(inputs)
        try:
            outputs = np.asarray(self.run(inputs), "float32")
        except CourseError:
            raise
        except Exception as error:  # each runtime has errors of its own
            reason = reason_of(error)
            raise CourseError(f"{self.path} cannot compute with {self.card.kind}s {inputs.shape}: {reason}") from error
        outputs = answers_of(outputs, inputs, self.card)
        if outputs.shape != (len(inputs), self.card.numbers):
            raise CourseError(
                f"{self.path} gives {outputs.shape} for {len(inputs)} {self.card.kind}s, and its card names "
                f"{len(self.card.class_names)} classes"
            )
        return outputs

    def _check(self, inputs: np.ndarray) -> None:
        shape, text_format = self.card.shape, self.card.text_format
        called = "pictures" if text_format is None else "tokens"
        if self.any_length and text_format is not None and inputs.ndim == 2 and inputs.shape[1]:
            shape = (min(inputs.shape[1], text_format.sequence_length),)
        if inputs.shape[1:] != shape or not inputs.ndim:
            raise CourseError(f"{called} have the shape {inputs.shape}; give (n, {', '.join(map(str, shape))})")
        if text_format is None:
            return
        if inputs.dtype.kind not in "iu":
            raise CourseError(f"tokens are {inputs.dtype}; give integers")
        count = len(text_format.vocabulary)
        if inputs.size and not 0 <= inputs.min() <= inputs.max() < count:
            raise CourseError(f"tokens are from {inputs.min()} to {inputs.max()}; give numbers from 0 to {count - 1}")

    def _to_logits(self, outputs: Logits) -> Logits:
        if self.card.outputs == "logits":
            return outputs
        if self.card.outputs == "embedding":
            raise CourseError(f"{self.path} gives embeddings, and no classes; use Runtime.outputs, from Python")
        if self.card.outputs == "sigmoid":
            outputs = np.concatenate([1 - outputs, outputs], axis=1)
        # the softmax of the logarithms gives the probabilities again
        return np.asarray(np.log(np.maximum(outputs, np.finfo("float32").tiny)), "float32")


def answers_of(outputs: Logits, inputs: np.ndarray, card: ModelCard) -> Logits:
    """Returns the outputs for the inputs as a whole: of logits for each token of a text, those after its last one.

    The outputs are (n, classes), or (n, sequence_length, classes) of a language model; the result is (n, classes).
    """
    if not card.is_language_model or outputs.ndim != 3 or outputs.shape[:2] != inputs.shape:
        return outputs
    text_format = card.required_text_format()
    if text_format.padding == "left":
        return outputs[:, -1]
    is_token = inputs != text_format.pad
    last = inputs.shape[1] - 1 - is_token[:, ::-1].argmax(axis=1)
    return outputs[np.arange(len(inputs)), np.where(is_token.any(axis=1), last, 0)]


def open_model(
    path: str | Path,
    *,
    threads: int | None = None,
    trust: bool = False,
    backend: str = "",
    limits: "ProcessLimits | None" = None,
) -> Runtime:
    """Opens a model: a run or a ``.keras`` file in Keras, an export in the runtime of its format.

    The model is opened in a separate process with limited memory and time, because its file may come from anyone. A
    model that you made yourself and that needs more is opened in this process by ``trust=True``.

    Args:
        path: The folder of a run, or the file or folder of a model.
        threads: The largest number of threads; None for one for each processor (ONNX), or as many as the runtime likes.
            Keras ignores it.
        trust: True to open the model in this process, without limits, and also in formats in which a model can run code
            or end the process.
        backend: The backend on which Keras opens a ``.keras`` file in the other process; by default the one in use.
        limits: The limits of the process; ``threads`` replaces its number of threads.

    Returns:
        The opened model.

    Raises:
        CourseError: There is no model, the model is damaged or not safe to open, its card belongs to another model, or
            its runtime is not installed.
    """
    file = find_model_file(path)
    if trust:
        return open_here(file, threads=threads, trust=True)
    from keras_course.deployment.isolation import start_model

    started = time.perf_counter()
    runtime = runtime_of(start_model(file, threads=threads, backend=backend, limits=limits))
    return replace(runtime, seconds=time.perf_counter() - started)


def runtime_of(process: "ModelProcess") -> Runtime:
    """Waits until a process of ``isolation.start_model`` has opened its model, and returns the model."""
    try:
        card, facts = process.introduce()
    except BaseException:
        process.close()
        raise
    run = partial(process.outputs, numbers=card.numbers)
    name, seconds = facts["runtime"], facts["seconds"]
    more = {switch: facts[switch] for switch in ("compiled", "any_length")}
    return Runtime(process.path, process.format, name, card, run, seconds, None, process, **more)


def open_here(file: ModelFile, *, threads: int | None = None, trust: bool = False, needs_card: bool = True) -> Runtime:
    """Opens a model in this process, without limits. See ``open_model``, and ``ModelProcess`` for ``needs_card``."""
    started = time.perf_counter()
    found = file.path
    read = read_required_card if needs_card else read_card
    model = None
    if file.is_keras:
        from keras_course.deployment.model_files import load_keras_model

        files_of(found, links=trust)
        model = load_keras_model(found)
        card = read(found)
        card = card and card_with_outputs(card, model)
        name, run = open_keras(model)
        opened = Opened(name, run, *shapes_of(model))
    else:
        opened = open_export(file, threads=threads, trust=trust)
        card = read(found, opened.card)
    if card is None:
        card = card_by_shapes(opened.takes, opened.gives)
        if model is not None and output_activations(model) == ["softmax"]:
            card = replace(card, outputs="softmax")
    card.check_model(str(found), opened.takes, opened.gives, opened.input_type)
    seconds = time.perf_counter() - started
    any_length = card.text_format is not None and opened.takes is not None and opened.takes[1:] == (None,)
    facts: dict[str, Any] = {"compiled": model is not None, "any_length": any_length}
    return Runtime(found, file.format, opened.runtime, card, opened.run, seconds, model, **facts)


def card_with_outputs(card: ModelCard, model: "keras.Model") -> ModelCard:
    """Returns the card with ``outputs`` read from the model's last layer, because older cards do not have it."""
    activations = output_activations(model)
    return card.with_activation(activations[0]) if activations else card


def open_keras(model: "keras.Model") -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """Compiles the forward pass of a model; returns the name of the runtime, and the function from inputs to output.

    Each batch size is compiled separately, so batches are padded to a power of two.
    """
    import keras

    from keras_course import _backend

    forward = _backend.forward(model)

    def run(inputs: np.ndarray) -> np.ndarray:
        missing = (1 << (len(inputs) - 1).bit_length()) - len(inputs)
        filled = np.pad(inputs, [(0, missing)] + [(0, 0)] * (inputs.ndim - 1)) if missing else inputs
        return forward(filled)[: len(inputs)]

    return f"Keras {keras.__version__} on {keras.backend.backend()} {_backend.version()}", run
