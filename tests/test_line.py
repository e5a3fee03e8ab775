"""The straight line, against the numbers of the slides and NumPy."""

import keras
import numpy as np
import pytest

from keras_course.errors import CourseError
from keras_course.models import best_line, line_gradient, line_loss, line_model, predict_line

TWO = np.array([1.0, 2.0]), np.array([3.0, 5.0])
TEN = np.arange(10.0), np.array([10.0, 20, 25, 30, 40, 45, 40, 50, 60, 55])


def loss(m, b, points):
    return float(line_loss(m, b, *(axis.astype("float32") for axis in points)))


def test_outputs_and_loss_as_on_the_slide():
    outputs = predict_line(-1.0, 5.0, TWO[0])
    assert outputs.tolist() == [4.0, 3.0]
    assert ((TWO[1] - outputs) ** 2).tolist() == [1.0, 4.0]
    assert loss(-1.0, 5.0, TWO) == 2.5
    assert round(loss(-1.0, 5.0, TWO) ** 0.5, 2) == 1.58


def test_loss_and_best_line_of_ten_points_as_on_the_slide():
    assert loss(-2.0, 40.0, TEN) == 475.5
    m, b = best_line(*TEN)
    assert (round(m, 4), round(b, 4)) == (5.1212, 14.4545)
    assert loss(m, b, TEN) ** 0.5 == pytest.approx(3.857, abs=5e-4)


@pytest.mark.parametrize(("m", "b"), [(-1.0, 5.0), (2.0, 1.0), (0.25, -3.0)])
def test_the_gradient_for_two_points_equals_the_slide(m, b):
    assert line_gradient(m, b, *TWO) == pytest.approx((5 * m + 3 * b - 13, 3 * m + 2 * b - 8))


def test_the_best_line_equals_numpy():
    draws = np.random.default_rng(0)
    x, y = draws.normal(size=50), draws.normal(size=50)
    assert best_line(x, y) == pytest.approx(tuple(np.polyfit(x, y, 1)))
    assert line_gradient(*best_line(x, y), x, y) == pytest.approx((0, 0), abs=1e-12)


def test_line_model_computes_the_line():
    model = line_model(m=-1.0, b=5.0)
    assert model.count_params() == 2
    assert [layer.name for layer in model.layers] == ["x", "line"]
    outputs = model(np.array([[1.0], [2.0]], "float32"))
    assert keras.ops.convert_to_numpy(outputs).tolist() == [[4.0], [3.0]]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2, 3], [1, 2], "x has 3 values and y has 2; give one y for each x"),
        ([1, np.nan], [1, 2], r"x\[1\] is nan; give finite numbers only"),
        ([1, 2], [np.inf, 2], r"y\[0\] is inf"),
        ([], [], r"x has shape \(0,\); give a list"),
        ([[1, 2]], [1, 2], r"x has shape \(1, 2\)"),
    ],
)
@pytest.mark.parametrize("function", [best_line, lambda x, y: line_gradient(0, 0, x, y)])
def test_invalid_points_are_explained(function, x, y, message):
    with pytest.raises(CourseError, match=message):
        function(x, y)


def test_points_above_each_other_have_no_line():
    with pytest.raises(CourseError, match="x is 2 everywhere; a line needs at least two different x"):
        best_line([2, 2, 2], [1, 2, 3])
