"""Initial weights: the distributions of Keras' initializers, with the course's generator."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_course._backend import keras_private
from keras_course.errors import CourseError
from keras_course.randomness.generator import Key, normal, stream_key, uniform

_CONSTANT_INITIALIZERS = (
    keras.initializers.Zeros,
    keras.initializers.Ones,
    keras.initializers.Constant,
    keras.initializers.Identity,
)
# Keras' attribute for the initializer of a weight w is `w_initializer`, except for these:
_INITIALIZER_ATTRIBUTES = {
    "recurrent_kernel": "recurrent_initializer",
    "depthwise_kernel": "depthwise_initializer",
    "pointwise_kernel": "pointwise_initializer",
}


def initialize(model: keras.Model, *, seed: int) -> keras.Model:
    """Draws the initial weights of a model on the host, keyed by the seed and the path of each weight.

    Each layer keeps its initializer; only the source of the random numbers is replaced. Layers need fixed names, since
    automatic ones (``dense_7``) depend on what the process has built before.

    Args:
        model: A built Keras model.
        seed: A whole number from 0 to 2**64 - 1.

    Returns:
        The same model, with new weights.

    Raises:
        CourseError: The model is not built, or a weight has an unsupported initializer.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="logits")])
        >>> weights = initialize(model, seed=0).get_weights()[0]
        >>> weights.shape, bool(abs(weights).max() <= (6 / (4 + 3)) ** 0.5)
        ((4, 3), True)
    """
    if not model.built:
        raise CourseError(f"model {model.name!r} has no weights yet; build it or give it a keras.Input first")
    drawn: set[str] = set()
    for variable, initializer in _random_weights(model):
        if variable.path in drawn:
            raise CourseError(
                f"two weights of {model.name!r} are called {variable.path!r}; give each layer its own name"
            )
        drawn.add(variable.path)
        weights = draw_weights(initializer, tuple(variable.shape), stream_key(seed, variable.path))
        if not keras_private.has_value(variable):
            # in a StatelessScope, at whose end Keras gives each weight its first value
            keras_private.set_initializer(variable, _initializer_that_returns(weights))
        else:
            variable.assign(weights)
    return model


def draw_weights(initializer: keras.initializers.Initializer, shape: tuple[int, ...], key: Key) -> np.ndarray:
    """Draws one weight from the distribution of a Keras initializer, with the course's generator.

    Args:
        initializer: One of Keras' random initializers.
        shape: Shape of the weight; the last two axes are inputs and outputs, as in Dense and convolution kernels.
        key: The stream, from ``stream_key``.

    Returns:
        A float32 array.

    Raises:
        CourseError: The initializer is not supported.

    Example:
        >>> draw_weights(keras.initializers.RandomUniform(-1, 1), (2, 3), stream_key(0, "kernel")).shape
        (2, 3)

    Source: Glorot & Bengio 2010; He et al. 2015; Saxe et al. 2014 (orthogonal).
    """
    match initializer:
        case keras.initializers.VarianceScaling(scale=scale, mode=mode, distribution=distribution):
            fan_in, fan_out = _fans(shape)
            variance = scale / max(1.0, {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode])
            if distribution == "uniform":
                weights = _symmetric_uniform(key, shape) * math.sqrt(3 * variance)
            elif distribution == "truncated_normal":
                # 0.8796... is the standard deviation of a standard normal cut off at two
                weights = _truncated_normal(key, shape) * (math.sqrt(variance) / 0.87962566103423978)
            else:
                weights = normal(key, shape).astype("float64") * math.sqrt(variance)
        case keras.initializers.RandomUniform(minval=low, maxval=high):
            weights = low + (high - low) * uniform(key, shape).astype("float64")
        case keras.initializers.RandomNormal(mean=mean, stddev=deviation):
            weights = mean + deviation * normal(key, shape).astype("float64")
        case keras.initializers.TruncatedNormal(mean=mean, stddev=deviation):
            weights = mean + deviation * _truncated_normal(key, shape)
        case keras.initializers.OrthogonalInitializer(gain=gain):
            weights = gain * _orthogonal(key, shape)
        case _:
            kind = type(initializer).__name__
            raise CourseError(f"initializer {kind} is not supported; use one of Keras' random initializers")
    # by rows: fused kernels do not take weights that are stored by columns, as orthogonal ones are drawn
    return np.asarray(weights, "float32", order="C")


def _initializer_that_returns(weights: np.ndarray) -> Callable[..., Any]:
    return lambda shape, dtype=None: keras.ops.convert_to_tensor(weights, dtype)


def _random_weights(model: keras.Model) -> Iterator[tuple[keras.Variable, keras.initializers.Initializer]]:
    """Yields each weight that has a random initializer, with the initializer."""
    for layer in keras_private.all_layers(model, include_self=False):
        for variable in keras_private.own_variables(layer):
            attribute = _INITIALIZER_ATTRIBUTES.get(variable.name, f"{variable.name}_initializer")
            if variable.name == "kernel" and not hasattr(layer, attribute):
                attribute = "depthwise_initializer"
            # a weight without a value has an initializer itself
            initializer = getattr(layer, attribute, None) or keras_private.initializer_of(variable)
            if initializer is None and variable.trainable:
                raise CourseError(
                    f"layer {layer.name!r} has no initializer for its weight {variable.name!r}; "
                    f"store it as the layer's attribute {attribute!r}"
                )
            if initializer is not None and not isinstance(initializer, _CONSTANT_INITIALIZERS):
                yield variable, initializer


def _fans(shape: tuple[int, ...]) -> tuple[float, float]:
    """Returns the numbers of inputs and of outputs of one unit, as Keras counts them."""
    if len(shape) < 2:
        size = float(math.prod(shape))
        return size, size
    receptive_field = math.prod(shape[:-2])
    return float(receptive_field * shape[-2]), float(receptive_field * shape[-1])


def _symmetric_uniform(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    return 2 * uniform(key, shape).astype("float64") - 1


def _truncated_normal(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    """Draws from the standard normal distribution, and repeats draws beyond two standard deviations."""
    draws = normal(key, shape)
    attempt = 0
    while (outside := np.abs(draws) > 2).any():
        attempt += 1
        draws = np.where(outside, normal(key, shape, step=attempt), draws)
    return draws.astype("float64")


def _orthogonal(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = math.prod(shape[:-1]), shape[-1]
    draws = normal(key, (max(rows, columns), min(rows, columns))).astype("float64")
    basis, triangle = np.linalg.qr(draws)
    basis = basis * np.sign(np.diag(triangle))  # QR is unique only up to these signs
    return (basis if rows >= columns else basis.T).reshape(shape)
