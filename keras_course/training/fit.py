"""Trains a model on data of any kind, with the same batches and the same loss curve on every backend."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from keras_course import _backend
from keras_course._backend import keras_private
from keras_course._backend.loops import leaves
from keras_course.allow_list import check_can_be_opened
from keras_course.augmentation import Augmentation, check_augmentation
from keras_course.errors import CourseError, DivergenceError, check_positive, reason_of
from keras_course.training import inputs, objectives, resuming
from keras_course.training.callbacks import Callbacks
from keras_course.training.display import Display
from keras_course.training.inputs import Batches, BatchStream, Data
from keras_course.training.objectives import Loss, Metrics
from keras_course.training.run_directory import Checkpoint, Columns, RunDirectory
from keras_course.training.steps import Steps, choose_steps, has_loss_of_keras, measure, own_code

Forward = Callable[[Any], Any]

_LARGEST_BATCH: Final = 256
_LARGEST_BATCH_VALUES: Final = 2**23
"""Default batch size in inference mode, and the number of input values in a batch that reduces it."""


class History(dict[str, list[float]]):
    """The results of a training: columns with a value for each epoch."""

    way: str = "compiled"
    """``"keras"`` if Keras' own trainer took the steps."""
    reason: str | None = None
    """Why Keras' own trainer took the steps; None for the compiled loop."""
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
    """Trains any Keras model, with the same results as Keras' own trainer, and resumes a run from its checkpoint.

    Several steps run in one compiled call if this is known to give the same numbers; otherwise Keras' own
    ``train_step`` trains the model. The result says which one did (``way``, ``reason``). The order of the samples
    depends on the seed and the epoch, and so do the random numbers that the model draws by ``keras_course.randomness``.
    The model need not be compiled, and is not compiled afterward.

    Args:
        model: The model. A model that is not built yet is built on the first batch.
        train: (x, y) or (x, y, sample_weight) with samples, labels and weights (n, ...): arrays, lists, data frames or
            tensors, or lists and dictionaries of them for several inputs and outputs. Or a collection of such batches
            that can be iterated once in each epoch: a ``keras.utils.PyDataset``, a ``DataLoader`` of PyTorch, a
            ``tf.data.Dataset``, a list. The seed does not shuffle a collection.
        valid: Validation data in one of these forms, on which the model is evaluated after each epoch.
        optimizer: A Keras optimizer that has not trained another model, or the name of one with default settings.
        loss: A Keras loss, its name, or a function of labels and outputs; for several outputs one for all, or a list
            or dictionary. A loss given by name takes logits, or probabilities if the model ends with softmax or
            sigmoid.
        metrics: Names of Keras metrics, metrics, or functions of labels and outputs, as a list or by name; for several
            outputs a list or dictionary, see ``Model.compile``. The default is ``accuracy`` for a classifier.
        weighted_metrics: Metrics that use the weights of the samples, in one of these forms.
        loss_weights: A weight for each of several losses.
        sample_weight: Weights (n, ...) of the samples, if ``train`` has none.
        class_weight: A weight for each class by its number, or ``"balanced"``.
        validation_split: Fraction of the samples, from the end, that are validation data.
        epochs: Number of epochs, counted from the start of the run, also after a resume.
        batch_size: Samples in a batch. The last batch of an epoch may be smaller.
        seed: Seed of the order of the samples.
        augmentation: Random transforms of the pictures of each training batch, and of its labels. If it mixes labels,
            they become probabilities, which a sparse cross entropy accepts, too.
        early_stopping: Number of epochs without a lower validation loss after which training stops and the best
            weights are restored; None for no early stopping.
        callbacks: Keras callbacks. If one of them watches batches, each step is a separate call.
        run: Where to write ``history.csv`` and a checkpoint after each epoch; with ``run.resume`` training resumes from
            the checkpoint. A path starts a new run.
        log_steps: Whether to write the loss of each batch to ``steps.csv`` in ``run``.
        progress: Whether to show a progress bar and print a line for each epoch.

    Returns:
        The columns epoch, loss, the metrics, val_loss, val_ and each metric, and seconds, with a row for each epoch.
        ``loss`` and the metrics are means over the epoch, computed while the model was trained.

    Raises:
        CourseError: Data and model do not fit, a sample is not finite, a number is out of range, the optimizer has
            trained another model, or the checkpoint is of another run.
        DivergenceError: The loss is no longer finite; ``found`` holds the columns of the epochs before.

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
        train, valid = inputs.split_off(train, validation_split, "train")
    if early_stopping is not None:
        check_positive(early_stopping=early_stopping)
        if valid is None:
            raise CourseError("early_stopping needs validation data; give valid or leave early_stopping out")
    if class_weight is not None:
        train = _weighted(model, train, class_weight)
    training = inputs.as_batches(train, batch_size=batch_size, seed=seed, name="train")
    validation = None if valid is None else inputs.as_batches(valid, batch_size=batch_size, seed=None, name="valid")
    first = training.first()
    if augmentation is not None:
        inputs.check_pictures(first["x"], "train")
        augmentation.check(first["x"], first.get("y"), outputs=_outputs_of(model), name="train")
        if "sample_weight" in first and augmentation.mixes:
            raise CourseError(
                "augmentation mixes samples, whose weights would be wrong; leave out MixUp and CutMix, or the weights"
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
        settings = resuming.settings_of(
            model,
            training,
            validation,
            optimizer,
            loss=problem.loss,
            loss_weights=loss_weights,
            metrics=[problem.metrics, problem.weighted_metrics or []],
            batch_size=batch_size,
            seed=seed,
            augmentation=augmentation,
        )
        history, best, stopped = _start(run, settings, model, optimizer, training.steps or 0)
        if stopped or len(history["epoch"]) >= epochs or _must_stop_early(history, early_stopping):
            _set_final_weights(model, optimizer, best)
            return history
        if run is not None and log_steps:
            run.start_steps(history.steps)
        watching = Callbacks(callbacks, model, epochs, training.steps)
        group, _ = next(training.groups(0, lambda: 1e9, alone=watching.watches_batches))
        group["step"] = np.zeros(len(next(leaves(group))), "int32")
        called = [problem.loss, problem.metrics, problem.weighted_metrics, optimizer]
        steps, history.reason = choose_steps(model, augmentation, group, called)
        history.way = steps.way
        if run is not None:
            run.training = {"way": history.way, "reason": history.reason}
        trainer = _Trainer(model, steps, training, history, Display(epochs, training.steps, shown=progress), watching)
        predict = _predictor(model)
        with watching:
            start = max(len(history["epoch"]), watching.first_epoch)
            for epoch in range(start, epochs):
                if model.stop_training or _must_stop_early(history, early_stopping):
                    break
                started = time.perf_counter()
                watching.list.on_epoch_begin(epoch)
                with trainer.display.epoch(epoch):
                    logs, losses = trainer.run_epoch(epoch)
                if validation is not None:
                    watching.list.on_test_begin()
                    on_batch = watching.on_test_batch if watching.watches_test_batches else None
                    test = measure(model, validation, predict, on_batch)
                    watching.list.on_test_end(test)
                    logs |= {f"val_{name}": value for name, value in _loss_first(test).items()}
                history.steps = trainer.steps_done
                if not np.isfinite(logs.get("val_loss", 0.0)) or not _is_finite(model):
                    raise _diverged(epoch, trainer.steps_done, history, what="state after")
                logs = watching.end_epoch(epoch, _loss_first(logs))
                row = {"epoch": epoch + 1, **logs, "seconds": round(time.perf_counter() - started, 3)}
                _append(history, row)
                if early_stopping is not None and int(np.argmin(history["val_loss"])) == len(history["epoch"]) - 1:
                    best = resuming.weights_of(model)
                trainer.display.report(row)
                if run is not None:  # after the callbacks, which may have changed the learning rate
                    if log_steps:
                        run.append_steps(trainer.steps_done - len(losses) + 1, losses)
                    state = resuming.state_of(model, optimizer, best)
                    checkpoint = Checkpoint(
                        settings, dict(history), *state, bool(model.stop_training), history.steps, run.training
                    )
                    run.save_checkpoint(checkpoint)
            _set_final_weights(model, optimizer, best)
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
    """Evaluates a model on labeled data, with the same results as ``Model.evaluate``.

    Args:
        model: The model.
        data: Samples, labels and weights; see ``train`` of ``fit``.
        loss: See ``fit``.
        metrics: See ``fit``.
        weighted_metrics: See ``fit``.
        loss_weights: See ``fit``.
        batch_size: Samples in a batch; a loss that ignores some samples depends on it.

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
    source = inputs.as_batches(data, batch_size=batch_size, seed=None, name="data")
    problem = _Problem(model, loss, metrics, weighted_metrics, loss_weights, source.first(), None)
    problem.check(source, "data")
    with problem.compiled(None):
        return _loss_first(measure(model, source, _predictor(model)))


