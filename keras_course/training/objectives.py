"""Finds the losses and metrics of a model, in the forms that Keras takes."""

import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import keras

from keras_course._backend import keras_private
from keras_course._backend.activations import output_activations
from keras_course._backend.known_code import comes_from
from keras_course.errors import CourseError

Loss = Any
"""A Keras loss, its name, or a function from labels and outputs; for several outputs a list or dictionary of them."""
Metrics = Any
"""Metrics in the forms of ``Model.compile``; or a mapping from names to metrics or functions of labels and outputs."""

_SHORT_NAMES: Final = {
    **{"mse": "MeanSquaredError", "mae": "MeanAbsoluteError", "mape": "MeanAbsolutePercentageError"},
    **{"msle": "MeanSquaredLogarithmicError", "bce": "BinaryCrossentropy", "kld": "KLDivergence"},
}
_CLASSIFIERS: Final = (
    *(keras.losses.SparseCategoricalCrossentropy, keras.losses.CategoricalCrossentropy),
    *(keras.losses.CategoricalFocalCrossentropy, keras.losses.CategoricalHinge),
    *(keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy),
)
_ACCURACY: Final = ("accuracy", "acc")
_WARNINGS: Final = (
    "__array__ implementation doesn't accept a copy keyword",  # about how Keras 3.15 converts variables
    "Gradients do not exist for variables",  # about weights that the loss does not use
    "The model does not have any trainable weights",
    "Explicitly requested dtype int64 requested in",  # JAX has 32 bits
)
"""Warnings of Keras and the frameworks that need no action."""
_PROGRAMS: Final = ("train_function", "test_function", "predict_function")
"""Attributes in which Keras keeps what it has compiled with this optimizer and these losses."""


def accuracy(labels: Any, outputs: Any) -> Any:
    """Returns 1 for each sample whose largest output is that of its label, else 0: float32 (batch, ...).

    Labels are class numbers (batch, ...) or probabilities (batch, ..., classes).
    """
    predictions = keras.ops.cast(keras.ops.argmax(outputs, axis=-1), "int32")
    if len(labels.shape) == len(outputs.shape):
        is_class_number = labels.shape[-1] == 1 != outputs.shape[-1]
        labels = keras.ops.squeeze(labels, -1) if is_class_number else keras.ops.argmax(labels, axis=-1)
    return keras.ops.cast(keras.ops.equal(predictions, keras.ops.cast(labels, "int32")), "float32")


