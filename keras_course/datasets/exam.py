"""Hours of study and whether the exam was passed: binary classification with one input and overlapping classes.

The course's generator draws the students from a seed, the same ones on every backend. Some who studied little pass and
some who studied long fail, so the best prediction is a probability.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from keras_course import randomness
from keras_course.errors import check_positive

LONGEST: Final = 8.0
"""The largest number of hours."""
CLASS_NAMES: Final = ("failed", "passed")
"""The names of the labels 0 and 1."""

Students = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def truth(hours: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Computes the true probability that a student passes: 1 / (1 + exp(4 - hours)).

    Args:
        hours: Hours of study, of any shape, 0 to 8.

    Returns:
        float64 probabilities of the same shape, from 0 to 1.

    Example:
        >>> truth([0.0, 4.0, 8.0]).round(3).tolist()
        [0.018, 0.5, 0.982]
    """
    return 1 / (1 + np.exp(4 - np.asarray(hours, "float64")))


def load_data(*, count: int = 100, valid_count: int = 100, seed: int = 0) -> tuple[Students, Students]:
    """Draws a training set and a validation set of students.

    Args:
        count: Number of training students.
        valid_count: Number of validation students.
        seed: Random seed.

    Returns:
        ``(hours_train, passed_train), (hours_valid, passed_valid)``, all float32 of shape (n, 1): hours from 0 to 8,
        sorted, and labels 0.0 (failed) or 1.0 (passed).

    Raises:
        CourseError: A count is not a whole number from 1 up, or the seed is out of range.

    Example:
        >>> (hours, passed), _ = load_data(count=5)
        >>> hours.shape, passed.flatten().tolist()
        ((5, 1), [0.0, 0.0, 0.0, 1.0, 1.0])
    """
    check_positive(count=count, valid_count=valid_count)
    return _draw("train", count, seed), _draw("valid", valid_count, seed)


def _draw(part: str, count: int, seed: int) -> Students:
    shape = (count, 1)
    places = randomness.uniform(randomness.stream_key(seed, "exam", part, "hours"), shape).astype("float64")
    luck = randomness.uniform(randomness.stream_key(seed, "exam", part, "luck"), shape).astype("float64")
    hours = LONGEST * (np.arange(count)[:, np.newaxis] + places) / count
    return hours.astype("float32"), (luck < truth(hours)).astype("float32")
