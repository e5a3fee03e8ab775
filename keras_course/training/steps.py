"""Takes training steps, in the compiled loop or by Keras' own ``train_step``, and evaluates a model.

Both ways give the same numbers. The compiled loop is used for models that ``tests/training/test_as_keras.py`` shows to
be equal. Keras' trainer, which is slower, trains all others with the same order of samples, the same augmentation and
the same checkpoints.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import keras
import numpy as np

from keras_course import _backend
from keras_course._backend import keras_private
from keras_course._backend.known_code import comes_from
from keras_course._backend.loops import leaves
from keras_course.augmentation import Augmentation
from keras_course.errors import CourseError
from keras_course.training.inputs import LOSSES_OF_SAMPLES, Batch, Batches, BatchStream, fixed_batch_size

Logs = dict[str, float]

_TRAINER: Final = ("train_step", "train_on_batch", "compute_metrics", "make_train_function", "compute_loss_and_updates")
"""Methods that the compiled loop replaces; a model that overrides one of them is trained by Keras' trainer."""
_MEASUREMENT: Final = ("test_step", "test_on_batch", "compute_metrics", "compute_loss", "make_test_function")
_LOSSES_OF_BATCHES: Final = ("circle", "dice", "tversky")
"""Functions of Keras whose value depends on the whole batch."""
_MEANS: Final = ("sum_over_batch_size", "mean", "mean_with_sample_weight")


class CompiledSteps:
    """Takes training steps of a compiled and built model in the loop of the backend; augments inside the step."""

    way = "compiled"

    def __init__(self, model: keras.Model, augmentation: Augmentation | None) -> None:
        self._model, self._augmentation = model, augmentation
        means = {metric.name for metric in _metrics(model) if isinstance(metric, keras.metrics.Mean)}
        self.names = tuple(name for name in model.get_metrics_result() if name != "loss" and name in means)
        logs = dict.fromkeys(self.names, ())
        update = _backend.Update(self._loss, model.optimizer, model.trainable_variables, logs)
        loop = _backend.training_loop([update], [*model.non_trainable_variables, *model.metrics_variables])
        # a row of ``run`` has the loss of the batch and the means of the metrics in this epoch
        self.load, self.run, self.sync = loop.load, loop.run, loop.sync

    def compile(self, batches: Batch) -> None:
        """Compiles the program for a group of batches and changes nothing."""
        self.load()
        try:
            self.run(batches, 0)
        finally:
            self.sync()

    def begin_epoch(self) -> None:
        """Does nothing: after a failed step the Keras variables still have their values."""

    def results(self) -> Logs:
        """Returns the metrics of the epoch so far."""
        return as_numbers(self._model.get_metrics_result())

    def _loss(self, batch: Batch) -> Any:
        model = self._model
        x, y, weights = (batch.get(name) for name in ("x", "y", "sample_weight"))
        if self._augmentation is not None:
            x, y = _augmented(self._augmentation, x, y, batch["step"])
        outputs = model(x, **_backend.mode(model, training=True))
        loss = keras_private.compute_loss(model, x, y, outputs, weights)
        results = model.compute_metrics(x, y, outputs, sample_weight=weights)
        return (loss, {name: results[name] for name in self.names}) if self.names else loss


class KerasSteps:
    """Takes training steps of a compiled model by Keras' own trainer."""

    way = "keras"
    names: tuple[str, ...] = ()

    def __init__(self, model: keras.Model, augmentation: Augmentation | None) -> None:
        self._model, self._augmentation = model, augmentation
        self._logs: Mapping[str, Any] = {}
        self._before: list[tuple[Any, np.ndarray]] = []

    def begin_epoch(self) -> None:
        """Copies the variables, to restore them after a failed step."""
        optimizer = self._model.optimizer
        variables = [*self._model.variables, *(optimizer.variables if optimizer is not None else ())]
        self._before = [(variable, keras.ops.convert_to_numpy(variable)) for variable in variables]

    def run(self, batches: Batch, count: int) -> Any:
        """Takes steps; returns for each the loss of the batch."""
        model, rows = self._model, []
        for number in range(count):
            x, y, weights = _tensors(batches, number)
            if self._augmentation is not None:
                x, y = _augmented(self._augmentation, x, y, batches["step"][number])
            try:
                with _metrics_accumulate(model, "train_step"):
                    self._logs = model.train_on_batch(x, y, sample_weight=weights, return_dict=True)
            except BaseException:
                self._restore()
                raise
            rows.append([float(self._logs.get("loss", 0.0))])
        return np.array(rows)

    def load(self) -> None:
        """Does nothing: each step works on the Keras variables."""

    def sync(self) -> None:
        """Does nothing: each step leaves the values in the Keras variables."""

    def _restore(self) -> None:
        """Restores variables whose memory a failed step has already reused."""
        for variable, value in self._before:
            try:
                keras.ops.convert_to_numpy(variable)
            except Exception:  # each framework has another error for a buffer that was donated
                variable.assign(value)

    def results(self) -> Logs:
        """Returns the metrics of the epoch so far."""
        return as_numbers(keras_private.metrics_results(self._model, self._logs))


