"""Training a model on data of any kind: the same batches, the same curve, on every backend."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from keras_course import _backend
from keras_course._backend import keras_private
from keras_course._backend.loops import leaves
from keras_course.allow_list import check_can_be_opened
from keras_course.augmentation import Augmentation, check_augmentation
from keras_course.errors import CourseError, DivergenceError, check_positive, reason_of
from keras_course.training.callbacks import Callbacks
from keras_course.training.features import graph_without_names
from keras_course.training.inputs import (
    Batches,
    BatchStream,
    Data,
    as_batch,
    as_batches,
    as_samples,
    check_batch_size,
    check_batches,
    check_data,
    check_pictures,
    check_samples,
    check_stateless,
    class_weights_of,
    fixed_batch_size,
    map_arrays,
    split_off,
)
from keras_course.training.objectives import (
    Loss,
    Metrics,
    check_takes_probabilities,
    compiled,
    losses_for,
    metrics_for,
)
from keras_course.training.run_directory import Checkpoint, Columns, RunDirectory
from keras_course.training.steps import Measurement, Steps, choose_steps, has_loss_of_keras, own_code

Forward = Callable[[Any], Any]

_SAMPLES_TOGETHER: Final = 256
_NUMBERS_TOGETHER: Final = 2**23
"""What runs together in inference mode: so many samples, or fewer with so many numbers."""


class History(dict[str, list[float]]):
    """The columns of a training, a value an epoch.

    Attributes:
        way: ``"compiled"``, or ``"keras"`` where Keras' own trainer took the steps.
        reason: Why Keras' own trainer took them; None for the compiled loop.
        steps: How many steps were taken.
    """

    way: str = "compiled"
    reason: str | None = None
    steps: int = 0


def fit(
    model: keras.Model,
    train: Data,
    valid: Data | None = None,
    *,
    optimizer: keras.Optimizer | str = "adam",
    loss: Loss = "sparse_categorical_crossentropy",
    metrics: Metrics = None,
    weighted_metrics: Metrics = None,
    loss_weights: Any = None,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | str | None = None,
    validation_split: float = 0.0,
    epochs: int = 5,
    batch_size: int = 32,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    early_stopping: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    run: RunDirectory | str | Path | None = None,
    log_steps: bool = False,
    progress: bool = True,
) -> History:
    """Trains any Keras model to the numbers of Keras' own trainer, and goes on where a killed run stopped.

    Several steps run in one compiled call where that is known to give the same numbers; other models are trained by
    Keras' own ``train_step``. The result says which (``way``, ``reason``). The order of the samples is drawn from the
    seed and the epoch; so is whatever the model draws from ``keras_course.randomness``. The model is not compiled and
    need not be.

    Args:
        model: The model. One that is not built yet is built on the first batch.
        train: (x, y) or (x, y, sample_weight) with samples, labels and weights (n, ...): arrays, lists, data frames or
            tensors, or lists and dictionaries of them for several inputs and outputs. Or a collection of such batches
            that can be gone through once an epoch: a ``keras.utils.PyDataset``, a ``DataLoader`` of PyTorch, a
            ``tf.data.Dataset``, a list. The seed does not shuffle a collection.
        valid: Data on which each epoch is measured, in one of these forms.
        optimizer: A Keras optimizer that has trained no other model, or the name of one with its default settings.
        loss: A Keras loss, a function from labels and outputs, or a name; for several outputs one for all, or a list
            or dictionary. A loss that is named takes logits, or probabilities where the model ends with softmax or
            sigmoid.
        metrics: Names of Keras, metrics or functions from labels and outputs, as a list or by name; for several
            outputs a list or dictionary as for ``Model.compile``. ``accuracy`` for a classifier when left out.
        weighted_metrics: The same, for metrics that take the weights of the samples.
        loss_weights: A weight for each of several losses.
        sample_weight: Weights (n, ...) of the samples, if ``train`` has none.
        class_weight: A weight for each class by its number, or ``"balanced"``.
        validation_split: Which share of the samples, from the end, to measure on instead of training on them.
        epochs: How often to go through the samples, counted from the start of the run, also after a resume.
        batch_size: Samples a step. The last batch of an epoch is smaller where they do not divide.
        seed: Seed of the order.
        augmentation: What to do to the pictures of each training batch, and to its labels. Where it mixes labels, they
            become probabilities, and a sparse cross entropy takes them as such.
        early_stopping: Epochs without a lower validation loss after which to stop and go back to the best; None to go
            on.
        callbacks: Keras callbacks. With one that watches batches, each step is a call of its own.
        run: Where to write ``history.csv`` and a checkpoint each epoch; with ``run.resume`` the run there goes on. A
            path is a new run.
        log_steps: Whether to write the loss of each batch alone to ``steps.csv`` in ``run``.
        progress: Whether to show a progress bar and a line an epoch.

    Returns:
        The columns epoch, loss, the metrics, val_loss, val_ and each metric, seconds; a row an epoch. ``loss`` and the
        metrics are means over the epoch while the model was being trained.

    Raises:
        CourseError: Data and model do not fit, a sample is not finite, a number is out of range, the optimizer has
            trained another model, or the checkpoint is of another run.
        DivergenceError: The loss is no longer a number; ``found`` holds the columns of the epochs before.

    Example:
        >>> from keras_course.models import dense_classifier
        >>> x, y = np.zeros((8, 2, 2, 1), "uint8"), np.zeros(8, "int32")
        >>> history = fit(dense_classifier(input_shape=(2, 2, 1), hidden=()), (x, y), epochs=2, progress=False)
        >>> history["epoch"], history["accuracy"][-1], history.way
        ([1, 2], 1.0, 'compiled')
    """
    check_positive(epochs=epochs, batch_size=batch_size)
    check_augmentation(augmentation)
    if not isinstance(model, keras.Model):
        raise CourseError(f"model is a {type(model).__name__}; give a keras.Model")
    if sample_weight is not None:
        if class_weight is not None:
            raise CourseError("sample_weight and class_weight are given; give one of them")
        train = (*_pair(train, "sample_weight"), sample_weight)
    if validation_split:
        if valid is not None:
            raise CourseError("validation_split and valid are given; give one of them")
        train, valid = split_off(train, validation_split, "train")
    if early_stopping is not None:
        check_positive(early_stopping=early_stopping)
        if valid is None:
            raise CourseError("early_stopping needs validation data; give valid or leave early_stopping out")
    if class_weight is not None:
        train = _weighted(model, train, class_weight)
    training = as_batches(train, batch_size=batch_size, seed=seed, name="train")
    validation = None if valid is None else as_batches(valid, batch_size=batch_size, seed=None, name="valid")
    first = training.first()
    if augmentation is not None:
        check_pictures(first["x"], "train")
        augmentation.check(first["x"], first.get("y"), outputs=_outputs_of(model), name="train")
        if "sample_weight" in first and augmentation.mixes:
            raise CourseError(
                "augmentation mixes samples, whose weights would be wrong; leave MixUp and CutMix or them out"
            )
    with ExitStack() as stack:
        if isinstance(run, str | Path):
            run = stack.enter_context(RunDirectory(run))
        problem = _Problem(model, loss, metrics, weighted_metrics, loss_weights, first, augmentation)
        problem.check(training, "train")
        problem.check_augmentation(training, "train")
        if validation is not None:
            problem.check(validation, "valid")
        optimizer = _optimizer_for(model, optimizer)
        if run is not None:
            check_can_be_opened(model)
        stack.enter_context(problem.compiled(optimizer))
        settings = _settings(model, training, validation, optimizer, problem, batch_size, seed, augmentation)
        history, best, stopped = _start(run, settings, model, optimizer, training.steps or 0)
        if stopped or len(history["epoch"]) >= epochs or _patience_is_over(history, early_stopping):
            _finish(model, optimizer, best)
            if run is not None:
                run.training = {"way": history.way, "reason": history.reason}
            return history
        if run is not None and log_steps:
            run.start_steps(history.steps)
        ahead = Callbacks(callbacks, model, epochs, training.steps)
        group, _ = next(training.groups(0, lambda: 1e9, alone=ahead.watches_batches))
        group["step"] = np.zeros(len(next(leaves(group))), "int32")
        steps, history.reason = choose_steps(model, augmentation, group, problem.things(optimizer))
        history.way = steps.way
        if run is not None:
            run.training = {"way": history.way, "reason": history.reason}
        trainer = _Trainer(model, steps, training, history, _Display(epochs, training.steps, shown=progress), ahead)
        measurement = None
        if validation is not None:
            measurement = Measurement(model, validation, _predictor(model))
        with ahead as watching:
            start = max(len(history["epoch"]), watching.first_epoch)
            for epoch in range(start, epochs):
                if model.stop_training or _patience_is_over(history, early_stopping):
                    break
                started = time.perf_counter()
                watching.list.on_epoch_begin(epoch)
                with trainer.display.epoch(epoch):
                    logs, losses = trainer.run_epoch(epoch)
                if measurement is not None:
                    watching.list.on_test_begin()
                    test = measurement.run(watching.on_test_batch if watching.watches_test_batches else None)
                    watching.list.on_test_end(test)
                    logs |= {f"val_{name}": value for name, value in _in_order(test).items()}
                history.steps = trainer.steps_done
                if not np.isfinite(logs.get("val_loss", 0.0)) or not _is_finite(model):
                    raise _diverged(epoch, trainer.steps_done, history, what="state after")
                logs = watching.end_epoch(epoch, _in_order(logs))
                row = {"epoch": epoch + 1, **logs, "seconds": round(time.perf_counter() - started, 3)}
                _add(history, row)
                if early_stopping is not None and int(np.argmin(history["val_loss"])) == len(history["epoch"]) - 1:
                    best = _weights(model)
                trainer.display.report(row)
                if run is not None:  # after the callbacks, which may have changed the learning rate
                    if log_steps:
                        run.append_steps(trainer.steps_done - len(losses) + 1, losses)
                    state = (*_state(model, optimizer), best, _random_states(model))
                    run.save_checkpoint(
                        Checkpoint(
                            settings,
                            dict(history),
                            *state,
                            stopped=bool(model.stop_training),
                            steps=history.steps,
                            training=run.training,
                        )
                    )
            _finish(model, optimizer, best)
    return history


def evaluate(
    model: keras.Model,
    data: Data,
    *,
    loss: Loss = "sparse_categorical_crossentropy",
    metrics: Metrics = None,
    weighted_metrics: Metrics = None,
    loss_weights: Any = None,
    batch_size: int = 32,
) -> dict[str, float]:
    """Measures a model on labelled data, as Keras' own ``Model.evaluate`` does.

    Args:
        model: The model.
        data: Samples, labels and weights in one of the forms of ``fit``.
        loss: As for ``fit``.
        metrics: As for ``fit``.
        weighted_metrics: As for ``fit``.
        loss_weights: As for ``fit``.
        batch_size: Samples that are measured together, on which a loss may depend that leaves samples out.

    Returns:
        The loss and the mean of each metric.

    Example:
        >>> from keras_course.models import dense_classifier
        >>> model = dense_classifier(input_shape=(2, 2, 1), hidden=(), num_classes=2)
        >>> black = np.zeros((4, 2, 2, 1), "uint8")  # all logits are 0, so the loss is the logarithm of 2
        >>> {name: round(value, 3) for name, value in evaluate(model, (black, np.zeros(4, "int32"))).items()}
        {'loss': 0.693, 'accuracy': 1.0}
    """
    check_positive(batch_size=batch_size)
    source = as_batches(data, batch_size=batch_size, seed=None, name="data")
    problem = _Problem(model, loss, metrics, weighted_metrics, loss_weights, source.first(), None)
    problem.check(source, "data")
    with problem.compiled(None):
        return _in_order(Measurement(model, source, _predictor(model)).run())


def predict_logits(
    model: keras.Model,
    x: Any,
    *,
    batch_size: int | None = None,
    augmentation: Augmentation | None = None,
    variants: int = 16,
) -> Any:
    """Runs a model over samples in inference mode.

    Args:
        model: The model. One that is not built yet is built on the samples.
        x: Samples (n, ...): an array, list, data frame or tensor; a list or dictionary of them for several inputs.
        batch_size: Samples that run together; without it up to 256, and fewer large ones, such as 32 photos of 224 by
            224 pixels.
        augmentation: With it the model does not see the pictures themselves, but several variants of each, changed as
            in training; what it says of them is averaged. A net that has learned from changed pictures is usually
            right a little more often that way. The variants of a picture depend on its row, and not on
            ``batch_size``.
        variants: How many; the time that it takes is as many times as long.

    Returns:
        The model's outputs, float32 (n, ...), in a list or dictionary where the model has several; with an
        augmentation their means.

    Raises:
        CourseError: The samples do not fit the model, are no pictures where they are to be changed, or the
            augmentation mixes pictures with each other.

    Example:
        >>> from keras_course.augmentation import Augmentation, Rotation
        >>> from keras_course.models import dense_classifier
        >>> black = np.zeros((3, 28, 28, 1), "uint8")
        >>> predict_logits(dense_classifier(), black).shape
        (3, 10)
        >>> predict_logits(dense_classifier(), black, augmentation=Augmentation([Rotation(20)]), variants=4).shape
        (3, 10)

    Source: A. Krizhevsky, I. Sutskever and G. Hinton, "ImageNet classification with deep convolutional neural
    networks", 2012, which averages over ten crops.
    """
    check_positive(batch_size=1 if batch_size is None else batch_size, variants=variants)
    check_augmentation(augmentation, mixing=False)
    x = as_samples(x, "x")
    check_samples(model, x, "x")
    check_stateless(model)
    if augmentation is not None:
        check_pictures(x, "x")
        augmentation.check(x, name="x")
    if batch_size is not None:
        check_batch_size(model, batch_size)
    if not _is_built(model):
        model(map_arrays(lambda array: keras.ops.convert_to_tensor(array[:1]), x))
    forward = _backend.forward(model)
    batch_size = fixed_batch_size(model) or batch_size
    if augmentation is None:
        return _predict(forward, x, batch_size)
    shown = (augmentation.apply(x, step=step, xp=np) for step in range(variants))
    answers = [_predict(forward, pictures, batch_size) for pictures in shown]
    return keras.tree.map_structure(lambda *outputs: np.mean(outputs, axis=0), *answers)


def _predict(forward: Forward, x: Any, batch_size: int | None = None) -> Any:
    samples = len(next(leaves(x)))
    if batch_size is None:
        # a net makes many times as many numbers of a photo as it has: 256 of them filled 20 GiB
        fitting = max(1, _NUMBERS_TOGETHER // max(1, sum(math.prod(array.shape[1:]) for array in leaves(x))))
        batch_size = min(_SAMPLES_TOGETHER, 1 << (fitting.bit_length() - 1), samples)
    outputs = []
    for start in range(0, samples, batch_size):
        # one shape, one compilation: the last batch is filled up with copies, whose outputs are dropped
        rows = np.resize(np.arange(start, min(start + batch_size, samples)), batch_size)
        batch = forward(map_arrays(lambda array, rows=rows: array[rows], x))
        kept = min(batch_size, samples - start)
        outputs.append(keras.tree.map_structure(lambda array, kept=kept: array[:kept], batch))
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *outputs)


class _Problem:
    """What a model is trained for, and on which batches."""

    def __init__(
        self,
        model: keras.Model,
        loss: Loss,
        metrics: Metrics,
        weighted_metrics: Metrics,
        loss_weights: Any,
        first: dict[str, Any],
        augmentation: Augmentation | None,
    ) -> None:
        self._model, self._first, self._loss_weights = model, first, loss_weights
        self._augmentation = augmentation
        if found := own_code(model, ("compile",)):
            raise CourseError(
                f"{found}, whose optimizers and losses are not known here; "
                "train it with its own fit, or leave compile as Keras has it"
            )
        check_stateless(model)
        if not _is_built(model):
            with compiled(model, None, None):
                self._build()
        check_samples(model, first["x"], "train")
        mixed = augmentation is not None and augmentation.mixes
        own_loss = own_code(model, ("compute_loss",)) is not None
        self.loss = losses_for(model, loss, first["x"], mixed_labels=mixed)
        self._is_known = not own_loss
        if not own_loss and "y" not in first and not _adds_losses(model, first["x"]):
            raise CourseError("train has no labels; give (x, y), or a model with a compute_loss or add_loss of its own")
        if "y" not in first:
            self.loss = None
        self.metrics = metrics_for(model, metrics, self.loss, first)
        self.weighted_metrics = None
        if weighted_metrics is not None:
            self.weighted_metrics = metrics_for(model, weighted_metrics, self.loss, first)
        if mixed:
            check_takes_probabilities(self.loss, "loss")
            check_takes_probabilities([self.metrics, self.weighted_metrics], "metrics")

    def check_augmentation(self, source: Batches | BatchStream, name: str) -> None:
        """Checks that pictures and labels can be changed as the augmentation does."""
        if self._augmentation is None:
            return
        parts = source.arrays if isinstance(source, Batches) else source.first()
        y = parts.get("y")
        of_classes = isinstance(self.loss, keras.losses.SparseCategoricalCrossentropy)
        if of_classes and isinstance(y, np.ndarray) and y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]  # class numbers, and no probabilities
        self._augmentation.check(parts["x"], y, outputs=_outputs_of(self._model), name=name)

    def check(self, source: Batches | BatchStream, name: str) -> None:
        """Checks that data fits the model and its loss."""
        check_batches(self._model, source, name)
        parts = source.arrays if isinstance(source, Batches) else source.first()
        check_data(self._model, (parts["x"], parts.get("y")), self.loss if self._is_known else None, name)

    @contextmanager
    def compiled(self, optimizer: keras.Optimizer | None) -> Iterator[None]:
        """Compiles the model for a while, and builds it with its loss, metrics and optimizer."""
        model = self._model
        with compiled(model, optimizer, self.loss, self.metrics, self.weighted_metrics, self._loss_weights):
            self._build()
            if optimizer is not None and not optimizer.built:
                optimizer.build(model.trainable_variables)
            yield

    def _build(self) -> None:
        x, y, weights = (self._first.get(name) for name in ("x", "y", "sample_weight"))
        if self._augmentation is not None and self._augmentation.mixes and isinstance(y, np.ndarray):
            y = self._augmentation.probabilities(y)  # as the loss and the metrics will see them
        try:
            keras_private.build_on(self._model, x, y, weights)
        except Exception as error:  # what the layers, losses and metrics of anybody may raise
            raise CourseError(f"model, data, loss and metrics do not fit together: {reason_of(error)}") from error

    def things(self, optimizer: keras.Optimizer) -> list[Any]:
        """Lists what the steps call beside the model."""
        return [self.loss, self.metrics, self.weighted_metrics, optimizer]


def _outputs_of(model: keras.Model) -> int | None:
    """Returns how many numbers a model gives for each sample; None if that is not known, or they have more axes."""
    shape: Any = getattr(model, "output_shape", None) if model.built else None
    is_row = isinstance(shape, tuple) and len(shape) == 2 and isinstance(shape[1], int)
    return shape[1] if is_row else None


def _adds_losses(model: keras.Model, x: Any) -> bool:
    """Whether layers of a model add losses, of regularisers or of their own, as they are called."""
    if model.losses:
        return True
    with keras.StatelessScope(collect_losses=True) as scope:
        model(map_arrays(keras.ops.convert_to_tensor, x))
    return bool(scope.losses)


def _is_built(model: keras.Model) -> bool:
    """Whether all layers have their weights; a subclassed model may call itself built before its layers are."""
    return all(layer.built for layer in keras_private.all_layers(model))


def _finish(model: keras.Model, optimizer: keras.Optimizer, best: list[np.ndarray]) -> None:
    """Takes the best weights, or those that the optimizer has averaged."""
    if best:
        model.set_weights(best)
    elif optimizer.built:
        optimizer.finalize_variable_values(model.trainable_variables)


class _Trainer:
    """Runs the epochs of a training."""

    def __init__(
        self,
        model: keras.Model,
        steps: Steps,
        batches: Batches | BatchStream,
        history: History,
        display: "_Display",
        callbacks: Callbacks,
    ) -> None:
        self._model, self._steps, self._batches = model, steps, batches
        self._history, self.display, self._callbacks = history, display, callbacks
        self.steps_done = history.steps

    def run_epoch(self, epoch: int) -> tuple[dict[str, float], list[float]]:
        """Runs one epoch; returns its logs and the loss of each batch."""
        model, steps, watching = self._model, self._steps, self._callbacks
        model.reset_metrics()
        totals = _Totals()
        # a group of steps starts before the losses of the one before have been looked at
        waiting: list[tuple[Any, int, int]] = []
        ahead = not watching.watches_batches
        started = time.perf_counter()

        def steps_a_second() -> float:
            return max(1, len(totals.losses)) / (time.perf_counter() - started)

        def collect(rows: Any, count: int, size: int) -> None:
            numbers = np.asarray(rows)[:count].astype("float64")
            totals.add(numbers[:, 0], size)
            if not np.isfinite(numbers[:, 0]).all():
                wrong = int(np.argmin(np.isfinite(totals.losses))) + 1
                done = self.steps_done - len(totals.losses) + wrong
                raise _diverged(epoch, done, self._history, what="loss of")
            if self.display.is_shown:
                self.display.advance(
                    count, {"loss": totals.mean(), **dict(zip(steps.names, numbers[-1, 1:], strict=True))}
                )

        steps.begin_epoch()
        if ahead:
            steps.load()
        try:
            for group, count in self._batches.groups(epoch, steps_a_second, alone=not ahead):
                axes = next(leaves(group)).shape
                if not ahead:
                    watching.list.on_train_batch_begin(len(totals.losses))
                    steps.load()
                group["step"] = np.arange(self.steps_done, self.steps_done + axes[0], dtype="int32")
                waiting.append((steps.run(group, count), count, axes[1]))
                self.steps_done += count
                while len(waiting) > ahead:
                    collect(*waiting.pop(0))
                if not ahead:
                    steps.sync()
                    watching.list.on_train_batch_end(len(totals.losses) - 1, self._logs(totals))
                    if model.stop_training:
                        break
            for rest in waiting:
                collect(*rest)
        finally:
            steps.sync()
        if not totals.losses:
            raise CourseError("train has no batches in this epoch; give a collection that can be gone through again")
        return self._logs(totals), totals.losses

    def _logs(self, totals: "_Totals") -> dict[str, float]:
        logs = self._steps.results()
        if has_loss_of_keras(self._model):
            logs["loss"] = totals.mean()
        return _in_order(logs)


class _Totals:
    """The losses of an epoch so far."""

    def __init__(self) -> None:
        self._sum, self._samples = 0.0, 0
        self.losses: list[float] = []

    def add(self, losses: np.ndarray, size: int) -> None:
        """Adds the mean losses of batches of one size; one after the other, so that no bit depends on the grouping."""
        for loss in losses.tolist():
            self._sum += loss * size
            self._samples += size
            self.losses.append(loss)

    def mean(self) -> float:
        """The mean over the samples."""
        return self._sum / self._samples


def _in_order(logs: Mapping[str, float]) -> dict[str, float]:
    """Puts the loss first."""
    return {name: logs[name] for name in sorted(logs, key=lambda name: name != "loss")}


def _add(history: Columns, row: Mapping[str, float]) -> None:
    """Adds a row; a column that is new in it has no number in the rows before."""
    rows = len(history["epoch"])
    seconds = history.pop("seconds", [])
    for name in row:
        if name != "seconds":
            history.setdefault(name, [math.nan] * rows)
    history["seconds"] = seconds
    for name, column in history.items():
        column.append(row.get(name, math.nan))


def _pair(train: Data, name: str) -> Data:
    """Returns samples and labels to which weights are added."""
    if not isinstance(train, tuple | list) or len(train) != 2:
        raise CourseError(f"{name} needs train to be (x, y) of arrays; let a collection of batches give weights itself")
    return train


def _weighted(model: keras.Model, train: Data, class_weight: Any) -> Data:
    """Adds the weights of their classes to samples and labels."""
    y = as_batch(_pair(train, "class_weight"), "train")["y"]
    if not isinstance(y, np.ndarray):
        raise CourseError("class_weight needs one output; give sample_weight for several")
    shape = getattr(model, "output_shape", None) if model.built else None
    classes = shape[-1] if isinstance(shape, tuple) and isinstance(shape[-1], int) and shape[-1] > 1 else None
    return (*train, class_weights_of(y, class_weight, classes))


def _optimizer_for(model: keras.Model, optimizer: Any) -> keras.Optimizer:
    """Finds an optimizer, which must not have trained anything else."""
    try:
        optimizer = keras.optimizers.get(optimizer)
    except ValueError as error:
        raise CourseError(f"optimizer is {optimizer!r}; give an optimizer of Keras or its name") from error
    if not isinstance(optimizer, keras.Optimizer):
        raise CourseError(f"optimizer is a {type(optimizer).__name__}; give an optimizer of Keras or its name")
    if optimizer.built:
        known = [id(variable) for variable in keras_private.trained_variables(optimizer)]
        if known != [id(variable) for variable in model.trainable_variables]:
            raise CourseError(
                "optimizer was built for other weights: it has trained another model, or this one with other layers "
                "frozen; make a new optimizer for each model, and after freezing or unfreezing"
            )
    if model.dtype_policy.name == "mixed_float16" and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def _predictor(model: keras.Model) -> Forward:
    """Returns the forward pass over samples of any number, compiled when it is first used."""
    compiled_forward: list[Forward] = []

    def predict(x: Any) -> Any:
        if not compiled_forward:
            compiled_forward.append(_backend.forward(model))
        return _predict(compiled_forward[0], x)

    return predict


def _start(
    run: RunDirectory | None, settings: dict[str, Any], model: keras.Model, optimizer: keras.Optimizer, steps: int
) -> tuple[History, list[np.ndarray], bool]:
    """Begins a run, or goes on with it; returns its history, the best weights, and whether a callback has ended it."""
    checkpoint = None if run is None else run.load_checkpoint()
    if run is None or checkpoint is None:
        return History({"epoch": [], "loss": [], "seconds": []}), [], False
    if not run.resume:
        raise CourseError(
            f"{run.path} holds the history of an earlier fit, which this one would replace; "
            "give another run, such as run.inside('second')"
        )
    _restore(checkpoint, settings, model, optimizer)
    run.write_history(checkpoint.history)  # a run killed between the two files has a newer checkpoint
    history = History(checkpoint.history)
    history.way, history.reason = checkpoint.training.get("way", "compiled"), checkpoint.training.get("reason")
    history.steps = checkpoint.steps if checkpoint.version > 1 else len(history["epoch"]) * steps
    return history, checkpoint.best, checkpoint.stopped


def _is_finite(model: keras.Model) -> bool:
    return all(np.isfinite(weight).all() for weight in model.get_weights())


def _diverged(epoch: int, step: int, history: Columns, *, what: str) -> DivergenceError:
    return DivergenceError(
        f"the {what} step {step} (epoch {epoch + 1}) is not a finite number any more: training diverged; "
        "choose a smaller learning_rate",
        found=history,
    )


class _Display:
    """A progress bar for the epoch under way, and a line for each one that is over."""

    def __init__(self, epochs: int, steps: int | None, *, shown: bool) -> None:
        self._epochs, self._steps, self._shown = epochs, steps, shown
        self._console = Console()
        self._bar: Progress | None = None

    @property
    def is_shown(self) -> bool:
        """Whether there is a bar to move."""
        return self._bar is not None and not self._bar.disable

    @contextmanager
    def epoch(self, number: int) -> Iterator[None]:
        """Shows the bar while an epoch runs."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"))
        texts = (TextColumn("{task.fields[numbers]}"), TimeRemainingColumn())
        hidden = not (self._shown and self._console.is_terminal)
        bar = Progress(*columns, *texts, console=self._console, transient=True, disable=hidden)
        with bar:
            bar.add_task(f"epoch {number + 1}/{self._epochs}", total=self._steps, numbers="")
            self._bar = bar
            yield

    def advance(self, count: int, numbers: Mapping[str, float]) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=count, numbers=_sentence(numbers))

    def report(self, row: Mapping[str, float]) -> None:
        """Prints the numbers of an epoch."""
        if self._shown:
            numbers = {name: value for name, value in row.items() if name not in ("epoch", "seconds")}
            head = f"epoch {row['epoch']:>{len(str(self._epochs))}}/{self._epochs}"
            text = f"{head}  {_sentence(numbers)}  {row['seconds']:.1f} s"
            self._console.print(text, highlight=False, soft_wrap=True)


