"""Polynomials fitted by least squares: a model whose capacity can be chosen."""

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Legendre

from keras_course.errors import CourseError


def fit_polynomial(x: npt.ArrayLike, y: npt.ArrayLike, degree: int) -> Legendre:
    """Fits a polynomial of a degree to some points, with the smallest mean squared error.

    High powers of x are nearly collinear, which makes the least-squares problem ill-conditioned. So the polynomial is a
    sum of Legendre polynomials over the range of the points: the same curve in a better basis.

    Args:
        x: Inputs, (n,) or (n, 1).
        y: Targets, (n,) or (n, 1).
        degree: The highest power of x, from 0 up to one less than the number of different x.

    Returns:
        A NumPy polynomial: called with inputs of any shape it returns float64 values, and ``degree() + 1`` is the
        number of its parameters.

    Raises:
        CourseError: x and y have different lengths or are not finite, or there are fewer different x than parameters.

    Example:
        >>> polynomial = fit_polynomial([0.0, 1.0, 2.0], [1.0, 2.0, 5.0], degree=2)  # y = x² + 1
        >>> polynomial(np.array([3.0])).round(6).tolist()
        [10.0]

    Source: C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, section 1.1.
    """
    inputs, targets = _column(x, "x"), _column(y, "y")
    if len(inputs) != len(targets):
        raise CourseError(f"x has {len(inputs)} entries and y has {len(targets)}; give the same number of both")
    different = len(np.unique(inputs))
    if isinstance(degree, bool) or not isinstance(degree, int | np.integer) or degree < 0:
        raise CourseError(f"degree is {degree!r}; give a whole number from 0 up")
    if degree + 1 > different:
        raise CourseError(
            f"degree is {degree}, which takes {degree + 1} parameters, and x has {different} different values; "
            f"give a degree up to {different - 1}, or more points"
        )
    # a single x has no range to scale to
    domain = [inputs.min(), inputs.max()] if different > 1 else [inputs[0] - 1, inputs[0] + 1]
    return Legendre.fit(inputs, targets, int(degree), domain=domain)


def _column(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    column = np.asarray(values, "float64")
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1 or column.size == 0:
        raise CourseError(f"{name} has shape {column.shape}; give at least one number, as (n,) or (n, 1)")
    broken = np.flatnonzero(~np.isfinite(column))
    if broken.size:
        raise CourseError(f"{name}[{broken[0]}] is {column[broken[0]]}; give finite numbers only")
    return column
