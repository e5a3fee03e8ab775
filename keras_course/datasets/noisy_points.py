"""Noisy points around a known curve, with which a fitted model can be compared.

The course's generator draws the points from a seed, the same ones on every backend. One point is in each of ``count``
equal cells from -3 to 3, so that no gap is wider than two cells: a model interpolates within the range and extrapolates
outside of it.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from keras_course import randomness
from keras_course.errors import CourseError, check_positive

LOW: Final = -3.0
"""Left end of the range of the points."""
HIGH: Final = 3.0
"""Right end of the range of the points."""

Points = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def truth(x: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Computes the curve without noise: sin(1.5 x).

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
    """Draws a training set and a validation set of points (x, truth(x) + noise).

    Args:
        count: Number of training points.
        valid_count: Number of validation points.
        noise: Standard deviation of the normally distributed noise, in the units of y; 0 for none.
        seed: Random seed; training and validation points are independent draws.

    Returns:
        ``(x_train, y_train), (x_valid, y_valid)``, all float32 of shape (n, 1), sorted by x, from -3 to 3. The second
        axis is that of a model's outputs: a loss between (n,) and (n, 1) would compare each output with every y.

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