def predict_logits(
    model: keras.Model,
    x: Any,
    *,
    batch_size: int | None = None,
    augmentation: Augmentation | None = None,
    variants: int = 16,
) -> Any:
    """Computes the outputs of a model in inference mode, with test-time augmentation if wanted.

    Args:
        model: The model. A model that is not built yet is built on the samples.
        x: Samples (n, ...): an array, list, data frame or tensor; a list or dictionary of them for several inputs.
        batch_size: Samples in a batch. The default is 256, and fewer for large samples, such as 32 photos of 224 by 224
            pixels.
        augmentation: Test-time augmentation: the outputs are averaged over several randomly transformed views of each
            picture. It usually improves the accuracy of a model that was trained with augmentation a little. The views
            of a picture depend on its row and not on ``batch_size``.
        variants: Number of views of each picture; inference time grows linearly with it.

    Returns:
        The outputs of the model, float32 (n, ...), in a list or dictionary if it has several; with an augmentation
        their means over the views.

    Raises:
        CourseError: The samples do not fit the model, or are not pictures and there is an augmentation, or the
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
    x = inputs.as_samples(x, "x")
    inputs.check_samples(model, x, "x")
    inputs.check_stateless(model)
    if augmentation is not None:
        inputs.check_pictures(x, "x")
        augmentation.check(x, name="x")
    if batch_size is not None:
        inputs.check_batch_size(model, batch_size)
    if not _is_built(model):
        model(keras.tree.map_structure(lambda array: keras.ops.convert_to_tensor(array[:1]), x))
    forward = _backend.forward(model)
    batch_size = inputs.fixed_batch_size(model) or batch_size
    if augmentation is None:
        return _predict(forward, x, batch_size)
    views = (augmentation.apply(x, step=step, xp=np) for step in range(variants))
    outputs = [_predict(forward, view, batch_size) for view in views]
    return keras.tree.map_structure(lambda *arrays: np.mean(arrays, axis=0), *outputs)


def _predict(forward: Forward, x: Any, batch_size: int | None = None) -> Any:
    samples = len(next(leaves(x)))
    if batch_size is None:
        # the activations of a network are many times larger than a photo: a batch of 256 needed 20 GiB
        fitting = max(1, _LARGEST_BATCH_VALUES // max(1, sum(math.prod(array.shape[1:]) for array in leaves(x))))
        batch_size = min(_LARGEST_BATCH, 1 << (fitting.bit_length() - 1), samples)
    outputs = []
    for start in range(0, samples, batch_size):
        # all batches have one shape, so there is one compilation: copies fill the last one, and are dropped afterward
        rows = np.resize(np.arange(start, min(start + batch_size, samples)), batch_size)
        batch = forward(keras.tree.map_structure(lambda array, rows=rows: array[rows], x))
        kept = min(batch_size, samples - start)
        outputs.append(keras.tree.map_structure(lambda array, kept=kept: array[:kept], batch))
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *outputs)


class _Problem:
    """The loss and the metrics of a model, found and checked on the first batch."""

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
                "train the model by its own fit, or do not override compile"
            )
        inputs.check_stateless(model)
        if not _is_built(model):
            with objectives.compiled(model, None, None):
                self._build()
        inputs.check_samples(model, first["x"], "train")
        mixed = augmentation is not None and augmentation.mixes
        own_loss = own_code(model, ("compute_loss",)) is not None
        self.loss = objectives.losses_for(model, loss, first["x"], mixed_labels=mixed)
        self._is_known = not own_loss
        if not own_loss and "y" not in first and not _adds_losses(model, first["x"]):
            raise CourseError(
                "train has no labels; give (x, y), or a model that overrides compute_loss or uses add_loss"
            )
        if "y" not in first:
            self.loss = None
        self.metrics = objectives.metrics_for(model, metrics, self.loss, first)
        self.weighted_metrics = None
        if weighted_metrics is not None:
            self.weighted_metrics = objectives.metrics_for(model, weighted_metrics, self.loss, first)
        if mixed:
            objectives.check_takes_probabilities(self.loss, "loss")
            objectives.check_takes_probabilities([self.metrics, self.weighted_metrics], "metrics")

    def check_augmentation(self, source: Batches | BatchStream, name: str) -> None:
        """Checks that the augmentation can transform the pictures and labels."""
        if self._augmentation is None:
            return
        parts = source.arrays if isinstance(source, Batches) else source.first()
        y = parts.get("y")
        of_classes = isinstance(self.loss, keras.losses.SparseCategoricalCrossentropy)
        if of_classes and isinstance(y, np.ndarray) and y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]  # class numbers, not probabilities
        self._augmentation.check(parts["x"], y, outputs=_outputs_of(self._model), name=name)

    def check(self, source: Batches | BatchStream, name: str) -> None:
        """Checks that data fits the model and its loss."""
        inputs.check_batches(self._model, source, name)
        parts = source.arrays if isinstance(source, Batches) else source.first()
        inputs.check_data(self._model, (parts["x"], parts.get("y")), self.loss if self._is_known else None, name)

    @contextmanager
    def compiled(self, optimizer: keras.Optimizer | None) -> Iterator[None]:
        """Compiles and builds the model with its loss, metrics and optimizer, as long as the context lasts."""
        model = self._model
        metrics = {"metrics": self.metrics or None, "weighted_metrics": self.weighted_metrics or None}
        with objectives.compiled(model, optimizer, self.loss, **metrics, loss_weights=self._loss_weights):
            self._build()
            yield

    def _build(self) -> None:
        x, y, weights = (self._first.get(name) for name in ("x", "y", "sample_weight"))
        if self._augmentation is not None and self._augmentation.mixes and isinstance(y, np.ndarray):
            y = self._augmentation.probabilities(y)  # the form in which the loss and the metrics get them
        try:
            keras_private.build_on(self._model, x, y, weights)
        except Exception as error:  # custom layers, losses and metrics can raise anything
            raise CourseError(f"model, data, loss and metrics do not fit together: {reason_of(error)}") from error


def _outputs_of(model: keras.Model) -> int | None:
    """Returns the number of outputs for a sample; None if it is not known or the outputs have several axes."""
    shape: Any = getattr(model, "output_shape", None) if model.built else None
    is_row = isinstance(shape, tuple) and len(shape) == 2 and isinstance(shape[1], int)
    return shape[1] if is_row else None


def _adds_losses(model: keras.Model, x: Any) -> bool:
    """Returns whether the layers of a model add losses, by regularizers or by ``add_loss``."""
    if model.losses:
        return True
    with keras.StatelessScope(collect_losses=True) as scope:
        model(keras.tree.map_structure(keras.ops.convert_to_tensor, x))
    return bool(scope.losses)


def _is_built(model: keras.Model) -> bool:
    """Returns whether all layers have their weights; a subclassed model can be built before its layers are."""
    return all(layer.built for layer in keras_private.all_layers(model))


def _set_final_weights(model: keras.Model, optimizer: keras.Optimizer, best: list[np.ndarray]) -> None:
    """Sets the best weights of early stopping, or the weights that the optimizer has averaged."""
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
        display: Display,
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
        # the next group of steps is started before the losses of this one are read, so that the device never waits
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
            if self.display.has_bar:
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
            raise CourseError("train has no batches in this epoch; give a collection that can be iterated again")
        return self._logs(totals), totals.losses

    def _logs(self, totals: "_Totals") -> dict[str, float]:
        logs = self._steps.results()
        if has_loss_of_keras(self._model, "train_step"):
            logs["loss"] = totals.mean()
        return _loss_first(logs)


class _Totals:
    """The losses of an epoch so far, and their mean."""

    def __init__(self) -> None:
        self._sum, self._samples = 0.0, 0
        self.losses: list[float] = []

    def add(self, losses: np.ndarray, size: int) -> None:
        """Adds the mean losses of batches of one size, one by one, so that rounding does not depend on the groups."""
        for loss in losses.tolist():
            self._sum += loss * size
            self._samples += size
            self.losses.append(loss)

    def mean(self) -> float:
        """Returns the mean over the samples."""
        return self._sum / self._samples


def _loss_first(logs: Mapping[str, float]) -> dict[str, float]:
    """Returns the logs with the loss first."""
    return {name: logs[name] for name in sorted(logs, key=lambda name: name != "loss")}


def _append(history: Columns, row: Mapping[str, float]) -> None:
    """Appends a row; a new column is filled with NaN in the earlier rows."""
    rows = len(history["epoch"])
    seconds = history.pop("seconds", [])
    for name in row:
        if name != "seconds":
            history.setdefault(name, [math.nan] * rows)
    history["seconds"] = seconds
    for name, column in history.items():
        column.append(row.get(name, math.nan))


def _pair(train: Data, name: str) -> Data:
    """Checks that training data are samples and labels, to which weights can be added."""
    if not isinstance(train, tuple | list) or len(train) != 2:
        raise CourseError(f"{name} needs train to be (x, y) of arrays; put weights into the batches of a collection")
    return train


def _weighted(model: keras.Model, train: Data, class_weight: Any) -> Data:
    """Returns samples, labels and the weights of their classes."""
    y = inputs.as_batch(_pair(train, "class_weight"), "train")["y"]
    if not isinstance(y, np.ndarray):
        raise CourseError("class_weight needs one output; give sample_weight for several")
    shape = getattr(model, "output_shape", None) if model.built else None
    classes = shape[-1] if isinstance(shape, tuple) and isinstance(shape[-1], int) and shape[-1] > 1 else None
    return (*train, inputs.class_weights_of(y, class_weight, classes))


def _optimizer_for(model: keras.Model, optimizer: Any) -> keras.Optimizer:
    """Returns the optimizer, which must not have trained another model."""
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
    """Returns the forward pass for any number of samples, compiled when it is first used."""
    forward = cache(lambda: _backend.forward(model))
    return lambda x: _predict(forward(), x)


def _start(
    run: RunDirectory | None, settings: dict[str, Any], model: keras.Model, optimizer: keras.Optimizer, steps: int
) -> tuple[History, list[np.ndarray], bool]:
    """Starts or resumes a run; returns its history, the best weights, and whether a callback has stopped it."""
    checkpoint = None if run is None else run.load_checkpoint()
    if run is None or checkpoint is None:
        return History({"epoch": [], "loss": [], "seconds": []}), [], False
    if not run.resume:
        raise CourseError(
            f"{run.path} holds the history of an earlier fit, which this one would replace; "
            "give another run, such as run.inside('second')"
        )
    resuming.check_settings(checkpoint, settings)
    resuming.restore(checkpoint, model, optimizer)
    run.write_history(checkpoint.history)  # a run that was killed between writing both has the older history
    history = History(checkpoint.history)
    history.way, history.reason = checkpoint.training.get("way", "compiled"), checkpoint.training.get("reason")
    run.training = {"way": history.way, "reason": history.reason}
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


def _must_stop_early(history: Columns, patience: int | None) -> bool:
    losses = history.get("val_loss")
    return bool(patience and losses and len(losses) - 1 - int(np.argmin(losses)) >= patience)
