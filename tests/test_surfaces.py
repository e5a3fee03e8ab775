"""The loss surfaces: their minima are minima, and numbers, arrays and tensors give the same."""

import keras
import numpy as np
import pytest
from scipy import optimize

from keras_course.surfaces import SURFACES


@pytest.mark.parametrize("name", SURFACES)
def test_the_minima_are_where_a_search_finds_them(name):
    surface = SURFACES[name]
    for minimum in surface.minima:
        found = optimize.minimize(lambda point: surface.loss(*point), minimum, method="Nelder-Mead", tol=1e-12)
        np.testing.assert_allclose(found.x, minimum, atol=1e-4)
        slopes = optimize.approx_fprime(np.array(minimum), lambda point: surface.loss(*point), 1e-7)
        np.testing.assert_allclose(slopes, 0, atol=1e-3)


@pytest.mark.parametrize("name", SURFACES)
def test_all_the_minima_in_view_are_listed(name):
    """From a grid of starts, a search ends nowhere else."""
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
def test_start_and_minima_are_in_view(name):
    surface = SURFACES[name]
    left, right, bottom, top = surface.bounds
    for p, q in (surface.start, *surface.minima):
        assert left < p < right
        assert bottom < q < top


@pytest.mark.parametrize("name", SURFACES)
def test_the_formula_for_people_is_the_one_that_is_computed(name):
    surface = SURFACES[name]
    written = surface.formula
    for sign, code in {"²": "**2", "⁴": "**4", "−": "-", " p": "*p", " q": "*q", "10 (": "10*("}.items():
        written = written.replace(sign, code)
    written = written.replace("+*", "+").replace("-*", "-").replace("(*", "(")
    for p, q in [(0.5, -1.5), (-2.0, 1.0)]:
        assert eval(written, {"p": p, "q": q}) == pytest.approx(surface.loss(p, q), abs=0.01)


@pytest.mark.parametrize("name", SURFACES)
def test_tensors_give_what_numbers_give(name):
    surface = SURFACES[name]
    points = np.array([[0.5, -1.5], [-2.0, 1.0], [3.0, 3.0]], "float32").T
    found = keras.ops.convert_to_numpy(surface.loss(*map(keras.ops.convert_to_tensor, points)))
    np.testing.assert_allclose(found, [surface.loss(float(p), float(q)) for p, q in points.T], rtol=1e-5)
