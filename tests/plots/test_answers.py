"""The figure of photos with their predictions."""

import numpy as np
import pytest

from keras_course import plots
from keras_course.errors import CourseError

PHOTO = np.arange(240, dtype="uint8").reshape(20, 12, 1)
PREPARED = np.full((1, 28, 28, 1), 77, "uint8")
ANSWER = [("B", 0.625), ("F", 0.25), ("W", 0.125)]


def test_photo_and_input_of_the_model_are_shown_unchanged():
    left, middle, _ = plots.answers([PHOTO], PREPARED, [ANSWER], ["b.jpg"]).axes
    np.testing.assert_array_equal(left.images[0].get_array(), PHOTO[:, :, 0])
    np.testing.assert_array_equal(middle.images[0].get_array(), PREPARED[0, :, :, 0])
    assert left.get_title() == "b.jpg"
    assert middle.get_title() == "28 × 28 pixels"


def test_bars_have_the_length_of_the_probabilities_and_the_first_is_on_top():
    right = plots.answers([PHOTO], PREPARED, [ANSWER], ["b.jpg"]).axes[2]
    assert [bar.get_width() for bar in right.patches] == [62.5, 25.0, 12.5]
    assert [text.get_text() for text in right.get_yticklabels()] == ["B", "F", "W"]
    assert [text.get_text() for text in right.texts] == ["62.5 %", "25.0 %", "12.5 %"]
    lowest, highest = right.get_ylim()
    assert lowest > highest, "place 0 has to be above place 1"


def test_each_photo_has_its_own_row():
    figure = plots.answers([PHOTO, PHOTO], np.repeat(PREPARED, 2, axis=0), [ANSWER, ANSWER[:1]], ["one", "two"])
    assert [axes.get_title() for axes in figure.axes[::3]] == ["one", "two"]
    assert [len(axes.patches) for axes in figure.axes[2::3]] == [3, 1]


@pytest.mark.parametrize(
    ("photos", "prepared", "names", "message"),
    [
        ([PHOTO], PREPARED, ["a", "b"], "1 photos, 1 prepared, 1 answers and 2 names"),
        ([], PREPARED, ["a"], "0 photos"),
        ([PHOTO.astype("float32")], PREPARED, ["a"], "float32"),
        ([PHOTO], PREPARED[0], ["a"], "give uint8 of shape"),
    ],
)
def test_arguments_that_do_not_match_are_refused(photos, prepared, names, message):
    with pytest.raises(CourseError, match=message):
        plots.answers(photos, prepared, [ANSWER], names)