def _sentence(numbers: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())


def _patience_is_over(history: Columns, patience: int | None) -> bool:
    losses = history.get("val_loss")
    return bool(patience and losses and len(losses) - 1 - int(np.argmin(losses)) >= patience)


def _settings(
    model: keras.Model,
    train: Batches | BatchStream,
    valid: Batches | BatchStream | None,
    optimizer: keras.Optimizer,
    problem: _Problem,
    batch_size: int,
    seed: int,
    augmentation: Augmentation | None,
) -> dict[str, Any]:
    """What has to be the same for a run to go on as if it had never stopped; generated names are ignored."""
    config = optimizer.get_config()
    losses = keras.tree.flatten(problem.loss) if problem.loss is not None else []
    return {
        "seed": int(seed),
        "batch_size": int(batch_size),
        "data": train.fingerprint(),
        "validation data": None if valid is None else valid.fingerprint(),
        "model": f"{model.count_params()} parameters",
        "precision": model.dtype_policy.name,
        "optimizer": type(optimizer).__name__,
        **{f"optimizer's {name}": _as_json(value) for name, value in config.items() if name != "name"},
        "loss": ", ".join(_name_of(loss) for loss in losses),
        "loss's settings": [_config_of(loss) for loss in losses],
        "loss_weights": _as_json(problem._loss_weights),
        "metrics": [
            _name_of(metric) for metric in keras.tree.flatten([problem.metrics, problem.weighted_metrics or []])
        ],
        "augmentation": None if augmentation is None else _as_json(augmentation.get_config()),
        **_layer_settings(model),
    }


