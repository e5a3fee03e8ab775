"""Many noisy points around a known line: enough for mini-batches, and two parameters that can be plotted."""

from typing import Final

import numpy as np
import numpy.typing as npt

from keras_course import randomness
from keras_course.errors import CourseError, check_positive

SLOPE: Final = 2.0
"""The slope of the line under the noise."""
INTERCEPT: Final = -1.0
"""The value of the line at x = 0."""


def load_data(
    *, count: int = 256, noise: float = 0.6, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Draws points (x, 2x − 1 + noise), x uniform from 0 to 2.

    Args:
        count: Number of points.
        noise: Standard deviation of the normally distributed noise, in the units of y; 0 for none.
        seed: Random seed.

    Returns:
        ``(x, y)``, both float32 (n,), without units.

    Raises:
        CourseError: The count is not a whole number from 1 up, the noise is negative or the seed is out of range.

    Example:
        >>> x, y = load_data(count=1000, noise=0.0)
        >>> bool(abs(y - (2 * x - 1)).max() < 1e-6), round(float(x.mean()), 1)
        (True, 1.0)
    """
    check_positive(count=count)
    if not (np.isfinite(noise) and noise >= 0):
        raise CourseError(f"noise is {noise}; give a standard deviation from 0 up")
    x = 2 * randomness.uniform(randomness.stream_key(seed, "noisy_line", "x"), (count,)).astype("float64")
    errors = randomness.normal(randomness.stream_key(seed, "noisy_line", "noise"), (count,)).astype("float64")
    return x.astype("float32"), (SLOPE * x + INTERCEPT + noise * errors).astype("float32")
