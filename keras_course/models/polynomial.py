"""Polynomials fitted by least squares: the oldest model that can be made as large as one likes."""

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Legendre

from keras_course.errors import CourseError


def fit_polynomial(x: npt.ArrayLike, y: npt.ArrayLike, degree: int) -> Legendre:
    """Finds the polynomial of a degree that has the smallest mean squared error on some points.

    The powers 1, x, x², ... look more and more alike, and their weights cannot be told apart in floating point. So the
    sum is made of Legendre polynomials over the range of the points: the same curves, written in terms that differ.

    Args:
        x: Places, (n,) or (n, 1).
        y: Values there, (n,) or (n, 1).
        degree: The highest power of x, from 0 up to one less than the number of different places.

    Returns:
        A NumPy polynomial: called with places of any shape it gives its float64 values there, and ``degree() + 1`` is
        the number of its parameters.

    Raises:
        CourseError: x and y do not fit together or are not finite, or the points cannot tell that many parameters.

    Example:
        >>> polynomial = fit_polynomial([0.0, 1.0, 2.0], [1.0, 2.0, 5.0], degree=2)  # y = x² + 1
        >>> polynomial(np.array([3.0])).round(6).tolist()
        [10.0]

    Source: C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, section 1.1.
    """
    places, values = _column(x, "x"), _column(y, "y")
    if len(places) != len(values):
        raise CourseError(f"x has {len(places)} entries and y has {len(values)}; give the same number of both")
    different = len(np.unique(places))
    if isinstance(degree, bool) or not isinstance(degree, int | np.integer) or degree < 0:
        raise CourseError(f"degree is {degree!r}; give a whole number from 0 up")
    if degree + 1 > different:
        raise CourseError(
            f"degree is {degree}, which takes {degree + 1} parameters, and x has {different} different places; "
            f"give a degree up to {different - 1}, or more points"
        )
    # one place alone has no range to scale to
    middle = places[0]
    domain = [places.min(), places.max()] if different > 1 else [middle - 1, middle + 1]
    return Legendre.fit(places, values, int(degree), domain=domain)


def _column(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    column = np.asarray(values, "float64")
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1 or column.size == 0:
        raise CourseError(f"{name} has shape {column.shape}; give at least one number, as (n,) or (n, 1)")
    broken = np.flatnonzero(~np.isfinite(column))
    if broken.size:
        raise CourseError(f"{name}[{broken[0]}] is {column[broken[0]]}; leave out what is not a finite number")
    return column
