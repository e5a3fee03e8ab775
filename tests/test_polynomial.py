"""Polynomials by least squares, against known polynomials and the normal equations."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_course.errors import CourseError
from keras_course.models import fit_polynomial


def exact_least_squares(x, y, degree):
    """Solves the normal equations in fractions, without rounding."""
    x, y = [Fraction(value) for value in x], [Fraction(value) for value in y]
    table = [
        [sum(v ** (row + column) for v in x) for column in range(degree + 1)]
        + [sum(v**row * w for v, w in zip(x, y, strict=True))]
        for row in range(degree + 1)
    ]
    for pivot in range(degree + 1):
        table[pivot] = [value / table[pivot][pivot] for value in table[pivot]]
        for other in range(degree + 1):
            if other != pivot:
                factor = table[other][pivot]
                table[other] = [a - factor * b for a, b in zip(table[other], table[pivot], strict=True)]
    return [row[-1] for row in table]


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=6), st.floats(0.1, 100), st.floats(-100, 100))
def test_fit_polynomial_recovers_polynomials_anywhere(coefficients, width, middle):
    unit = np.linspace(-1, 1, 9)
    y = np.polynomial.polynomial.polyval(unit, coefficients)
    polynomial = fit_polynomial(middle + width * unit, y, degree=len(coefficients) - 1)
    between = np.linspace(-1, 1, 33)
    expected = np.polynomial.polynomial.polyval(between, coefficients)
    np.testing.assert_allclose(polynomial(middle + width * between), expected, atol=1e-8)
    assert polynomial.degree() == len(coefficients) - 1


@pytest.mark.parametrize("degree", [0, 1, 4, 11, 14])
def test_fit_polynomial_equals_exact_least_squares(degree):
    random = np.random.default_rng(5)
    x, y = np.sort(random.uniform(-3, 3, 15)), random.normal(size=15)
    polynomial = fit_polynomial(x, y, degree)
    places = np.linspace(x.min(), x.max(), 7)
    exact = exact_least_squares(x, y, degree)
    expected = [float(sum(c * Fraction(place) ** power for power, c in enumerate(exact))) for place in places]
    np.testing.assert_allclose(polynomial(places), expected, rtol=1e-7, atol=1e-7)


def test_as_many_parameters_as_points_interpolate():
    random = np.random.default_rng(6)
    x, y = np.linspace(1000, 1006, 15)[:, None], random.normal(size=(15, 1))
    np.testing.assert_allclose(fit_polynomial(x, y, 14)(x), y, atol=1e-6)


def test_the_line_of_the_course():
    m, b = 5.1212121, 14.4545454
    line = fit_polynomial(range(10), [10, 20, 25, 30, 40, 45, 40, 50, 60, 55], degree=1)
    np.testing.assert_allclose(line(np.array([0.0, 1.0, 100.0])), [b, b + m, b + 100 * m], atol=1e-4)


def test_one_point_gives_a_constant():
    assert fit_polynomial([4.0], [7.0], degree=0)(np.array([-1.0, 4.0])).tolist() == [7.0, 7.0]


@pytest.mark.parametrize(
    ("x", "y", "degree", "message"),
    [
        (
            [1, 2, 3],
            [1, 2, 3],
            3,
            "degree is 3, which takes 4 parameters, and x has 3 different values; give .* up to 2",
        ),
        ([1, 1, 2], [1, 2, 3], 2, "x has 2 different values; give a degree up to 1"),
        ([1, 2], [1, 2], -1, "degree is -1; give"),
        ([1, 2], [1, 2], 1.0, "degree is 1.0; give"),
        ([1, 2], [1, 2], True, "degree is True; give"),
        ([1, 2], [1], 0, "x has 2 entries and y has 1"),
        ([1, np.nan], [1, 2], 0, r"x\[1\] is nan; give finite numbers"),
        ([1, 2], [np.inf, 2], 0, r"y\[0\] is inf"),
        ([], [], 0, r"x has shape \(0,\)"),
        (np.ones((2, 2)), [1, 2], 0, r"x has shape \(2, 2\)"),
    ],
)
def test_error_names_the_bad_argument(x, y, degree, message):
    with pytest.raises(CourseError, match=message):
        fit_polynomial(x, y, degree)