class LossOfAnyLabels(keras.losses.SparseCategoricalCrossentropy):
    """Cross entropy that accepts class numbers, and probabilities from an augmentation that mixes labels."""

    def __init__(self, like: keras.losses.SparseCategoricalCrossentropy) -> None:
        super().__init__(**like.get_config())

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each sample."""
        if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == y_pred.shape[-1]:
            from_logits = self.get_config()["from_logits"]
            return keras.losses.categorical_crossentropy(y_true, y_pred, from_logits=from_logits)
        return super().call(y_true, y_pred)


def losses_for(model: keras.Model, loss: Loss, x: Any = None, *, mixed_labels: bool = False) -> Loss:
    """Returns the losses of a model; a loss given by name takes logits, or probabilities if the model returns them.

    The outputs of a subclassed model are found on the samples ``x``. ``mixed_labels`` says that an augmentation turns
    class numbers into probabilities. Raises a CourseError if there is no loss of that name, or a loss takes logits and
    the model gives probabilities.
    """
    activations = output_activations(model, x) or [None]
    if not isinstance(loss, Mapping | list | tuple):
        if isinstance(loss, str) and len(set(activations)) > 1:
            return [find_loss(loss, activation, mixed_labels) for activation in activations]
        return find_loss(loss, activations[0], mixed_labels)
    names = [str(name) for name in getattr(model, "output_names", [])]
    if isinstance(loss, Mapping):
        by_name = dict(zip(names, activations, strict=False))
        return {name: one and find_loss(one, by_name.get(str(name)), mixed_labels) for name, one in loss.items()}
    padded = [*activations, *[None] * len(loss)]
    return [one and find_loss(one, activation, mixed_labels) for one, activation in zip(loss, padded, strict=False)]


def find_loss(loss: Any, activation: str | None = None, mixed_labels: bool = False) -> Any:
    """Returns the loss of a name for an output with an activation, or for logits; a loss is returned unchanged."""
    if isinstance(loss, str):
        kinds = {name.lower(): kind for name, kind in vars(keras.losses).items() if isinstance(kind, type)}
        kind = kinds.get(_SHORT_NAMES.get(loss.lower(), loss).replace("_", "").lower())
        if kind is None or kind is keras.Loss:
            raise CourseError(f"loss is {loss!r}; give the name of a loss of Keras, such as mean_squared_error")
        takes_logits = "from_logits" in inspect.signature(kind).parameters
        loss = kind(from_logits=activation is None) if takes_logits else kind()
    else:
        settings = keras_private.function_settings(loss)
        if activation is not None and getattr(loss, "from_logits", settings.get("from_logits")):
            raise CourseError(
                f"loss is a {type(loss).__name__} that takes logits, and the model ends with {activation}; "
                "give from_logits=False, or remove the activation"
            )
    if not (isinstance(loss, keras.Loss) or callable(loss)):
        raise CourseError(f"loss is a {type(loss).__name__}; give a loss of Keras, its name, or a function")
    if mixed_labels and type(loss) is keras.losses.SparseCategoricalCrossentropy:
        return LossOfAnyLabels(loss)
    return loss


def check_takes_probabilities(objectives: Any, argument: str) -> None:
    """Raises a CourseError if a loss or metric accepts class numbers only, not probabilities of mixed labels."""
    remedy = "give 'accuracy'" if argument == "metrics" else "give the name 'sparse_categorical_crossentropy'"
    for objective in keras.tree.flatten(objectives):
        function = keras_private.function_of(objective)
        name = getattr(function, "__name__", "")
        is_sparse = name.startswith("sparse_") and comes_from(function, "keras")
        if is_sparse and not isinstance(objective, LossOfAnyLabels):
            raise CourseError(
                f"{argument} has {name}, which takes class numbers, and MixUp and CutMix make probabilities of them; "
                f"{remedy}"
            )


def metrics_for(model: keras.Model, metrics: Metrics, loss: Loss, batch: Mapping[str, Any]) -> Any:
    """Returns the metrics of a model, in a form that ``Model.compile`` accepts; for None, a classifier's accuracy.

    The losses, from ``losses_for``, and the shape of ``y`` in a batch determine the kind of accuracy. Raises a
    CourseError if there is no metric of a name.
    """
    names = [str(name) for name in getattr(model, "output_names", [])]
    single = loss if not isinstance(loss, Mapping | list | tuple) else None
    y, outputs = batch.get("y"), _output_shape(model)

    def find(metric: Any, name: str | None = None) -> Any:
        if isinstance(metric, str):
            name = name or metric
            if metric.lower() in _ACCURACY:
                metric = _accuracy_of(single, y, outputs, name) or metric
            else:
                try:
                    metric = keras.metrics.get(metric)
                except ValueError as error:
                    text = f"metrics has {metric!r}; give the name of a metric of Keras, or a function"
                    raise CourseError(text) from error
        if isinstance(metric, str | None):
            return metric
        if isinstance(metric, type):
            metric = metric()
        if not isinstance(metric, keras.Metric):
            if not callable(metric):
                raise CourseError(f"metrics has a {type(metric).__name__}; give a metric of Keras, or a function")
            return keras.metrics.MeanMetricWrapper(metric, name=name or getattr(metric, "__name__", "metric"))
        if name is not None and metric.name != name:
            metric.name = name
        return metric

    if metrics is None:
        default = _accuracy_of(single, y, outputs, "accuracy") if _is_classifier(single, y, outputs) else None
        return [] if default is None else [default]
    if isinstance(metrics, Mapping):
        if len(names) > 1 and set(metrics) <= set(names):
            return {name: _each(find, one) for name, one in metrics.items()}
        return [find(metric, name) for name, metric in metrics.items()]
    if isinstance(metrics, Sequence) and not isinstance(metrics, str):
        return [_each(find, metric) for metric in metrics]
    return [find(metrics)]


def _each(find: Callable[[Any], Any], metric: Any) -> Any:
    return [find(one) for one in metric] if isinstance(metric, list | tuple) else find(metric)


def _output_shape(model: keras.Model) -> tuple[Any, ...] | None:
    outputs = getattr(model, "outputs", None)
    return tuple(outputs[0].shape) if outputs and len(outputs) == 1 else None


def _is_classifier(loss: Any, y: Any, outputs: tuple[Any, ...] | None) -> bool:
    """Returns whether accuracy is a default metric."""
    if loss is None or y is None or isinstance(y, dict | list):
        return False
    if isinstance(loss, _CLASSIFIERS) or "crossentropy" in getattr(loss, "__name__", ""):
        return True
    # a custom loss on class numbers
    return (
        not comes_from(type(loss), "keras") and y.dtype.kind in "iu" and outputs is not None and y.ndim < len(outputs)
    )


def _accuracy_of(loss: Any, y: Any, outputs: tuple[Any, ...] | None, name: str) -> Any:
    """Returns the metric that Keras means by accuracy; a single logit predicts class 1 above 0."""
    if outputs is None or isinstance(y, dict | list):
        return None  # Keras decides when it sees the outputs
    if outputs[-1] == 1:
        settings = keras_private.function_settings(loss)
        return keras.metrics.BinaryAccuracy(name=name, threshold=0.0 if settings.get("from_logits") else 0.5)
    return keras.metrics.MeanMetricWrapper(accuracy, name=name)


@contextmanager
def compiled(model: keras.Model, optimizer: Any, loss: Loss, **settings: Any) -> Iterator[None]:
    """Compiles a model with the settings of ``Model.compile``, and restores its earlier state after the context."""
    for message in _WARNINGS:  # they must not stop a training in a program that turns warnings into errors
        warnings.filterwarnings("ignore", re.escape(message))
    attributes = vars(model)
    before = dict(attributes)
    eagerly = model.run_eagerly  # to debug it, a user compiles a model to be called operation by operation
    keras_private.forget_compilation(model)
    model.compile(optimizer=optimizer, loss=loss, run_eagerly=eagerly, auto_scale_loss=False, **settings)
    changed = [name for name, value in attributes.items() if name not in before or before[name] is not value]
    changed += [name for name in _PROGRAMS if name not in changed]
    # a callback saves the model as not compiled: the file would otherwise name classes of this backend only
    keras_private.forget_compile_config(model)
    try:
        yield
    finally:
        for name in changed:
            if name in before:
                attributes[name] = before[name]
            else:
                attributes.pop(name, None)