def _layer_settings(model: keras.Model) -> dict[str, Any]:
    """Lists the settings of every layer, by its place in the model."""
    settings: dict[str, Any] = {}
    for number, layer in enumerate(keras_private.all_layers(model, include_self=False), start=1):
        if isinstance(layer, keras.Model | keras.layers.InputLayer):
            continue
        try:
            config = graph_without_names({"config": layer.get_config()})["config"]
        except Exception:  # a custom layer may not describe itself
            config = {name: value for name, value in vars(layer).items() if isinstance(value, int | float | str)}
        for name, value in config.items():
            if name not in ("name", "trainable", "build_config"):
                settings[f"layer {number} ({type(layer).__name__})'s {name}"] = _short(value)
        settings[f"layer {number} ({type(layer).__name__})'s trainable"] = layer.trainable
    return settings


def _short(value: Any) -> Any:
    """Keeps short values readable, and of long ones, such as arrays, a fingerprint."""
    text = json.dumps(value, sort_keys=True, default=str)
    return json.loads(text) if len(text) <= 200 else hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _name_of(thing: Any) -> str:
    if isinstance(thing, keras.Metric):
        return thing.name
    return getattr(thing, "__name__", type(thing).__name__)


def _config_of(loss: Any) -> Any:
    if isinstance(loss, keras.Loss):
        try:
            return _short({name: value for name, value in loss.get_config().items() if name != "name"})
        except Exception:  # a custom loss may not describe itself
            return None
    code = getattr(loss, "__code__", None)
    return (
        None
        if code is None
        else hashlib.blake2b(code.co_code + repr(code.co_consts).encode(), digest_size=8).hexdigest()
    )


