"""Lines, fits and probabilities on points, and the error by the size of a model."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from keras_course import plots
from keras_course.errors import CourseError

X, Y = np.array([1.0, 2.0]), np.array([3.0, 5.0])
POINTS = (np.linspace(0, 1, 5)[:, None], np.array([0.0, 1.0, 0.5, 1.5, 2.0])[:, None])  # (n, 1), as Keras takes them
LINE = np.linspace(-1, 2, 31)


def lines_by_label(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.lines}


def brightness(line: Line2D) -> float:
    return float(np.dot(to_rgb(line.get_color()), [0.2126, 0.7152, 0.0722]))


def test_lines_become_darker_in_order_and_the_last_one_has_its_errors() -> None:
    (axes,) = plots.line_fit(X, Y, {"step 0": (-1, 5), "step 1": (-0.7, 5.1), "step 9": (1, 3)}, labels=("t", "v")).axes
    lines = lines_by_label(axes)
    np.testing.assert_array_equal(lines["data"].get_xydata(), [[1, 3], [2, 5]])
    for name, (m, b) in {"step 0": (-1, 5), "step 1": (-0.7, 5.1), "step 9": (1, 3)}.items():
        ends = lines[name].get_xdata()
        np.testing.assert_allclose(lines[name].get_ydata(), m * ends + b)
        np.testing.assert_array_equal(ends, axes.get_xlim())
    assert brightness(lines["step 0"]) > brightness(lines["step 1"])
    assert lines["step 9"].get_linewidth() > lines["step 1"].get_linewidth()
    (errors,) = axes.collections
    # y = x + 3 is 4 and 5, and the data are 3 and 5.
    np.testing.assert_allclose(errors.get_segments(), [[[1, 3], [1, 4]], [[2, 5], [2, 5]]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("t", "v")


def test_a_line_far_from_the_data_does_not_change_the_limits() -> None:
    (axes,) = plots.line_fit(X, Y, {"lost": (1e9, -1e9), "good": (2, 1)}).axes
    low, high = axes.get_ylim()
    assert low < 3
    assert high > 5
    assert high - low < 8  # the data span 2


def test_fits_share_axes_that_cover_the_points_and_the_true_curve() -> None:
    exploding = 1e9 * (LINE - 0.5) ** 9
    figure = plots.regression_fits(
        POINTS, POINTS, {"tame": (LINE[:, None], LINE[:, None]), "wild": (LINE, exploding)}, truth=(LINE, 3 * LINE)
    )
    tame, wild = figure.axes
    assert (tame.get_title(), wild.get_title()) == ("tame", "wild")
    assert tame.get_ylim() == wild.get_ylim()
    low, high = tame.get_ylim()
    assert -8 < low < -3  # the true curve goes from -3 to 6
    assert 6 < high < 11
    np.testing.assert_array_equal(lines_by_label(tame)["fit"].get_xydata(), np.stack([LINE, LINE], axis=1))
    np.testing.assert_array_equal(lines_by_label(tame)["true curve"].get_ydata(), 3 * LINE)
    inside = np.abs(exploding) < 5
    np.testing.assert_array_equal(lines_by_label(wild)["fit"].get_ydata()[inside], exploding[inside])
    learned, others = lines_by_label(wild)["training point"], lines_by_label(wild)["validation point"]
    np.testing.assert_array_equal(learned.get_ydata(), POINTS[1].ravel())
    assert to_rgb(others.get_markerfacecolor()) == (1, 1, 1)  # open
    assert to_rgb(learned.get_markerfacecolor()) != (1, 1, 1)


def test_panel_is_shaded_outside_of_the_training_range() -> None:
    (axes,) = plots.regression_fits(POINTS, POINTS, {"a": (LINE, LINE)}, inside=(0, 1)).axes
    spans = sorted(patch.get_x() for patch in axes.patches)
    left, right = axes.get_xlim()
    assert spans == pytest.approx([left, 1])
    assert [text.get_text() for text in axes.texts] == ["extrapolation", "extrapolation"]
    assert (left, right) == pytest.approx((-1.06, 2.06))
    (axes,) = plots.regression_fits(POINTS, POINTS, {"a": (LINE, LINE)}).axes
    assert not axes.patches


def test_nothing_is_shaded_if_the_training_points_cover_the_panel() -> None:
    (axes,) = plots.regression_fits(POINTS, POINTS, {"a": (LINE, LINE)}, inside=(-9, 9)).axes
    assert not axes.patches
    assert not axes.texts


def test_best_size_has_the_smallest_validation_error() -> None:
    figure = plots.size_against_error(
        [1, 2, 3, 4], [5, 3, 2, 1], [6, 4, 4, 7], x_label="degree", loss_label="mean squared error"
    )
    (axes,) = figure.axes
    assert lines_by_label(axes)["best: 4 at 2"].get_xydata().tolist() == [[2, 4]]  # the smallest of equally good sizes
    assert [text.get_text() for text in axes.texts] == ["under-fitting", "over-fitting"]
    (over,) = axes.patches
    assert over.get_x() == 2
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("degree", "mean squared error")
    np.testing.assert_array_equal(lines_by_label(axes)["training"].get_ydata(), [5, 3, 2, 1])
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")


@pytest.mark.parametrize(
    ("valid", "named"), [([3, 2, 1], ["under-fitting"]), ([1, 2, 3], ["over-fitting"]), ([np.inf, 1, np.nan], None)]
)
def test_under_and_over_fitting_are_named_only_where_they_occur(valid: list[float], named: list[str] | None) -> None:
    figure = plots.size_against_error([1, 2, 3], [3, 2, 1], valid, x_label="degree", loss_label="error")
    assert [text.get_text() for text in figure.axes[0].texts] == (named or ["under-fitting", "over-fitting"])


def test_sizes_and_errors_of_many_magnitudes_are_logarithmic() -> None:
    arguments = {"x_label": "parameters", "loss_label": "error"}
    (axes,) = plots.size_against_error([4, 40, 400], [1, 0.1, 0.01], [1, 0.5, 0.7], **arguments).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    (axes,) = plots.size_against_error([4, 40, 400], [1, 0.1, 0.01], [1, 0.5, 0.7], log=False, **arguments).axes
    assert axes.get_yscale() == "linear"


@pytest.mark.parametrize("decades", [3, 12, 250])
def test_a_logarithmic_axis_has_few_numbers_for_any_range(decades: int) -> None:
    (axes,) = plots.size_against_error([1, 2], [1, 10.0**decades], [1, 1], x_label="degree", loss_label="error").axes
    low, high = axes.get_ylim()
    assert 3 <= len([tick for tick in axes.get_yticks() if low <= tick <= high]) <= 10
    assert axes.yaxis.get_major_formatter()(0.003, 0) == "0.003"


def test_a_logarithmic_axis_that_is_zoomed_into_one_decade_has_even_ticks() -> None:
    (axes,) = plots.size_against_error([4, 40, 400], [1, 0.1, 0.01], [1, 1, 1], x_label="a", loss_label="b").axes
    axes.set_ylim(0.2, 0.9)
    ticks = [tick for tick in axes.get_yticks() if 0.2 <= tick <= 0.9]
    assert len(ticks) >= 3
    assert np.diff(ticks) == pytest.approx(ticks[1] - ticks[0])


def test_points_lie_at_their_labels_and_curves_at_the_predictions() -> None:
    hours, passed = np.array([[1.0], [2.0], [3.0]]), np.array([[0], [1], [1]])
    (axes,) = plots.points_with_probability(hours, passed, LINE, {"neuron": 1 / (1 + np.exp(-LINE))}, x_label="h").axes
    lines = lines_by_label(axes)
    assert lines["label 0"].get_xydata().tolist() == [[1, 0]]
    assert lines["label 1"].get_xydata().tolist() == [[2, 1], [3, 1]]
    np.testing.assert_array_equal(lines["neuron"].get_xdata(), LINE)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("h", "probability")
    assert axes.get_yticks().tolist() == [0, 0.25, 0.5, 0.75, 1]


SIZES = {"x_label": "degree", "loss_label": "error"}


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.line_fit([1, 2], [3], {"a": (1, 2)}), "x and y have lengths 2 and 1"),
        (lambda: plots.line_fit(X, Y, {}), "lines is {}; give at least one"),
        (lambda: plots.line_fit(X, Y, {"a": (np.nan, 2)}), r"lines\['a'\] is \(nan, 2\); give a finite m and b"),
        (lambda: plots.line_fit(X, Y, {"a": (1, 2, 3)}), r"lines\['a'\] is \(1, 2, 3\); give"),
        (lambda: plots.regression_fits(POINTS, POINTS, {}), "fits is {}"),
        (lambda: plots.regression_fits(POINTS, X, {"a": POINTS}), r"valid is array\(\[1., 2.\]\); give a pair"),
        (lambda: plots.regression_fits(POINTS, POINTS, {"a": (X, LINE)}), r"x of fits\['a'\] and y of .* 2 and 31"),
        (
            lambda: plots.regression_fits(POINTS, POINTS, {"a": POINTS}, inside=(1, 0)),
            r"inside is \(1, 0\); give the smallest",
        ),
        (lambda: plots.size_against_error([1, 2], [1], [1, 2], **SIZES), "sizes and train have lengths 2 and 1"),
        (
            lambda: plots.size_against_error([2, 1], [1, 2], [1, 2], **SIZES),
            r"sizes are \[2.0, 1.0\]; give them in inc",
        ),
        (
            lambda: plots.size_against_error([1, 2], [1, 2], [np.nan] * 2, **SIZES),
            "valid has 2 values, 0 of them finite",
        ),
        (lambda: plots.points_with_probability(X, [0, 2], X, {"a": X}, x_label="h"), "labels hold 2; give 0 or 1"),
        (lambda: plots.points_with_probability(X, [0, 1], X, {"a": LINE}, x_label="h"), r"curves\['a'\] has shape"),
    ],
)
def test_error_names_the_bad_input(draw: Callable[[], object], message: str) -> None:
    with pytest.raises(CourseError, match=message):
        draw()