Steps = CompiledSteps | KerasSteps


def choose_steps(
    model: keras.Model, augmentation: Augmentation | None, batches: Batch, called: list[Any]
) -> tuple[Steps, str | None]:
    """Returns the compiled loop if it is known to give the numbers of Keras' trainer, else that trainer and the reason.

    The loop is compiled for a group of batches. ``called`` holds the losses, the metrics and the optimizer.
    """
    reason = own_code(model, _TRAINER)
    if reason is None and model.run_eagerly:
        reason = "the model was compiled with run_eagerly=True"
    if reason is None:
        reason = _backend.unproven([*keras_private.all_layers(model), *called])
        reason = reason and f"{reason} may do something else at each call"
    if reason is None:
        try:
            steps = CompiledSteps(model, augmentation)
            steps.compile(batches)
            return steps, None
        except CourseError:  # Keras' trainer would raise it, too
            raise
        except Exception as error:  # each framework has other errors for code that it cannot compile
            words = [type(error).__name__, *str(error).split()]
            reason = f"the step cannot be compiled ({' '.join(words)[:200]})"
    return KerasSteps(model, augmentation), reason


def measure(
    model: keras.Model,
    source: Batches | BatchStream,
    predict: Callable[[Any], Any],
    on_batch: Callable[[int, Logs | None], None] | None = None,
) -> Logs:
    """Returns the loss and the metrics of a compiled and built model, with the same results as ``Model.evaluate``.

    If they do not depend on the batches, they are computed from ``predict``, the forward pass for any number of
    samples. ``on_batch`` is called before a batch with None, and after it with logs.
    """
    model.reset_metrics()
    if on_batch is None and isinstance(source, Batches) and _is_independent_of_batches(model, source):
        outputs = keras.ops.convert_to_tensor(predict(source.arrays["x"]))
        labels = keras.ops.convert_to_tensor(source.arrays["y"])
        penalties = [keras_private.additional_loss(model, loss) for loss in model.losses]
        value = keras_private.compiled_loss(model)[0](labels, outputs) + sum(penalties)
        results = as_numbers(model.compute_metrics(None, labels, outputs))
        return {**results, "loss": float(keras.ops.convert_to_numpy(value))}
    total, samples = 0.0, 0
    logs: Mapping[str, Any] = {}
    for number, (group, _) in enumerate(source.groups(0, lambda: 1e9, alone=True)):  # each of one batch
        if on_batch is not None:
            on_batch(number, None)
        with _metrics_accumulate(model, "test_step"):
            x, y, weights = _tensors(group, 0)
            logs = model.test_on_batch(x, y, sample_weight=weights, return_dict=True)
        size = next(leaves(group)).shape[1]
        total, samples = total + float(logs.get("loss", 0.0)) * size, samples + size
        if on_batch is not None:
            on_batch(number, {**as_numbers(logs), "loss": total / samples})
    results = as_numbers(keras_private.metrics_results(model, logs))
    return {**results, "loss": total / samples} if has_loss_of_keras(model, "test_step") else results


def _tensors(group: Batch, number: int) -> tuple[Any, Any, Any]:
    """Returns one batch of a group as tensors; on PyTorch, Keras would pass arrays to the metrics."""
    x, y, weights = (
        keras.tree.map_structure(lambda array: keras.ops.convert_to_tensor(array[number]), group[name])
        if name in group
        else None
        for name in ("x", "y", "sample_weight")
    )
    return x, y, weights


