"""The students: how long they study, how often they pass, and that the seed decides them."""

import numpy as np
import pytest
import scipy.special
import scipy.stats

from keras_course.datasets import exam
from keras_course.errors import CourseError


def test_the_probability_is_a_sigmoid_around_four_hours():
    hours = np.linspace(0, 8, 9).reshape(3, 3)
    np.testing.assert_allclose(exam.truth(hours), scipy.special.expit(hours - 4))


def test_shapes_and_types_fit_a_model_with_one_input_and_one_output():
    train, valid = exam.load_data(count=7, valid_count=3)
    assert [part.shape for part in (*train, *valid)] == [(7, 1), (7, 1), (3, 1), (3, 1)]
    assert {part.dtype for part in (*train, *valid)} == {np.dtype("float32")}


def test_the_hours_are_spread_over_the_whole_range():
    (hours, _), _ = exam.load_data(count=16)
    assert np.histogram(hours, np.linspace(0, 8, 17))[0].tolist() == [1] * 16


def test_the_labels_are_yes_or_no_and_as_frequent_as_the_truth_says():
    (hours, passed), (hours_valid, passed_valid) = exam.load_data(count=8000, valid_count=8000)
    for x, y in ((hours, passed), (hours_valid, passed_valid)):
        assert set(y[:, 0].tolist()) == {0.0, 1.0}
        for hour in range(8):
            inside = (x >= hour) & (x < hour + 1)
            expected = scipy.special.expit(x[inside].astype("float64") - 4).sum()
            # five standard deviations of a binomial with a thousand students an hour
            assert abs(y[inside].sum() - expected) < 5 * np.sqrt(expected * (1 - expected / inside.sum()))
    assert (
        abs(np.corrcoef(passed[:, 0] - exam.truth(hours)[:, 0], passed_valid[:, 0] - exam.truth(hours_valid)[:, 0]))[
            0, 1
        ]
        < 0.05
    )


def test_the_default_students_overlap_so_that_no_threshold_is_always_right():
    for seed in range(5):
        (hours, passed), _ = exam.load_data(seed=seed)
        assert hours[passed == 1].min() < 4 < hours[passed == 0].max()


def test_the_seed_decides_the_students():
    first, again, other = (exam.load_data(seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.isin(first[0][0], other[0][0]).any()


def test_the_names_of_the_labels():
    assert exam.CLASS_NAMES == ("failed", "passed")


@pytest.mark.parametrize("argument", ["count", "valid_count"])
def test_bad_counts_are_named(argument):
    with pytest.raises(CourseError, match=f"{argument} is 0; give"):
        exam.load_data(**{argument: 0})
