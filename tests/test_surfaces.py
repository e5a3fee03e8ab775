"""The loss surfaces: their minima, formulas, and equal losses for numbers and tensors."""

import keras
import numpy as np
import pytest
from scipy import optimize

from keras_course.surfaces import SURFACES


@pytest.mark.parametrize("name", SURFACES)
def test_minima_equal_those_of_an_optimizer(name):
    surface = SURFACES[name]
    for minimum in surface.minima:
        found = optimize.minimize(lambda point: surface.loss(*point), minimum, method="Nelder-Mead", tol=1e-12)
        np.testing.assert_allclose(found.x, minimum, atol=1e-4)
        slopes = optimize.approx_fprime(np.array(minimum), lambda point: surface.loss(*point), 1e-7)
        np.testing.assert_allclose(slopes, 0, atol=1e-3)


@pytest.mark.parametrize("name", SURFACES)
def test_all_minima_within_the_bounds_are_listed(name):
    """Minimizations from a grid of starts end only in these minima."""
    surface = SURFACES[name]
    left, right, bottom, top = surface.bounds
    ends = set()
    for p in np.linspace(left, right, 7):
        for q in np.linspace(bottom, top, 7):
            found = optimize.minimize(lambda point: surface.loss(*point), (p, q), method="BFGS")
            ends.add(min(surface.minima, key=lambda minimum: np.hypot(*(found.x - minimum))))
            assert min(np.hypot(*(found.x - minimum)) for minimum in surface.minima) < 1e-3
    assert ends == set(surface.minima)


@pytest.mark.parametrize("name", SURFACES)
def test_the_lowest_minimum_comes_first_and_is_0(name):
    surface = SURFACES[name]
    losses = [surface.loss(*minimum) for minimum in surface.minima]
    assert losses[0] == pytest.approx(0, abs=1e-4)
    assert losses[0] == min(losses)


@pytest.mark.parametrize("name", SURFACES)
def test_start_and_minima_are_within_the_bounds(name):
    surface = SURFACES[name]
    left, right, bottom, top = surface.bounds
    for p, q in (surface.start, *surface.minima):
        assert left < p < right
        assert bottom < q < top


@pytest.mark.parametrize("name", SURFACES)
def test_the_written_formula_equals_the_loss(name):
    surface = SURFACES[name]
    written = surface.formula
    for sign, code in {"²": "**2", "⁴": "**4", "−": "-", " p": "*p", " q": "*q", "10 (": "10*("}.items():
        written = written.replace(sign, code)
    written = written.replace("+*", "+").replace("-*", "-").replace("(*", "(")
    for p, q in [(0.5, -1.5), (-2.0, 1.0)]:
        assert eval(written, {"p": p, "q": q}) == pytest.approx(surface.loss(p, q), abs=0.01)


@pytest.mark.parametrize("name", SURFACES)
def test_losses_of_tensors_equal_those_of_numbers(name):
    surface = SURFACES[name]
    points = np.array([[0.5, -1.5], [-2.0, 1.0], [3.0, 3.0]], "float32").T
    found = keras.ops.convert_to_numpy(surface.loss(*map(keras.ops.convert_to_tensor, points)))
    np.testing.assert_allclose(found, [surface.loss(float(p), float(q)) for p, q in points.T], rtol=1e-5)
