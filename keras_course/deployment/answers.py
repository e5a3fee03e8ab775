"""Computes the most probable classes from logits, and holds the predictions that are made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from keras_course.errors import CourseError, check_positive
from keras_course.evaluation import softmax

__all__ = ["Answer", "Prediction", "check_logits", "most_probable", "predictions_of"]

_MANY_CLASSES: Final = 4096
"""The number of classes from which on they are not all sorted."""


class Answer(NamedTuple):
    """A class and its probability."""

    class_name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The prediction for one picture or text.

    Args:
        name: The name of the picture, or the text.
        answers: The most probable classes, sorted by probability; empty if the picture or text cannot be read.
        error: Why the picture or text cannot be read, else empty.
        note: What to know of the answers, such as that the text has been cut; else empty.
        kind: ``picture`` or ``text``.
    """

    name: str
    answers: tuple[Answer, ...] = ()
    error: str = ""
    note: str = ""
    kind: str = "picture"

    def to_dict(self) -> dict[str, Any]:
        """Returns the prediction for JSON output."""
        if self.error:
            return {self.kind: self.name, "error": self.error}
        answers = [{"class": answer.class_name, "probability": answer.probability} for answer in self.answers]
        return {self.kind: self.name, "answers": answers, **({"note": self.note} if self.note else {})}


def predictions_of(logits: np.ndarray, class_names: Sequence[str], *, top: int = 3) -> list[tuple[Answer, ...]]:
    """Returns the most probable classes for logits.

    Args:
        logits: float32 (n, classes).
        class_names: The names of the classes.
        top: The number of classes to return.

    Returns:
        The answers for each row, sorted by probability; equal ones by class.

    Raises:
        CourseError: ``top`` is not positive, or a logit is not finite.

    Example:
        >>> predictions_of(np.array([[0.0, 1.0, -9.0]], "float32"), "abc", top=1)
        [(Answer(class_name='b', probability=0.731...),)]
    """
    numbers, probabilities = most_probable(logits, top=top)
    return [
        tuple(Answer(class_names[number], share) for number, share in zip(row, shares, strict=True))
        for row, shares in zip(numbers.tolist(), probabilities.tolist(), strict=True)
    ]


def most_probable(logits: np.ndarray, *, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the most probable classes, sorted, and their probabilities, both (n, top); equal ones by index."""
    check_positive(top=top)
    check_logits(logits)
    scores = np.asarray(logits, "float64")
    if scores.shape[1] >= _MANY_CLASSES and 8 * top <= scores.shape[1]:
        numbers = np.stack([_largest(row, top) for row in scores])
    else:
        numbers = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return numbers, np.take_along_axis(softmax(scores), numbers, axis=1)


def _largest(row: np.ndarray, count: int) -> np.ndarray:
    """Returns the indices of the largest numbers, sorted, without sorting all of them."""
    least = np.partition(row, -count)[-count]
    places = np.flatnonzero(row >= least)  # more than count, if some equal the least
    return places[np.argsort(-row[places], kind="stable")][:count]


def check_logits(logits: np.ndarray) -> None:
    """Raises a ``CourseError`` if a logit is not finite."""
    if not np.isfinite(logits).all():
        raise CourseError(
            "the model gives logits that are no numbers; its weights are damaged, or its training diverged"
        )
