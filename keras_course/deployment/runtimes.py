"""A model that is ready to answer, whichever format it is in and whatever opens it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from keras_course._backend import formats
from keras_course._backend.activations import output_activations
from keras_course.cards import ModelCard, card_by_shapes, find_card, read_card_or_fail, shapes_of
from keras_course.deployment.locate import find_model
from keras_course.errors import CourseError, reason_of

if TYPE_CHECKING:
    import keras

    from keras_course.deployment.isolation import Limits, ModelProcess

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
        model: The model itself, where Keras computes in this process.
        process: The process in which it is open, if not in this one.
        compiled: Whether each size of batch is a program that is compiled when it first occurs.
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

    def close(self) -> None:
        """Ends the process of the model, if it has one; without this it ends with the runtime or the program."""
        if self.process is not None:
            self.process.close()

    def heat(self, picture: np.ndarray, label: int) -> np.ndarray | None:
        """Finds the places in a picture that speak for a class, by Grad-CAM.

        Args:
            picture: uint8 (height, width, channels).
            label: The class.

        Returns:
            float32 (height, width), 0 to 1, or None where Keras does not compute, or the model has no convolution.
        """
        if self.process is not None:
            return self.process.heat(picture, label) if self.compiled else None
        if self.model is None:
            return None
        from keras_course.explain import grad_cam

        try:
            return grad_cam(self.model, picture, label=label)
        except CourseError:  # it has no convolution
            return None

    def logits(self, pictures: np.ndarray) -> Logits:
        """Computes the scores of each class; the softmax of them are the probabilities that the model gives.

        Args:
            pictures: uint8 or float32 (n, height, width, channels), as ``preprocessing.prepare`` makes them.

        Returns:
            float32 (n, classes).

        Raises:
            CourseError: As for ``outputs``.
        """
        return self._to_logits(self.outputs(pictures))

    async def logits_soon(self, pictures: np.ndarray) -> Logits:
        """Computes as ``logits`` from an event loop, where the model has a process of its own.

        Args:
            pictures: As for ``logits``.

        Returns:
            float32 (n, classes).

        Raises:
            CourseError: As for ``outputs``.
        """
        assert self.process is not None
        self._check(pictures)
        return self._to_logits(await self.process.outputs_soon(pictures, self.card.numbers))

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
        self._check(pictures)
        try:
            outputs = np.asarray(self.run(pictures), "float32")
        except CourseError:
            raise
        except Exception as error:  # each runtime has errors of its own
            reason = reason_of(error)
            raise CourseError(f"{self.path} cannot compute with pictures {pictures.shape}: {reason}") from error
        if outputs.shape != (len(pictures), self.card.numbers):
            raise CourseError(
                f"{self.path} gives {outputs.shape} for {len(pictures)} pictures, and its card names "
                f"{len(self.card.class_names)} classes"
            )
        return outputs

    def _check(self, pictures: np.ndarray) -> None:
        if pictures.ndim != 4 or pictures.shape[1:] != self.card.picture_format.shape:
            raise CourseError(f"pictures have the shape {pictures.shape}; give (n, {self._shape()})")

    def _to_logits(self, outputs: Logits) -> Logits:
        if self.card.outputs == "logits":
            return outputs
        if self.card.outputs == "sigmoid":
            outputs = np.concatenate([1 - outputs, outputs], axis=1)
        # whose softmax is what the model gives
        return np.asarray(np.log(np.maximum(outputs, np.finfo("float32").tiny)), "float32")

    def _shape(self) -> str:
        return ", ".join(map(str, self.card.picture_format.shape))


def open_model(
    path: str | Path,
    *,
    threads: int | None = None,
    trust: bool = False,
    backend: str = "",
    limits: "Limits | None" = None,
) -> Runtime:
    """Opens a model in the runtime of its format: Keras for a run or a ``.keras`` file, else that of the export.

    A model may come from anybody. It is opened in a process of its own, which may take so much memory and time and no
    more, and is killed otherwise; a model of your own that needs more is opened with ``trust``, in this process.

    Args:
        path: The folder of a run, or the file or folder of a model.
        threads: How many threads the runtime may use; None for one for each processor (ONNX), or as many as it likes.
            Keras ignores it.
        trust: Whether to open it in this process, without limits, and in formats, too, in which a stranger's model
            could run code or end the process.
        backend: On which Keras opens a ``.keras`` file in the other process; without it, the one in use.
        limits: What the process may take; its ``threads`` are those given here.

    Returns:
        The model, ready to answer.

    Raises:
        CourseError: There is no model, it is damaged or not to be trusted, its card is that of another one, or its
            runtime is not installed.
    """
    if trust:
        return open_here(path, threads=threads, trust=True)
    from keras_course.deployment.isolation import start_model

    started = time.perf_counter()
    runtime = runtime_of(start_model(path, threads=threads, backend=backend, limits=limits))
    return replace(runtime, seconds=time.perf_counter() - started)


def runtime_of(process: "ModelProcess") -> Runtime:
    """Waits until a model is open in its own process.

    Args:
        process: The process, as ``isolation.start_model`` starts it.

    Returns:
        The model, ready to answer.

    Raises:
        CourseError: It cannot be opened.
    """
    try:
        card, facts = process.introduce()
    except BaseException:
        process.close()
        raise
    run = partial(process.outputs, numbers=card.numbers)
    kind, name, seconds = formats.format_of(process.path), facts["runtime"], facts["seconds"]
    return Runtime(process.path, kind, name, card, run, seconds, None, process, facts["compiled"])


def open_here(path: str | Path, *, threads: int | None = None, trust: bool = False, needs_card: bool = True) -> Runtime:
    """Opens a model in this process, without limits.

    Args:
        path: As for ``open_model``.
        threads: As for ``open_model``.
        trust: Whether to open formats, too, in which a stranger's model could run code or end the process.
        needs_card: Whether a model without a card is refused; else it gets ``cards.card_by_shapes``.

    Returns:
        The model, ready to answer.

    Raises:
        CourseError: As for ``open_model``.
    """
    started = time.perf_counter()
    found = find_model(path)
    kind = formats.format_of(found)
    read = read_card_or_fail if needs_card else find_card
    model = None
    if kind == "keras":
        from keras_course.deployment.model_files import load_keras_model

        formats.files_of(found, links=trust)
        model = load_keras_model(found)
        card = read(found)
        card = card and told_by_graph(card, model)
        name, run = open_keras(model)
        opened = formats.Opened(name, run, *shapes_of(model))
    else:
        opened = formats.open_export(found, threads=threads, trust=trust)
        card = read(found, opened.card)
    if card is None:
        card = card_by_shapes(opened.takes, opened.gives)
        if model is not None and output_activations(model) == ["softmax"]:
            card = replace(card, outputs="softmax")
    card.check_model(str(found), opened.takes, opened.gives)
    seconds = time.perf_counter() - started
    return Runtime(found, kind, opened.runtime, card, opened.run, seconds, model, compiled=model is not None)


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
