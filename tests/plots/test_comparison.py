import numpy as np
import pytest

from keras_course import plots
from keras_course.errors import CourseError

WAYS = {"head": (94.25, 2.0), "last layers": (96.0, 150.0), "everything": (97.5, 412.4)}


def test_each_method_has_a_point_with_its_number_in_both_panels():
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
    assert bottom > top  # the first method is at the top


@pytest.mark.parametrize("ways", [{}, {"a": (101.0, 1.0)}, {"a": (-1.0, 1.0)}, {"a": (50.0, 0.0)}])
def test_numbers_out_of_range_are_refused(ways):
    with pytest.raises(CourseError, match="ways"):
        plots.comparison(ways)


def test_a_single_method_is_drawn():
    assert len(plots.comparison({"head": (100.0, 1.0)}).axes) == 2


def test_a_spread_is_a_line_through_the_point():
    left, right = plots.comparison(WAYS, spreads={"everything": 0.0, "head": 2.0, "last layers": 0.5}).axes
    ends = [segment[:, 0].tolist() for segment in left.collections[0].get_segments()]
    assert ends == [[92.25, 96.25], [95.5, 96.5], [97.5, 97.5]]
    assert [text.get_text() for text in left.texts] == ["94.25 ± 2.00", "96.00 ± 0.50", "97.50 ± 0.00"]
    assert not right.collections
    assert left.get_xlim()[0] < 92.25 < 97.5 < left.get_xlim()[1]


@pytest.mark.parametrize(
    ("spreads", "message"),
    [({"head": 1.0}, "spreads are of head; give those of head"), (dict.fromkeys(WAYS, -1.0), "spreads are")],
)
def test_spreads_that_do_not_fit_are_refused(spreads, message):
    with pytest.raises(CourseError, match=message):
        plots.comparison(WAYS, spreads=spreads)