def _as_json(value: Any) -> Any:
    """The value as it comes back from a checkpoint."""
    return json.loads(json.dumps(value, default=str))


def _as_plain(array: np.ndarray) -> np.ndarray:
    """Widens bfloat16, which NumPy's files do not have."""
    return array if array.dtype.kind in "biufc" else array.astype("float32")


def _weights(model: keras.Model) -> list[np.ndarray]:
    return [_as_plain(weight) for weight in model.get_weights()]


def _state(model: keras.Model, optimizer: keras.Optimizer) -> tuple[list[np.ndarray], list[np.ndarray]]:
    optimizer_state = [_as_plain(keras.ops.convert_to_numpy(variable)) for variable in optimizer.variables]
    return _weights(model), optimizer_state


def _random_variables(model: keras.Model) -> list[Any]:
    """The states of Keras' random generators, which are no weights."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _random_states(model: keras.Model) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in _random_variables(model)]


def _restore(checkpoint: Checkpoint, settings: dict[str, Any], model: keras.Model, optimizer: keras.Optimizer) -> None:
    """Puts the state after an epoch back, whichever backend it was saved on."""
    for name, value in settings.items():
        # a checkpoint of an earlier version says less
        if checkpoint.settings.get(name) != value and (name in checkpoint.settings or checkpoint.version > 1):
            raise CourseError(
                f"the run to resume has {name} {checkpoint.settings.get(name)!r}, this one {value!r}; "
                "give the same, or start a new run in another --output"
            )
    parts = [(model.weights, checkpoint.model), (optimizer.variables, checkpoint.optimizer)]
    if checkpoint.version > 1:
        parts.append((_random_variables(model), checkpoint.random))
    best = [(model.weights, checkpoint.best)] if checkpoint.best else []
    for variables, values in parts + best:
        if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
            raise CourseError("the run to resume has weights of other shapes; start a new run in another --output")
    for variables, values in parts:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