def as_numbers(logs: Mapping[str, Any]) -> Logs:
    """Converts the results of metrics to numbers; each element of an array becomes an entry.

    Example:
        >>> as_numbers({"loss": np.float32(0.5), "f1": np.array([0.0, 1.0])})
        {'loss': 0.5, 'f1_0': 0.0, 'f1_1': 1.0}
    """
    numbers: Logs = {}
    for name, value in logs.items():
        if isinstance(value, Mapping):
            numbers |= as_numbers(value)
            continue
        array = np.asarray(keras.ops.convert_to_numpy(value), "float64")
        if array.ndim == 0:
            numbers[name] = float(array)
        else:
            numbers |= {f"{name}_{place}": float(one) for place, one in enumerate(array.ravel())}
    return numbers


def has_loss_of_keras(model: keras.Model, step: str) -> bool:
    """Returns whether the column ``loss`` is the mean of the loss, not a metric that the model or its step defines."""
    if own_code(model, (step,)) is not None:
        return False
    return any(metric is keras_private.loss_tracker(model) for metric in model.metrics)


def _augmented(augmentation: Augmentation, x: Any, y: Any, step: Any) -> tuple[Any, Any]:
    step = keras.ops.cast(step, "int32")
    first_row = _backend.replica() * keras.ops.shape(x)[0]
    if y is None:
        return augmentation.apply(x, step=step, first_row=first_row), None
    return augmentation.apply(x, y, step=step, first_row=first_row)


@contextmanager
def _metrics_accumulate(model: keras.Model, step: str) -> Iterator[None]:
    """Prevents Keras from resetting the metrics before each batch; only the loss is reset."""
    attributes = vars(model)
    own_step = own_code(model, (step,)) is not None  # in it, the loss may be any metric
    attributes["reset_metrics"] = (lambda: None) if own_step else keras_private.loss_tracker(model).reset_state
    try:
        yield
    finally:
        del attributes["reset_metrics"]


def _metrics(model: keras.Model) -> list[Any]:
    """Returns the metrics, including those that Keras keeps in a container."""
    found: list[Any] = []
    for metric in model.metrics:
        found += getattr(metric, "metrics", None) or [metric]
    return found


def own_code(model: keras.Model, names: tuple[str, ...]) -> str | None:
    """Returns the first of some methods of ``keras.Model`` that the class of a model overrides, in words; else None."""
    for name in names:
        method = getattr(type(model), name, None)
        if method is not None and not comes_from(method, "keras"):
            return f"{type(model).__name__} has a {name} of its own"
    return None


def _is_independent_of_batches(model: keras.Model, source: Batches) -> bool:
    """Returns whether loss and metrics are means over the samples, which do not depend on the batches."""
    if own_code(model, _MEASUREMENT) is not None or fixed_batch_size(model) is not None:
        return False
    arrays, outputs = source.arrays, getattr(model, "outputs", None)
    if set(arrays) != {"x", "y"} or not all(isinstance(part, np.ndarray) for part in arrays.values()):
        return False
    if not outputs or len(outputs) != 1 or keras_private.has_mask(outputs[0]):
        return False
    _, loss = keras_private.compiled_loss(model)
    if keras_private.output_structure(model) is not outputs[0] or isinstance(loss, dict | list):
        return False
    for layer in keras_private.all_layers(model):
        is_known = comes_from(type(layer), "keras", "keras_course")
        adds_loss = isinstance(layer, keras.layers.ActivityRegularization) or layer.activity_regularizer is not None
        if not is_known or adds_loss or (layer.metrics and layer is not model):
            return False
    if not (comes_from(type(loss), "keras_course") or type(loss) in LOSSES_OF_SAMPLES) or loss.reduction not in _MEANS:
        return False
    if keras_private.function_settings(loss).get("ignore_class") is not None:
        return False
    return all(_is_mean_over_samples(metric) for metric in _metrics(model))


def _is_mean_over_samples(metric: Any) -> bool:
    """Returns whether a metric is a class of Keras, or wraps a function that returns a number for each sample."""
    function = keras_private.function_of(metric)
    if getattr(function, "__name__", None) in _LOSSES_OF_BATCHES:
        return False
    parts = [type(metric)] if function is metric else [type(metric), function]
    return all(comes_from(part, "keras", "keras_course") for part in parts)
