"""Points of a noisy line; the lessons test what is learned from them."""

import math

import numpy as np
import pytest

from keras_course.datasets import noisy_line
from keras_course.errors import CourseError


def test_the_noise_is_normal_with_the_given_standard_deviation():
    x, y = noisy_line.load_data(count=20_000, noise=0.3)
    errors = y.astype("float64") - (2 * x.astype("float64") - 1)
    assert errors.mean() == pytest.approx(0, abs=0.01)
    assert errors.std() == pytest.approx(0.3, abs=0.01)
    assert (np.abs(errors) < 0.3).mean() == pytest.approx(0.683, abs=0.01)


@pytest.mark.parametrize("noise", [-0.1, math.nan, math.inf])
def test_noise_that_is_no_standard_deviation_is_refused(noise):
    with pytest.raises(CourseError, match=f"noise is {noise}; give a standard deviation from 0 up"):
        noisy_line.load_data(noise=noise)
