import numpy as np
import pytest

from keras_course import plots
from keras_course.errors import CourseError

WAYS = {"head": (94.25, 2.0), "last layers": (96.0, 150.0), "everything": (97.5, 412.4)}


def test_each_way_has_a_point_in_both_panels_and_its_numbers_beside():
    left, right = plots.comparison(WAYS, cost="minutes").axes
    for axes, place in ((left, 0), (right, 1)):
        np.testing.assert_allclose(axes.lines[0].get_xdata(), [way[place] for way in WAYS.values()])
        assert axes.lines[0].get_ydata().tolist() == [0, 1, 2]
    assert [text.get_text() for text in left.texts] == ["94.25", "96.00", "97.50"]
    assert [text.get_text() for text in right.texts] == ["2", "150", "412.4"]
    assert [label.get_text() for label in left.get_yticklabels()] == list(WAYS)
    assert (left.get_xlabel(), right.get_xlabel()) == ("accuracy (%)", "minutes")
    assert right.get_xscale() == "log"
    bottom, top = left.get_ylim()
    assert bottom > top  # the first way is at the top


@pytest.mark.parametrize("ways", [{}, {"a": (101.0, 1.0)}, {"a": (-1.0, 1.0)}, {"a": (50.0, 0.0)}])
def test_what_cannot_be_compared_is_refused(ways):
    with pytest.raises(CourseError, match="ways"):
        plots.comparison(ways)


def test_one_way_alone_is_drawn():
    assert len(plots.comparison({"head": (100.0, 1.0)}).axes) == 2
