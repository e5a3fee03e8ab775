"""Errors for people: one line that names what is wrong."""

import pytest

from keras_course.errors import CourseError, check_fractions, reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("no such   operator\nhere"), "no such operator here"),
        (MemoryError(), "MemoryError"),
        (OSError(28, "No space left on device", "photo.jpg"), "No space left on device"),
    ],
)
def test_a_reason_is_one_line(error, reason):
    assert reason_of(error) == reason


def test_a_fraction_of_1_is_refused():
    check_fractions(dropout=0.0)
    with pytest.raises(CourseError, match=r"^dropout is 1\.0; give a fraction from 0 up to but not including 1$"):
        check_fractions(dropout=1.0)
