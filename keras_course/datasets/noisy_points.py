"""Noisy points around a curve that is known: with it a lesson can say what a model should have learned.

The points are drawn by the course's generator from a seed, the same ones on every backend. One point lies somewhere in
each of ``count`` equal cells from -3 to 3, so that no gap is wider than two cells: within the range a model
interpolates, outside of it it extrapolates.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from keras_course import randomness
from keras_course.errors import CourseError, check_positive

LOW: Final = -3.0
"""Left end of the range that the points come from."""
HIGH: Final = 3.0
"""Right end of the range that the points come from."""

Points = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def truth(x: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Gives the curve without the noise: sin(1.5 x).

    Args:
        x: Any real numbers, of any shape; angles in radians.

    Returns:
        float64 numbers of the same shape, from -1 to 1.

    Example:
        >>> truth([0.0, np.pi / 3]).round(6).tolist()
        [0.0, 1.0]
    """
    return np.sin(1.5 * np.asarray(x, "float64"))


def load_data(*, count: int = 15, valid_count: int = 40, noise: float = 0.3, seed: int = 0) -> tuple[Points, Points]:
    """Draws points (x, truth(x) + noise) to train on and others to validate with.

    Args:
        count: Number of points to train on.
        valid_count: Number of points to validate with.
        noise: Standard deviation of the normally distributed noise, in the units of y; 0 for none.
        seed: Seed of all that is random; the training and the validation points are independent draws.

    Returns:
        ``(x_train, y_train), (x_valid, y_valid)``, all float32 of shape (n, 1), in the order of x, which lies from -3
        to 3. The second axis is there because a model's outputs have it: a loss between (n,) and (n, 1) would compare
        each output with every y.

    Raises:
        CourseError: A count is not a whole number from 1 up, the noise is negative or the seed is out of range.

    Example:
        >>> (x_train, y_train), (x_valid, y_valid) = load_data()
        >>> x_train.shape, y_train.shape, x_valid.shape, x_train.dtype
        ((15, 1), (15, 1), (40, 1), dtype('float32'))

    Source: C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, section 1.1.
    """
    check_positive(count=count, valid_count=valid_count)
    if not (np.isfinite(noise) and noise >= 0):
        raise CourseError(f"noise is {noise}; give a standard deviation from 0 up")
    return _draw("train", count, noise, seed), _draw("valid", valid_count, noise, seed)


def _draw(part: str, count: int, noise: float, seed: int) -> Points:
    shape = (count, 1)
    places = randomness.uniform(randomness.stream_key(seed, "noisy_points", part, "x"), shape).astype("float64")
    errors = randomness.normal(randomness.stream_key(seed, "noisy_points", part, "noise"), shape).astype("float64")
    cells = np.arange(count)[:, np.newaxis]
    x = LOW + (HIGH - LOW) * (cells + places) / count
    return x.astype("float32"), (truth(x) + noise * errors).astype("float32")
