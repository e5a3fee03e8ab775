"""The two lines of the course, against what is on its slides."""

import subprocess
import sys

import numpy as np
import pytest

from keras_course.datasets import lines
from keras_course.errors import CourseError


def mean_squared_error(name, m, b):
    x, y = (values.astype("float64") for values in lines.load_data(name))
    return np.mean((y - (m * x + b)) ** 2)


def test_the_two_points():
    x, y = lines.load_data("two_points")
    assert list(zip(x.tolist(), y.tolist(), strict=True)) == [(1, 3), (2, 5)]
    assert mean_squared_error("two_points", *lines.STARTS["two_points"]) == 2.5
    assert mean_squared_error("two_points", 2, 1) == 0


def test_the_ten_points():
    x, y = lines.load_data("ten_points")
    assert x.tolist() == list(range(10))
    assert y.tolist() == [10, 20, 25, 30, 40, 45, 40, 50, 60, 55]
    assert mean_squared_error("ten_points", *lines.STARTS["ten_points"]) == 475.5
    m, b = np.polyfit(x, y, 1)
    assert (m, b) == (pytest.approx(5.1212, abs=5e-5), pytest.approx(14.4545, abs=5e-5))
    assert np.sqrt(mean_squared_error("ten_points", m, b)) == pytest.approx(3.857, abs=5e-4)


def test_their_type_and_that_they_are_the_callers_own():
    assert lines.STARTS.keys() == {"two_points", "ten_points"}
    for name in lines.STARTS:
        x, y = lines.load_data(name)
        assert (x.dtype, y.dtype) == (np.float32, np.float32)
        assert x.shape == y.shape == (len(x),)
        x[:], y[:] = 0, 0
        assert all(values.any() for values in lines.load_data(name))


def test_the_first_line_is_the_default():
    assert lines.load_data()[1].tolist() == [3, 5]


def test_an_unknown_line_is_named():
    with pytest.raises(CourseError, match="name is 'three_points'; give one of two_points, ten_points"):
        lines.load_data("three_points")


def test_they_come_without_keras():
    code = "import sys; from keras_course.datasets import lines; lines.load_data(); print('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
