"""The last layers that all classifiers share."""

from typing import Any

from keras import layers

from keras_course.randomness import Dropout


def class_logits(x: Any, num_classes: int, *, dropout: float = 0.0, seed: int = 0) -> Any:
    """Adds the layers ``dropout``, if there is any, and ``logits`` to a graph.

    Args:
        x: Features, a symbolic tensor (batch, features).
        num_classes: Number of classes.
        dropout: Fraction of the features to drop in training.
        seed: Seed of dropout.

    Returns:
        Logits, a symbolic tensor (batch, num_classes). They are float32 whatever the precision of the layers before: a
        softmax over bfloat16 logits loses digits.
    """
    if dropout:
        x = Dropout(dropout, seed=seed, name="dropout")(x)
    return layers.Dense(num_classes, dtype="float32", name="logits")(x)
