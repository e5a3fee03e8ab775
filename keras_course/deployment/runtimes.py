"""A model that is ready to answer, whichever format it is in and whatever opens it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from keras_course._backend import formats
from keras_course._backend.activations import output_activations
from keras_course.cards import ModelCard, Shape, shapes_of
from keras_course.deployment.model_files import find_card, find_model, load_keras_model, read_card_or_fail
from keras_course.errors import CourseError

if TYPE_CHECKING:
    import keras

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Runtime:
    """An opened model.

    Args:
        path: The file or folder of the model.
        format: Such as ``keras`` or ``onnx``.
        name: What computes the answers, with its version, such as ``ONNX Runtime 1.32.0``.
        card: What the model says about itself.
        run: From uint8 or float32 pictures (n, height, width, channels), 0..255, to what the model gives, in float32.
        seconds: How long it took to open it.
        model: The model itself, where Keras computes.
    """

    path: Path
    format: str
    name: str
    card: ModelCard
    run: Callable[[np.ndarray], Logits]
    seconds: float = 0.0
    model: "keras.Model | None" = None

    def logits(self, pictures: np.ndarray) -> Logits:
        """Computes the scores of each class; the softmax of them are the probabilities that the model gives.

        Args:
            pictures: uint8 or float32 (n, height, width, channels), as ``preprocessing.prepare`` makes them.

        Returns:
            float32 (n, classes).

        Raises:
            CourseError: As for ``outputs``.
        """
        outputs = self.outputs(pictures)
        if self.card.outputs == "logits":
            return outputs
        if self.card.outputs == "sigmoid":
            outputs = np.concatenate([1 - outputs, outputs], axis=1)
        # whose softmax is what the model gives
        return np.asarray(np.log(np.maximum(outputs, np.finfo("float32").tiny)), "float32")

    def outputs(self, pictures: np.ndarray) -> Logits:
        """Computes the numbers of the model itself: logits or probabilities, as its card says.

        Args:
            pictures: As for ``logits``.

        Returns:
            float32 (n, classes), or (n, 1) for a model that ends with sigmoid.

        Raises:
            CourseError: The pictures are of another shape than the card says, the model cannot compute with them, or
                it gives something else than its card says.
        """
        if pictures.ndim != 4 or pictures.shape[1:] != self.card.pictures.shape:
            raise CourseError(f"pictures have the shape {pictures.shape}; give (n, {self._shape()})")
        try:
            outputs = np.asarray(self.run(pictures), "float32")
        except Exception as error:  # each runtime has errors of its own
            reason = formats.reason_of(error)
            raise CourseError(f"{self.path} cannot compute with pictures {pictures.shape}: {reason}") from error
        if outputs.shape != (len(pictures), self.card.numbers):
            raise CourseError(
                f"{self.path} gives {outputs.shape} for {len(pictures)} pictures, and its card names "
                f"{len(self.card.class_names)} classes"
            )
        return outputs

    def _shape(self) -> str:
        return ", ".join(map(str, self.card.pictures.shape))


def open_model(
    path: str | Path,
    *,
    threads: int | None = None,
    trust: bool = False,
    default_card: "Callable[[Shape | None, Shape | None], ModelCard] | None" = None,
) -> Runtime:
    """Opens a model in the runtime of its format: Keras for a run or a ``.keras`` file, else that of the export.

    Args:
        path: The folder of a run, or the file or folder of a model.
        threads: How many threads the runtime may use; None for one for each processor (ONNX), or as many as it likes.
            Keras ignores it.
        trust: Whether to open formats, too, in which a stranger's model could run code or end the process.
        default_card: Makes a card for a model that has none, from the shapes of what it takes and gives for a batch;
            without it, such a model is not opened.

    Returns:
        The model, ready to answer.

    Raises:
        CourseError: There is no model, it is damaged or not to be trusted, its card is that of another one, or its
            runtime is not installed.
    """
    started = time.perf_counter()
    found = find_model(path)
    kind = formats.format_of(found)
    read = find_card if default_card else read_card_or_fail
    model = None
    if kind == "keras":
        model = load_keras_model(found)
        card = read(found)
        card = card and told_by_graph(card, model)
        name, run = open_keras(model)
        opened = formats.Opened(name, run, *shapes_of(model))
    else:
        opened = formats.open_export(found, threads=threads, trust=trust)
        card = read(found, opened.card)
    if card is None and default_card is not None:
        card = default_card(opened.takes, opened.gives)
        if model is not None and output_activations(model) == ["softmax"]:
            card = replace(card, outputs="softmax")
    assert card is not None  # `read_card_or_fail` gives one
    card.check_model(str(found), opened.takes, opened.gives)
    return Runtime(found, kind, opened.runtime, card, opened.run, time.perf_counter() - started, model)


def told_by_graph(card: ModelCard, model: "keras.Model") -> ModelCard:
    """Puts on a card whether the model gives logits or probabilities, which older cards do not say.

    Args:
        card: The card.
        model: Its model.

    Returns:
        The card.
    """
    activations = output_activations(model)
    return replace(card, outputs=activations[0] or "logits") if activations else card


def open_keras(model: "keras.Model") -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """Compiles the forward pass of a model on the backend in use.

    Batches are filled up to a power of two, since each size is a program that has to be compiled.

    Args:
        model: The model.

    Returns:
        The name of what computes, and the function from pictures to logits.
    """
    import keras

    from keras_course import _backend

    forward = _backend.forward(model)

    def run(pictures: np.ndarray) -> np.ndarray:
        missing = (1 << (len(pictures) - 1).bit_length()) - len(pictures)
        filled = np.pad(pictures, [(0, missing)] + [(0, 0)] * (pictures.ndim - 1)) if missing else pictures
        return forward(filled)[: len(pictures)]

    return f"Keras {keras.__version__} on {keras.backend.backend()} {_backend.version()}", run
