"""Gradient descent against the numbers of the slides and NumPy, and its errors."""

import numpy as np
import pytest
from keras import ops

from keras_course.datasets import lines
from keras_course.errors import CourseError, DivergenceError
from keras_course.models import line_gradient, line_loss
from keras_course.surfaces import SURFACES
from keras_course.training import finite_differences, gradient_descent, loss_surface, value_and_grad
from keras_course.update_rules import UPDATE_RULES, UpdateRule

X, Y = lines.load_data("two_points")


def loss(m, b):
    return line_loss(m, b, X, Y)


def descend_in_numpy(steps, rate, m=-1.0, b=5.0):
    """Returns the path on the two points in float64, by the gradient formula of the slide."""
    path = [(m, b)]
    for _ in range(steps):
        m, b = m - rate * (5 * m + 3 * b - 13), b - rate * (3 * m + 2 * b - 8)
        path.append((m, b))
    return np.array(path)


def mse(path):
    m, b = path.T
    return ((m + b - 3) ** 2 + (2 * m + b - 5) ** 2) / 2


def test_three_ways_to_compute_the_gradient_agree():
    value, gradients = value_and_grad(loss, (-1.0, 5.0))
    assert value == 2.5
    assert gradients == [-3.0, -1.0]
    assert line_gradient(-1.0, 5.0, X, Y) == (-3.0, -1.0)
    assert finite_differences(loss, (-1.0, 5.0)) == pytest.approx((-3, -1), abs=1e-3)


def test_one_step_as_on_the_slide():
    descent = gradient_descent(loss, (-1.0, 5.0), learning_rate=0.1, steps=1)
    np.testing.assert_allclose(descent.path, [(-1, 5), (-0.7, 5.1)], rtol=1e-6)
    assert descent.losses.tolist() == [2.5]
    np.testing.assert_allclose(descent.epoch_losses, [2.5, mse(np.array([[-0.7, 5.1]]))[0]], rtol=1e-5)


