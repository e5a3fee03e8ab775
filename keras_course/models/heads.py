"""The last layers that all classifiers share."""

from typing import Any, Final

from keras import layers

from keras_course.randomness import Dropout

FEATURES: Final = "features"
"""The layer between the pre-trained part of a classifier of texts and its head."""


def class_logits(x: Any, num_classes: int, *, dropout: float = 0.0, seed: int = 0) -> Any:
    """Adds ``dropout``, if any, and ``logits`` to features (batch, features), and returns the logits (batch, classes).

    They are float32 in any precision of the layers before, since a softmax over bfloat16 logits loses digits.
    """
    if dropout:
        x = Dropout(dropout, seed=seed, name="dropout")(x)
    return layers.Dense(num_classes, dtype="float32", name="logits")(x)
