"""The state that a checkpoint holds, and the settings that must be the same when a run is resumed from it."""

import hashlib
import json
from typing import Any

import keras
import numpy as np

from keras_course._backend import keras_private
from keras_course.augmentation import Augmentation
from keras_course.errors import CourseError
from keras_course.training.features import graph_without_names
from keras_course.training.inputs import Batches, BatchStream
from keras_course.training.run_directory import Checkpoint

Arrays = list[np.ndarray]


def settings_of(
    model: keras.Model,
    train: Batches | BatchStream,
    valid: Batches | BatchStream | None,
    optimizer: keras.Optimizer,
    *,
    loss: Any,
    loss_weights: Any,
    metrics: Any,
    batch_size: int,
    seed: int,
    augmentation: Augmentation | None,
) -> dict[str, Any]:
    """Returns the settings that must be the same to resume a run; automatically generated names are ignored."""
    losses = [] if loss is None else keras.tree.flatten(loss)
    config = optimizer.get_config()
    return {
        "seed": int(seed),
        "batch_size": int(batch_size),
        "data": train.fingerprint(),
        "validation data": None if valid is None else valid.fingerprint(),
        "model": f"{model.count_params()} parameters",
        "precision": model.dtype_policy.name,
        "optimizer": type(optimizer).__name__,
        **{f"optimizer's {name}": _as_json(value) for name, value in config.items() if name != "name"},
        "loss": ", ".join(map(_name_of, losses)),
        "loss's settings": [_loss_settings(one) for one in losses],
        "loss_weights": _as_json(loss_weights),
        "metrics": [_name_of(metric) for metric in keras.tree.flatten(metrics)],
        "augmentation": None if augmentation is None else _as_json(augmentation.get_config()),
        **_layer_settings(model),
    }


def check_settings(checkpoint: Checkpoint, settings: dict[str, Any]) -> None:
    """Raises a CourseError if a checkpoint was written with another setting."""
    for name, value in settings.items():
        # checkpoints of version 1 have fewer settings
        if checkpoint.settings.get(name) != value and (name in checkpoint.settings or checkpoint.version > 1):
            raise CourseError(
                f"the run to resume has {name} {checkpoint.settings.get(name)!r}, this one {value!r}; "
                "give the same, or start a new run in another --output"
            )


def restore(checkpoint: Checkpoint, model: keras.Model, optimizer: keras.Optimizer) -> None:
    """Restores a model and its built optimizer from a checkpoint, which may come from another backend."""
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


def weights_of(model: keras.Model) -> Arrays:
    """Returns the weights of a model, in data types that NumPy's files have."""
    return [_widened(weight) for weight in model.get_weights()]


def state_of(model: keras.Model, optimizer: keras.Optimizer, best: Arrays) -> tuple[Arrays, Arrays, Arrays, Arrays]:
    """Returns the arrays of a checkpoint in their order, with the given weights of the best epoch."""
    variables = [_widened(keras.ops.convert_to_numpy(variable)) for variable in optimizer.variables]
    random = [keras.ops.convert_to_numpy(variable) for variable in _random_variables(model)]
    return weights_of(model), variables, best, random


def _random_variables(model: keras.Model) -> list[Any]:
    """Returns the states of Keras' random generators, which are not among the weights."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _widened(array: np.ndarray) -> np.ndarray:
    """Converts bfloat16, which NumPy's files do not have, to float32."""
    return array if array.dtype.kind in "biufc" else array.astype("float32")


def _layer_settings(model: keras.Model) -> dict[str, Any]:
    """Returns the settings of every layer, by its number in the model."""
    settings: dict[str, Any] = {}
    for number, layer in enumerate(keras_private.all_layers(model, include_self=False), start=1):
        if isinstance(layer, keras.Model | keras.layers.InputLayer):
            continue
        try:
            config = graph_without_names({"config": layer.get_config()})["config"]
        except Exception:  # a custom layer need not have a get_config
            config = {name: value for name, value in vars(layer).items() if isinstance(value, int | float | str)}
        for name, value in config.items():
            if name not in ("name", "trainable", "build_config"):
                settings[f"layer {number} ({type(layer).__name__})'s {name}"] = _short(value)
        settings[f"layer {number} ({type(layer).__name__})'s trainable"] = layer.trainable
    return settings


def _short(value: Any) -> Any:
    """Returns a short value as it is, and the hash of a long one, such as an array."""
    text = json.dumps(value, sort_keys=True, default=str)
    return json.loads(text) if len(text) <= 200 else _hash(text.encode())


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _name_of(thing: Any) -> str:
    return thing.name if isinstance(thing, keras.Metric) else getattr(thing, "__name__", type(thing).__name__)


def _loss_settings(loss: Any) -> Any:
    if isinstance(loss, keras.Loss):
        try:
            return _short({name: value for name, value in loss.get_config().items() if name != "name"})
        except Exception:  # a custom loss need not have a get_config
            return None
    code = getattr(loss, "__code__", None)
    return None if code is None else _hash(code.co_code + repr(code.co_consts).encode())


def _as_json(value: Any) -> Any:
    """Returns the value as a checkpoint returns it."""
    return json.loads(json.dumps(value, default=str))