@pytest.mark.parametrize(("rate", "steps"), [(0.1, 300), (0.001, 700), (0.29, 50)])
def test_the_path_equals_the_formula(rate, steps):
    descent = gradient_descent(loss, (-1.0, 5.0), learning_rate=rate, steps=steps)
    expected = descend_in_numpy(steps, rate)
    np.testing.assert_allclose(descent.path, expected, atol=2e-4)
    np.testing.assert_allclose(descent.epoch_losses, mse(expected), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose([p.item() for p in descent.parameters], expected[-1], atol=2e-4)
    assert len(descent.path) == len(descent.epoch_losses) == len(descent.losses) + 1 == steps + 1
    assert descent.diverged is None


def test_the_error_of_a_diverging_descent_has_its_path():
    with pytest.raises(DivergenceError, match=r"the loss went from 2.5 to .* in 3 steps; learning_rate 2 is too large"):
        gradient_descent(loss, (-1.0, 5.0), learning_rate=2.0, steps=50)
    try:
        gradient_descent(loss, (-1.0, 5.0), learning_rate=2.0, steps=50)
    except DivergenceError as error:
        found = error.found
    expected = descend_in_numpy(3, 2.0)
    np.testing.assert_allclose(found.path, expected, rtol=1e-5)
    np.testing.assert_allclose(found.epoch_losses, mse(expected), rtol=1e-5)
    assert found.diverged == str(error_of(2.0))


def error_of(rate, steps=50):
    with pytest.raises(DivergenceError) as caught:
        gradient_descent(loss, (-1.0, 5.0), learning_rate=rate, steps=steps)
    return caught.value


def test_the_path_ends_before_a_nan_loss():
    with pytest.raises(DivergenceError, match=r"to nan in 2 steps") as caught:
        gradient_descent(lambda m: ops.sqrt(m), (1.0,), learning_rate=1.0, steps=10)
    # sqrt has the slope 1/2 at 1, so 1 -> 1/2, and sqrt(2)/2 there: 1/2 - 0.7071 is below 0
    np.testing.assert_allclose(caught.value.found.path.ravel(), [1, 0.5, 0.5 - 0.5 / 0.5**0.5], rtol=1e-6)
    np.testing.assert_allclose(caught.value.found.losses, [1, 0.5**0.5], rtol=1e-6)


def test_a_small_learning_rate_is_slow():
    slow = gradient_descent(loss, (-1.0, 5.0), learning_rate=0.001, steps=20)
    fast = gradient_descent(loss, (-1.0, 5.0), learning_rate=0.1, steps=20)
    assert slow.epoch_losses[-1] > 0.8 * 2.5
    assert fast.epoch_losses[-1] < 0.6 * 2.5


def descend_in_float64(surface, rule, rate, steps):
    """Returns the path in float64 with slopes by central differences; it uses only tables of the package."""
    a, b, c, d, start, inside, outside, corrects = rule.numbers()
    point = np.array(surface.start)
    v, s = np.zeros(2), np.full(2, start)
    path = [point]
    for t in range(1, steps + 1):
        h = 1e-5
        slope = np.array(
            [(surface.loss(*(point + h * axis)) - surface.loss(*(point - h * axis))) / (2 * h) for axis in np.eye(2)]
        )
        v, s = a * v + b * slope, c * s + d * slope**2
        k = np.sqrt(1 - c**t) / (1 - a**t) if corrects else 1
        point = point - rate * k * v / (np.sqrt(s + inside) + outside)
        path.append(point)
    return np.array(path)


@pytest.mark.parametrize("optimizer", UPDATE_RULES)
@pytest.mark.parametrize("name", SURFACES)
def test_each_optimizer_on_each_surface(name, optimizer):
    surface, rule = SURFACES[name], UPDATE_RULES[optimizer]
    rate = 0.004 if optimizer in ("sgd", "momentum") else 0.1
    descent = gradient_descent(surface.loss, surface.start, learning_rate=rate, steps=60, optimizer=optimizer)
    assert descent.optimizer == rule.title
    np.testing.assert_allclose(descent.path, descend_in_float64(surface, rule, rate, 60), atol=5e-3)
    assert descent.epoch_losses[-1] < descent.epoch_losses[0]


def test_a_user_defined_update_rule():
    half = UpdateRule(title="half", gradient_share=0.5)
    descent = gradient_descent(lambda m: m**2, (1.0,), learning_rate=0.5, steps=2, optimizer=half)
    assert descent.path.ravel().tolist() == [1.0, 0.5, 0.25]
    assert descent.optimizer == "half"


def test_parameters_can_be_arrays():
    target = np.arange(6, dtype="float32").reshape(2, 3)

    def squared_distance(w):
        return ops.sum(ops.square(ops.subtract(w, target)))

    descent = gradient_descent(squared_distance, [np.zeros((2, 3))], learning_rate=0.5, steps=1)
    np.testing.assert_allclose(descent.parameters[0], target)
    assert descent.path.shape == (2, 6)


def test_more_steps_than_in_one_compiled_call():
    one = gradient_descent(loss, (-1.0, 5.0), learning_rate=0.01, steps=600)
    np.testing.assert_allclose(one.path, descend_in_numpy(600, 0.01), atol=2e-4)


@pytest.mark.parametrize("rate", [0, -0.1, float("nan"), float("inf"), True, "fast"])
def test_an_invalid_learning_rate_is_explained(rate):
    with pytest.raises(CourseError, match=r"learning_rate is .*; give a finite number above 0, such as 0\.1"):
        gradient_descent(loss, (-1.0, 5.0), learning_rate=rate)


@pytest.mark.parametrize("width", [0, -0.1, float("nan"), float("inf"), True, "thin"])
def test_an_invalid_width_is_explained(width):
    with pytest.raises(CourseError, match=rf"width is {width!r}; give a finite number above 0, such as 0\.005"):
        finite_differences(loss, (-1.0, 5.0), width=width)


@pytest.mark.parametrize(("parameter", "width"), [(5.0, 1e-7), (0.0, 1e-50), (0.0, 1e39), (0.0, 3e38)])
def test_a_width_that_does_not_change_a_float32_is_explained(parameter, width):
    """Beside 5 the next float32 is 4.8e-7 away; the smallest one is 1.4e-45, the largest 3.4e38."""
    with pytest.raises(CourseError, match="as a float32 cannot be moved by it, give one near") as caught:
        finite_differences(lambda m: m, (parameter,), width=width)
    assert str(caught.value).startswith(f"width is {width}; {parameter} ")


@pytest.mark.parametrize("width", [0.001, 0.25, 1])
def test_finite_differences_are_exact_on_a_parabola_for_any_width(width):
    assert finite_differences(lambda m: m * m, (3.0,), width=width) == pytest.approx([6], rel=1e-3)


@pytest.mark.parametrize("start", [(), (np.nan, 1.0), (1.0, np.inf)])
@pytest.mark.parametrize("function", [gradient_descent, value_and_grad, finite_differences])
def test_an_invalid_start_is_explained(function, start):
    with pytest.raises(CourseError, match=r"start is .*; give at least one number, and finite ones only"):
        function(lambda *parameters: parameters[0], start)


def test_nan_in_the_data_is_detected_at_the_start():
    with pytest.raises(CourseError, match=r"the loss at the start is nan; choose another start, or look at the data"):
        gradient_descent(lambda m: line_loss(m, 0.0, X, np.array([3, np.nan], "float32")), (1.0,))


def test_a_loss_that_is_no_scalar_is_explained():
    with pytest.raises(CourseError, match=r"the loss has shape \(2,\); give one number, for instance with keras.ops.m"):
        gradient_descent(lambda m: ops.multiply(m, X), (1.0,))


@pytest.mark.parametrize("steps", [0, -1, 2.5])
def test_an_invalid_number_of_steps_is_explained(steps):
    with pytest.raises(CourseError, match=r"steps is .*; give a whole number from 1 up"):
        gradient_descent(loss, (-1.0, 5.0), steps=steps)


def test_the_surface_is_the_loss_at_each_point():
    m, b, losses = loss_surface(loss, (-2, 4, 0, 6), points=13)
    assert (m[0], m[-1], b[0], b[-1]) == (-2, 4, 0, 6)
    expected = mse(np.stack([axis.ravel() for axis in np.meshgrid(m, b)], axis=1)).reshape(13, 13)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)
    assert losses[np.searchsorted(b, 5), np.searchsorted(m, -1)] == 2.5


@pytest.mark.parametrize("bounds", [(1, 0, 0, 1), (0, 1, 2, 2), (0, np.nan, 0, 1), (0, 1, 0, np.inf)])
def test_invalid_bounds_are_explained(bounds):
    with pytest.raises(CourseError, match=r"bounds are .*; give two increasing pairs of finite numbers"):
        loss_surface(loss, bounds)
