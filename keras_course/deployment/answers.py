"""Computes the most probable classes from logits."""

import numpy as np

from keras_course.errors import CourseError, check_positive
from keras_course.evaluation import softmax

__all__ = ["check_logits", "most_probable"]


def most_probable(logits: np.ndarray, *, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices and probabilities of the most probable classes.

    Args:
        logits: float32 (n, classes).
        top: The number of classes to return.

    Returns:
        Indices and probabilities, both (n, top), sorted by probability; equal ones by index.

    Raises:
        CourseError: ``top`` is not positive, or a logit is not finite.

    Example:
        >>> numbers, probabilities = most_probable(np.array([[0.0, 1.0, -9.0]], "float32"), top=2)
        >>> numbers, probabilities.round(3)
        (array([[1, 0]]), array([[0.731, 0.269]]))
    """
    check_positive(top=top)
    check_logits(logits)
    scores = np.asarray(logits, "float64")
    numbers = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return numbers, np.take_along_axis(softmax(scores), numbers, axis=1)


def check_logits(logits: np.ndarray) -> None:
    """Checks that all logits are finite.

    Args:
        logits: float32 (n, classes).

    Raises:
        CourseError: A logit is not finite.

    Example:
        >>> check_logits(np.array([[0.0, np.nan]], "float32"))
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: the model gives logits that are no numbers; its weights are damaged, or its ...
    """
    if not np.isfinite(logits).all():
        raise CourseError(
            "the model gives logits that are no numbers; its weights are damaged, or its training diverged"
        )
