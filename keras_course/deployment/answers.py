"""Computes the most probable classes from logits."""

import numpy as np

from keras_course.errors import CourseError, check_positive
from keras_course.evaluation import softmax

__all__ = ["check_logits", "most_probable"]


def most_probable(logits: np.ndarray, *, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the most probable classes, sorted, and their probabilities, both (n, top); equal ones by index."""
    check_positive(top=top)
    check_logits(logits)
    scores = np.asarray(logits, "float64")
    numbers = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return numbers, np.take_along_axis(softmax(scores), numbers, axis=1)


def check_logits(logits: np.ndarray) -> None:
    """Raises a ``CourseError`` if a logit is not finite."""
    if not np.isfinite(logits).all():
        raise CourseError(
            "the model gives logits that are no numbers; its weights are damaged, or its training diverged"
        )
