"""Loss curves of several trainings: what is drawn, questions without names, and trainings that diverged."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_course import plots
from keras_course.errors import CourseError

SIZES = {f"batch size {4**k}": 0.1 + np.exp(-np.arange(9) / 2**k) for k in range(5)}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def drawn(axes: Axes) -> dict[str, np.ndarray]:
    return {str(line.get_label()): line.get_xydata() for line in axes.lines if not line.get_label().startswith("_")}


def test_curves_show_the_losses_over_their_index_or_a_given_x() -> None:
    figure = plots.loss_curves({"a": [4.0, 2.0, 1.0], "b": ([0.5, 2.5], [3.0, 2.0])}, x_label="step", loss_label="mse")
    (axes,) = figure.axes
    np.testing.assert_array_equal(drawn(axes)["a"], [[0, 4], [1, 2], [2, 1]])
    np.testing.assert_array_equal(drawn(axes)["b"], [[0.5, 3], [2.5, 2]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "mse")


def test_question_and_answer_have_the_same_curves_and_letters_and_only_the_answer_has_names() -> None:
    question = plots.loss_curves(SIZES, legend=False, question="Which curve has the largest batch size?", ordered=True)
    answer = plots.loss_curves(SIZES, ordered=True)
    assert question.get_suptitle() == "Which curve has the largest batch size?"
    assert sorted(texts(question)) == ["A", "B", "C", "D", "E"]
    letters = {text.split("  ")[1]: text.split("  ")[0] for text in texts(answer)}
    assert list(letters) == list(SIZES)
    for name, losses in SIZES.items():
        np.testing.assert_array_equal(drawn(answer.axes[0])[name][:, 1], losses)
        np.testing.assert_array_equal(drawn(question.axes[0])[letters[name]][:, 1], losses)
    everything = [text.get_text() for text in question.findobj(lambda artist: hasattr(artist, "get_text"))]
    assert not [text for text in everything if "batch size " in text and "?" not in text]
    assert question.axes[0].get_ylim() == answer.axes[0].get_ylim()


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7])
@pytest.mark.parametrize("name", ["learning rate", "batch size", "optimizer"])
def test_letters_are_not_in_the_order_of_the_names(name: str, count: int) -> None:
    figure = plots.loss_curves({f"{name} {k}": [1.0, 0.5] for k in range(count)}, legend=False)
    letters = texts(figure)
    assert sorted(letters) == list("ABCDEFG"[:count])
    assert letters != sorted(letters)
    assert letters != sorted(letters, reverse=True)


def test_colors_follow_the_letters_in_a_question_and_the_order_in_its_answer() -> None:
    question = plots.loss_curves(SIZES, legend=False, ordered=True).axes[0]
    answer = plots.loss_curves(SIZES, ordered=True).axes[0]
    by_letter = [line.get_color() for line in sorted(question.lines, key=lambda line: str(line.get_label()))][:5]
    assert by_letter == [line.get_color() for line in plots.loss_curves({x: [1, 2] for x in "abcde"}).axes[0].lines[:5]]
    brightness = [
        np.dot([int(line.get_color()[i : i + 2], 16) for i in (1, 3, 5)], [0.2126, 0.7152, 0.0722])
        for line in answer.lines[:5]
    ]
    assert brightness == sorted(brightness)


def test_tags_do_not_overlap_when_all_curves_end_at_the_same_loss() -> None:
    figure = plots.loss_curves({f"seed {k}": [1.0 + k, 0.5] for k in range(7)})
    heights = sorted(text.get_position()[1] for text in figure.axes[0].texts)
    assert min(np.diff(heights)) > 0.08  # of the panel
    assert heights[0] >= 0
    assert heights[-1] <= 1


def test_tag_has_the_height_of_the_end_of_its_curve() -> None:
    for losses in ([8.0, 2.0, 4.0], [100.0, 1.0, 10.0]):  # on a linear and on a logarithmic axis
        (axes,) = plots.loss_curves({"a": losses}).axes
        (tag,) = axes.texts
        end = axes.transAxes.inverted().transform(axes.transData.transform((2, losses[-1])))
        assert tag.get_position()[1] == pytest.approx(end[1])


def test_diverging_curve_ends_in_a_cross_and_does_not_change_the_axis() -> None:
    exploding = [2.0, 10.0, 1e3, 1e30, np.inf, np.nan]
    figure = plots.loss_curves({"good": [2.0, 1.5, 1.2, 1.1], "bad": exploding})
    (axes,) = figure.axes
    top = axes.get_ylim()[1]
    assert 2.0 < top < 3.0
    curve = drawn(axes)["bad"]
    # Linear axis: on the way from (0, 2) to (1, 10) the loss is at the top at x = (top - 2) / 8.
    np.testing.assert_allclose(curve, [[0, 2], [(top - 2) / 8, top]])
    (cross,) = [line for line in axes.lines if line.get_marker() == "x"]
    np.testing.assert_allclose(cross.get_xydata(), curve[-1:])
    assert [text for text in texts(figure) if "diverged" in text] in (["A  bad (diverged)"], ["B  bad (diverged)"])


def test_crossing_is_interpolated_logarithmically_on_a_logarithmic_axis() -> None:
    (axes,) = plots.loss_curves({"good": [1.0, 0.01], "bad": [1.0, 1e4]}).axes
    top = axes.get_ylim()[1]
    np.testing.assert_allclose(drawn(axes)["bad"], [[0, 1], [np.log10(top) / 4, top]])


def test_training_that_stops_at_nan_ends_in_a_cross_at_its_last_loss() -> None:
    (axes,) = plots.loss_curves({"good": [2.0, 1.5, 1.2], "bad": [2.0, 1.8, np.nan]}).axes
    (cross,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert cross.get_xydata().tolist() == [[1, 1.8]]


def test_shorter_curve_and_high_plateau_do_not_count_as_divergence() -> None:
    figure = plots.loss_curves({"short": [2.0, 1.0], "plateau": [2.0, 2.3, 2.3, 2.3]})
    assert not [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert not [text for text in texts(figure) if "diverged" in text]


def test_axis_shows_the_growth_when_all_curves_diverge() -> None:
    (axes,) = plots.loss_curves({"a": [2.0, 6.0, 18.0, 54.0], "b": [2.0, 200.0]}).axes
    assert 18.0 < axes.get_ylim()[1] < 54.0


def test_validation_is_dashed_in_the_color_of_its_training() -> None:
    figure = plots.loss_curves({"a": [4.0, 2.0], "b": [4.0, 3.0]}, validation={"b": [4.0, 3.5]})
    (dashed,) = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    np.testing.assert_array_equal(dashed.get_ydata(), [4.0, 3.5])
    assert dashed.get_color() == next(line.get_color() for line in figure.axes[0].lines if line.get_label() == "b")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["training", "validation"]


@pytest.mark.parametrize(
    ("losses", "log", "scale"),
    [
        ([2.0, 0.05], None, "log"),
        ([2.0, 0.2], None, "linear"),
        ([2.0, 0.0], None, "linear"),
        ([2.0, 0.05], False, "linear"),
        ([2.0, 0.2], True, "log"),
    ],
)
def test_axis_is_logarithmic_for_a_wide_range_or_on_request(losses: list[float], log: bool | None, scale: str) -> None:
    assert plots.loss_curves({"a": losses}, log=log).axes[0].get_yscale() == scale


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.loss_curves({}), "curves is {}; give at least one"),
        (lambda: plots.loss_curves({"a": []}), r"curves\['a'\] has 0 values, 0 of them finite"),
        (lambda: plots.loss_curves({"a": [np.nan, np.inf]}), r"curves\['a'\] has 2 values, 0 of them finite"),
        (lambda: plots.loss_curves({"a": ["high"]}), r"curves\['a'\] is \['high'\] and not all numbers"),
        (lambda: plots.loss_curves({"a": [[1.0, 2.0]]}), r"curves\['a'\] has shape \(1, 2\)"),
        (lambda: plots.loss_curves({"a": ([0, 1], [1.0])}), "have lengths 2 and 1"),
        (lambda: plots.loss_curves({"a": ([0, np.nan], [1.0, 2.0])}), r"x of curves\['a'\] has 2 values, 1 of them"),
        (lambda: plots.loss_curves({"a": (1.0, 2.0, 3.0)}), "is a tuple of 3; give"),
        (
            lambda: plots.loss_curves({"a": [1.0]}, validation={"b": [1.0]}),
            "validation has 'b', which is not in curves",
        ),
        (lambda: plots.loss_curves({"a": [1.0, 0.0]}, log=True), "log is True and the smallest loss is 0"),
        (lambda: plots.loss_curves({str(k): [1.0] for k in range(27)}), "curves are 27, one letter each"),
    ],
)
def test_error_names_the_bad_input(draw: Callable[[], object], message: str) -> None:
    with pytest.raises(CourseError, match=message):
        draw()
