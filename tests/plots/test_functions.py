"""Activations and curves over one axis."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from keras_course import plots
from keras_course.errors import CourseError

X = np.linspace(-2, 2, 9)
RELU = (np.maximum(X, 0), (X > 0).astype(float))


def lines_by_label(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.lines}


def test_each_activation_has_a_panel_with_value_slope_and_keras_outputs() -> None:
    figure = plots.activations(X, {"ReLU": RELU, "linear": (X, np.ones(9))}, points={"ReLU": ([-1, 2], [0, 2])})
    relu, linear = figure.axes
    assert (relu.get_title(), linear.get_title()) == ("ReLU", "linear")
    assert (relu.get_xlabel(), relu.get_ylabel()) == ("input", "output, slope")
    value, slope = lines_by_label(relu)["value by the formula"], lines_by_label(relu)["slope"]
    np.testing.assert_array_equal(value.get_xydata(), np.stack([X, RELU[0]], axis=1))
    np.testing.assert_array_equal(slope.get_ydata(), RELU[1])
    assert (value.get_linestyle(), slope.get_linestyle()) == ("-", "--")
    circles = lines_by_label(relu)["Keras"]
    assert circles.get_xydata().tolist() == [[-1, 0], [2, 2]]
    assert circles.get_markerfacecolor() == "none"
    assert "Keras" not in lines_by_label(linear)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["value by the formula", "slope", "Keras"]


def test_curves_have_names_and_axis_labels() -> None:
    figure = plots.curves(X, {"a": X, "b": X**2}, x_label="x (m)", y_label="y (s)", title="Two", vertical=0.5)
    (axes,) = figure.axes
    np.testing.assert_array_equal(lines_by_label(axes)["b"].get_ydata(), X**2)
    assert (axes.get_xlabel(), axes.get_ylabel(), figure.get_suptitle()) == ("x (m)", "y (s)", "Two")
    assert [line.get_xdata() for line in axes.lines if list(line.get_xdata()) == [0.5, 0.5]]
    assert not axes.texts  # no line continues beyond the panel
    assert axes.get_ylim()[0] < -2
    assert axes.get_ylim()[1] > 4


@pytest.mark.parametrize(("sign", "marker", "text"), [(1, "^", "to ∞"), (-1, "v", "to −∞")])
def test_a_curve_to_infinity_ends_at_an_arrow(sign: int, marker: str, text: str) -> None:
    p = np.linspace(0, 1, 1001)
    with np.errstate(divide="ignore"):
        entropy = -sign * np.log(p)
    (axes,) = plots.curves(p, {"rmse": 1 - p, "entropy": entropy}, x_label="p", y_label="loss").axes
    edge = axes.get_ylim()[1 if sign > 0 else 0]
    assert 2 < abs(edge) < 7
    (arrow,) = [line for line in axes.lines if line.get_marker() == marker]
    assert arrow.get_ydata()[0] == edge
    assert arrow.get_xdata()[0] == pytest.approx(np.exp(-abs(edge)), abs=1e-3)  # where -log(p) is at the edge
    assert [annotation.get_text() for annotation in axes.texts] == [text]


def test_an_arrow_shows_how_far_a_finite_curve_continues() -> None:
    (axes,) = plots.curves(np.arange(100), {"a": [*range(99), 12345]}, x_label="x", y_label="y").axes
    assert 98 < axes.get_ylim()[1] < 200
    assert [annotation.get_text() for annotation in axes.texts] == ["to 1.23e+04"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.activations(X, {}), "curves is {}; give at least one"),
        (lambda: plots.activations(X, {"a": X}), r"curves\['a'\] is array\(.*; give a pair, the value and the slope"),
        (
            lambda: plots.activations(X, {"a": (X, X[1:])}),
            r"the slope in curves\['a'\] has shape \(8,\); give 9 numbers",
        ),
        (lambda: plots.activations(X, {"a": RELU}, points={"b": RELU}), "points has 'b', which is not in curves"),
        (lambda: plots.activations(X, {"a": RELU}, points={"a": ([1], [1, 2])}), "have lengths 1 and 2"),
        (lambda: plots.curves(X, {"a": X[1:]}, x_label="x", y_label="y"), r"curves\['a'\] has shape \(8,\); give 9"),
        (
            lambda: plots.curves(X, {"a": X * np.nan}, x_label="x", y_label="y"),
            r"curves\['a'\] has 9 values, 0 of them",
        ),
        (
            lambda: plots.curves([0, np.inf], {"a": [1, 2]}, x_label="x", y_label="y"),
            "x has 2 values, 1 of them finite",
        ),
    ],
)
def test_error_names_the_bad_input(draw: Callable[[], object], message: str) -> None:
    with pytest.raises(CourseError, match=message):
        draw()
