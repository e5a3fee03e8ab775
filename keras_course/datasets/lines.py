"""The course's two lines: a few points each, so that gradient descent can be followed by hand."""

from typing import Final

import numpy as np
import numpy.typing as npt

from keras_course.errors import CourseError

STARTS: Final[dict[str, tuple[float, float]]] = {"two_points": (-1.0, 5.0), "ten_points": (-2.0, 40.0)}
"""The course's start of gradient descent on each line: slope m and intercept b."""

_POINTS: Final[dict[str, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "two_points": ((1, 2), (3, 5)),
    "ten_points": ((0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (10, 20, 25, 30, 40, 45, 40, 50, 60, 55)),
}


def load_data(name: str = "two_points") -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Returns the points of one of the course's two lines.

    The line through ``two_points`` is y = 2 x + 1; the one nearest to ``ten_points`` is y = 5.1212 x + 14.4545.

    Args:
        name: ``"two_points"`` or ``"ten_points"``.

    Returns:
        ``(x, y)``, both float32 (n,), without units.

    Raises:
        CourseError: There is no line of that name.

    Example:
        >>> x, y = load_data("two_points")
        >>> x.tolist(), y.tolist()
        ([1.0, 2.0], [3.0, 5.0])

    Source: NVIDIA Deep Learning Institute, "Fundamentals of Deep Learning", part 2.
    """
    if name not in _POINTS:
        raise CourseError(f"name is {name!r}; give one of {', '.join(_POINTS)}")
    x, y = _POINTS[name]
    return np.array(x, "float32"), np.array(y, "float32")
