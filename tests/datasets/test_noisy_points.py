"""The noisy points: where they lie, how noisy they are, and that the seed decides them."""

import numpy as np
import pytest
import scipy.stats

from keras_course.datasets import noisy_points
from keras_course.errors import CourseError
from keras_course.randomness import normal, stream_key, uniform


def parts(**arguments):
    return [part.astype("float64") for pair in noisy_points.load_data(**arguments) for part in pair]


def test_the_curve_is_a_sine():
    x = np.linspace(-5, 5, 12).reshape(3, 4)
    np.testing.assert_allclose(noisy_points.truth(x), [[np.sin(3 * value / 2) for value in row] for row in x])


def test_shapes_and_types_fit_a_model_with_one_input_and_one_output():
    train, valid = noisy_points.load_data(count=7, valid_count=3)
    assert [part.shape for part in (*train, *valid)] == [(7, 1), (7, 1), (3, 1), (3, 1)]
    assert {part.dtype for part in (*train, *valid)} == {np.dtype("float32")}


@pytest.mark.parametrize("count", [1, 15, 1000])
def test_one_point_lies_in_each_cell_of_the_range(count):
    x = parts(count=count)[0][:, 0]
    edges = np.linspace(-3, 3, count + 1)
    assert np.histogram(x, edges)[0].tolist() == [1] * count
    assert (np.diff(x) > 0).all()


def test_within_its_cell_a_point_may_lie_anywhere():
    x = parts(count=5000)[0][:, 0]
    within = (x + 3) / 6 * 5000 - np.arange(5000)
    assert scipy.stats.kstest(within, "uniform").pvalue > 0.01


@pytest.mark.parametrize("noise", [0.1, 2.0])
def test_the_noise_is_normal_of_that_standard_deviation(noise):
    x_train, y_train, x_valid, y_valid = parts(count=5000, valid_count=5000, noise=noise)
    for x, y in ((x_train, y_train), (x_valid, y_valid)):
        errors = y - np.sin(1.5 * x)
        assert scipy.stats.kstest(errors[:, 0], "norm", args=(0, noise)).pvalue > 0.01


def test_without_noise_the_points_lie_on_the_curve():
    x, y, *_ = parts(noise=0)
    np.testing.assert_allclose(y, np.sin(1.5 * x), atol=1e-6)


def test_training_and_validation_are_independent():
    x_train, y_train, x_valid, y_valid = parts(count=2000, valid_count=2000)
    assert abs(np.corrcoef((x_train - x_valid)[:, 0], np.arange(2000))[0, 1]) < 0.1
    errors = [(y - np.sin(1.5 * x))[:, 0] for x, y in ((x_train, y_train), (x_valid, y_valid))]
    assert abs(np.corrcoef(errors)[0, 1]) < 0.1
    assert not np.isin(x_train, x_valid).any()


def test_the_seed_decides_the_points():
    for first, again, other in zip(parts(seed=1), parts(seed=1), parts(seed=2), strict=True):
        np.testing.assert_array_equal(first, again)
        assert not np.isin(first, other).any()


def test_the_points_are_draws_of_streams_of_their_own():
    """These names are what a run of an older version is repeated by."""
    for part, (x, y) in zip(("train", "valid"), noisy_points.load_data(count=6, valid_count=9, seed=3), strict=True):
        n = len(x)
        places = uniform(stream_key(3, "noisy_points", part, "x"), (n, 1)).astype("float64")
        expected = -3 + 6 * (np.arange(n)[:, None] + places) / n
        np.testing.assert_allclose(x, expected, rtol=1e-6)
        errors = normal(stream_key(3, "noisy_points", part, "noise"), (n, 1))
        np.testing.assert_allclose(y, np.sin(1.5 * expected) + 0.3 * errors, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count is 0; give"),
        ({"valid_count": 2.5}, "valid_count is 2.5; give"),
        ({"noise": -0.1}, "noise is -0.1; give"),
        ({"noise": float("nan")}, "noise is nan; give"),
        ({"seed": -1}, "seed is -1; give"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(CourseError, match=message):
        noisy_points.load_data(**arguments)
