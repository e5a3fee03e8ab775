"""A single neuron by its formula in NumPy, and chains of linear layers.

The activations and their derivatives are the formulas of the slides, to compare with those of Keras. Each
returns float64 numbers of the shape of its argument.

Source: NVIDIA Deep Learning Institute, "Fundamentals of Deep Learning", part 2.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from keras_course.errors import CourseError, check_positive
from keras_course.randomness import initialize

FloatArray = npt.NDArray[np.float64]


Function = Callable[[npt.ArrayLike], FloatArray]
"""An elementwise function of real numbers of any shape."""


class Activation(NamedTuple):
    """An activation σ(x) and its derivative dσ/dx."""

    value: Function
    slope: Function


def linear(x: npt.ArrayLike) -> FloatArray:
    """Computes the identity, x."""
    return np.array(x, "float64")


def linear_slope(x: npt.ArrayLike) -> FloatArray:
    """Computes the slope of ``linear``: 1 everywhere."""
    return np.ones_like(x, "float64")


def relu(x: npt.ArrayLike) -> FloatArray:
    """Computes max(0, x): the rectified linear unit."""
    return np.maximum(np.asarray(x, "float64"), 0.0)


def relu_slope(x: npt.ArrayLike) -> FloatArray:
    """Computes the slope of ``relu``: 0 where x ≤ 0, else 1. At 0 it is not defined; every framework uses 0."""
    return (np.asarray(x, "float64") > 0).astype("float64")


def sigmoid(x: npt.ArrayLike) -> FloatArray:
    """Computes 1 / (1 + exp(-x)), from 0 to 1; large numbers of either sign do not overflow."""
    x = np.asarray(x, "float64")
    # exp only of numbers up to 0: exp(1000) would overflow
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def sigmoid_slope(x: npt.ArrayLike) -> FloatArray:
    """Computes the slope of ``sigmoid``: sigmoid(x) (1 - sigmoid(x)), which is at most 1/4 and almost 0 far from 0."""
    return sigmoid(x) * sigmoid(np.negative(x))  # 1 - sigmoid(x) is sigmoid(-x), which does not round to 0 at x = 40


def tanh(x: npt.ArrayLike) -> FloatArray:
    """Computes 2 sigmoid(2x) - 1, the hyperbolic tangent: a sigmoid from -1 to 1."""
    return np.tanh(np.asarray(x, "float64"))


def tanh_slope(x: npt.ArrayLike) -> FloatArray:
    """Computes the slope of ``tanh``: 1 - tanh(x)², at most 1."""
    return 4.0 * sigmoid_slope(2.0 * np.asarray(x, "float64"))  # equals 1 - tanh(x)**2, without its cancellation


ACTIVATIONS: Final[dict[str, Activation]] = {
    "linear": Activation(linear, linear_slope),
    "relu": Activation(relu, relu_slope),
    "sigmoid": Activation(sigmoid, sigmoid_slope),
    "tanh": Activation(tanh, tanh_slope),
}
"""The activations of the course, by their names in Keras."""


def neuron(x: npt.ArrayLike, w: npt.ArrayLike, b: float, activation: str = "linear") -> FloatArray:
    """Computes the output of a neuron: ŷ = σ(w₁x₁ + w₂x₂ + ... + b).

    Args:
        x: Inputs, (n, inputs), or (inputs,) for a single sample.
        w: Weights, (inputs,).
        b: The bias.
        activation: σ, one of the names in ``ACTIVATIONS``.

    Returns:
        One float64 output for each sample: (n,), or () for a single one.

    Raises:
        CourseError: The weights do not fit the inputs, or the activation is unknown.

    Example:
        >>> neuron([[1.0], [2.0]], w=[2.0], b=1.0).tolist()  # the course's line
        [3.0, 5.0]
        >>> float(neuron([1.0, 2.0, 3.0], w=[1.0, 0.0, -1.0], b=0.5, activation="relu"))
        0.0
    """
    inputs, weights = np.asarray(x, "float64"), np.asarray(w, "float64")
    if weights.ndim != 1 or inputs.ndim not in (1, 2) or inputs.shape[-1] != len(weights):
        raise CourseError(f"w has shape {weights.shape} and x {inputs.shape}; give one weight for each input")
    if activation not in ACTIVATIONS:
        raise CourseError(f"activation is {activation!r}; give one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[activation].value(inputs @ weights + b)


def linear_chain(
    *, input_size: int = 3, units: Sequence[int] = (5, 4, 1), seed: int = 0, name: str = "linear_chain"
) -> keras.Model:
    """Builds a chain of dense layers without activations.

    Args:
        input_size: Number of inputs.
        units: Neurons of each layer; those of the last layer are the outputs.
        seed: Seed of the initial weights and biases; the biases are random, too, so that their effect can be seen.
        name: Name of the model.

    Returns:
        A model from (batch, input_size) to (batch, units[-1]). Its layers are ``linear1``, ``linear2``, ...

    Raises:
        CourseError: There is no layer, or a size is not a whole number from 1 up.

    Example:
        >>> linear_chain().count_params()  # 3 × 5 + 5, 5 × 4 + 4 and 4 × 1 + 1
        49
    """
    check_positive(input_size=input_size, **{f"units[{i}]": size for i, size in enumerate(units)})
    if not units:
        raise CourseError("units is empty; give the size of at least one layer")
    with keras.StatelessScope():  # the weights are drawn by `initialize` only, not also by Keras
        inputs = keras.Input((input_size,), name="inputs")
        x = inputs
        for number, size in enumerate(units, start=1):
            x = layers.Dense(size, bias_initializer="random_normal", name=f"linear{number}")(x)
        return initialize(keras.Model(inputs, x, name=name), seed=seed)


def multiply_out(model: keras.Model) -> tuple[FloatArray, FloatArray]:
    """Computes the single linear regression that equals a chain of linear dense layers.

    (x W₁ + b₁) W₂ + b₂ = x (W₁ W₂) + (b₁ W₂ + b₂), and so on with each further layer.

    Args:
        model: A chain of Dense layers without activation, such as one from ``linear_chain``.

    Returns:
        ``(weights, bias)``, float64 (inputs, outputs) and (outputs,): the model's outputs are ``x @ weights + bias``.

    Raises:
        CourseError: A layer is not Dense or has an activation, or the layers are not one chain.

    Example:
        >>> model = linear_chain(input_size=3, units=(5, 4, 1))
        >>> weights, bias = multiply_out(model)
        >>> weights.shape, bias.shape
        ((3, 1), (1,))
    """
    if not model.built:
        raise CourseError(f"model {model.name!r} has no weights yet; give it a keras.Input first")
    chain = [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]
    for layer in chain:
        if not isinstance(layer, layers.Dense):
            raise CourseError(f"layer {layer.name!r} is a {type(layer).__name__}; give a chain of Dense layers")
        if layer.activation is not keras.activations.linear:
            function = getattr(layer.activation, "__name__", type(layer.activation).__name__)
            raise CourseError(
                f"layer {layer.name!r} has the activation {function}, so it is not linear; multiply out linear layers"
            )
    ends = [*model.inputs, *(layer.output for layer in chain)]
    starts = [*(layer.input for layer in chain), *model.outputs]
    if [id(tensor) for tensor in ends] != [id(tensor) for tensor in starts]:
        raise CourseError(
            f"the layers of {model.name!r} are not one chain; give each layer the outputs of the one before"
        )

    weights = np.eye(model.inputs[0].shape[-1])
    bias = np.zeros(weights.shape[-1])
    for layer in chain:
        kernel, *offset = (weight.astype("float64") for weight in layer.get_weights())  # without use_bias there is none
        weights, bias = weights @ kernel, bias @ kernel + sum(offset)
    return weights, bias
