"""Networks of densely connected layers."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_course.errors import check_fractions, check_positive
from keras_course.models.heads import class_logits
from keras_course.randomness import Dropout, initialize


def dense_classifier(
    *,
    input_shape: tuple[int, ...] = (28, 28, 1),
    hidden: Sequence[int] = (512, 512),
    num_classes: int = 10,
    activation: str = "relu",
    dropout: float = 0.0,
    scale: float = 1 / 255,
    seed: int = 0,
    name: str = "dense_classifier",
) -> keras.Model:
    """Builds a classifier of densely connected layers that takes raw pixels and returns logits.

    Args:
        input_shape: Shape of one picture: height, width, channels.
        hidden: Units of each hidden layer; without any, the classifier is linear.
        num_classes: Number of classes.
        activation: Activation of the hidden layers.
        dropout: Fraction of each hidden layer's outputs to drop in training, from 0 up to but not including 1.
        scale: Factor of the pixels; 1/255 maps 0..255 to 0..1.
        seed: Seed of the initial weights and of dropout; one seed gives the same numbers on every backend.
        name: Name of the model.

    Returns:
        A model from pictures (batch, *input_shape) in 0..255 to float32 logits (batch, num_classes). Its layers are
        ``pixels``, ``flatten``, ``hidden1``, ``dropout1``, ``hidden2``, ... and ``logits``.

    Raises:
        CourseError: A size is not positive, or ``dropout`` is out of range.

    Example:
        >>> model = dense_classifier()  # the course's net: 784 -> 512 -> 512 -> 10
        >>> f"{model.count_params():,}"
        '669,706'

    Source: NVIDIA Deep Learning Institute, "Fundamentals of Deep Learning", part 1.
    """
    check_positive(num_classes=num_classes, **{f"input_shape[{i}]": size for i, size in enumerate(input_shape)})
    check_fractions(dropout=dropout)
    with keras.StatelessScope():  # the weights are drawn by `initialize` only, not also by Keras
        inputs = keras.Input(input_shape, name="pictures")
        x = layers.Rescaling(scale, name="pixels")(inputs)
        x = layers.Flatten(name="flatten")(x)
        x = _hidden_layers(x, hidden, activation, dropout=dropout, seed=seed)
        logits = class_logits(x, num_classes)
        return initialize(keras.Model(inputs, logits, name=name), seed=seed)


def dense_regressor(
    *,
    input_size: int = 1,
    hidden: Sequence[int] = (64,),
    activation: str = "tanh",
    num_outputs: int = 1,
    seed: int = 0,
    name: str = "dense_regressor",
) -> keras.Model:
    """Builds a regression network of densely connected layers, with linear outputs.

    Args:
        input_size: Number of inputs. The model does not scale them, so they should be of the order of 1.
        hidden: Units of each hidden layer; without any, the model is a linear regression.
        activation: Activation of the hidden layers.
        num_outputs: Number of outputs.
        seed: Seed of the initial weights; one seed gives the same numbers on every backend.
        name: Name of the model.

    Returns:
        A model from (batch, input_size) to float32 (batch, num_outputs). Its layers are ``inputs``, ``hidden1``,
        ``hidden2``, ... and ``outputs``.

    Raises:
        CourseError: A size is not a whole number from 1 up.

    Example:
        >>> dense_regressor().count_params()  # 1 × 64 + 64, and 64 × 1 + 1
        193
    """
    check_positive(input_size=input_size, num_outputs=num_outputs)
    with keras.StatelessScope():  # the weights are drawn by `initialize` only, not also by Keras
        inputs = keras.Input((input_size,), name="inputs")
        x = _hidden_layers(inputs, hidden, activation)
        outputs = layers.Dense(num_outputs, dtype="float32", name="outputs")(x)
        return initialize(keras.Model(inputs, outputs, name=name), seed=seed)


def _hidden_layers(x: Any, hidden: Sequence[int], activation: str, *, dropout: float = 0.0, seed: int = 0) -> Any:
    """Adds the hidden layers; the initial weights depend on their names."""
    check_positive(**{f"hidden[{i}]": units for i, units in enumerate(hidden)})
    for number, units in enumerate(hidden, start=1):
        x = layers.Dense(units, activation=activation, name=f"hidden{number}")(x)
        if dropout:
            x = Dropout(dropout, seed=seed, name=f"dropout{number}")(x)
    return x
