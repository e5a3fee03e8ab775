"""Checks of numbers, ranges and switches."""

import json
import math

import numpy as np
import pytest

from keras_course import arguments
from keras_course.errors import CourseError


@pytest.mark.parametrize(
    "value", [2, 2.0, np.int8(2), np.uint64(2), np.float16(2), np.float32(2), np.array(2), np.array(2.0)], ids=repr
)
def test_numpy_numbers_are_converted_to_python(value):
    found = arguments.number("n", value, 0, 9, "a number")
    assert found == 2
    assert type(found) in (int, float)
    assert json.loads(json.dumps(found)) == 2


INVALID_NUMBERS = [
    True,
    np.True_,
    None,
    "2",
    b"2",
    [2],
    (2,),
    np.array([2]),
    math.nan,
    math.inf,
    np.float32("nan"),
    2j,
    pytest.param(10**400, id="10**400"),
    {},
    -1,
    10,
]


@pytest.mark.parametrize("value", INVALID_NUMBERS, ids=repr)
def test_invalid_numbers_are_refused_in_one_line(value):
    with pytest.raises(CourseError, match=r"^n is .*; give a number from 0 to 9$"):
        arguments.number("n", value, 0, 9, "a number from 0 to 9")


@pytest.mark.parametrize("value", [*INVALID_NUMBERS[:-2], 0, 2.0, np.float64(2)], ids=repr)
def test_invalid_whole_numbers_are_refused(value):
    with pytest.raises(CourseError, match=r"^n is .*; give a whole number"):
        arguments.whole_number("n", value, 1, "a whole number")


@pytest.mark.parametrize("value", [(1, 2.5), [1, 2.5], np.array([1, 2.5]), (np.int64(1), np.float64(2.5))], ids=repr)
def test_ranges_are_converted_to_tuples_of_python_numbers(value):
    found = arguments.rising("r", value, 1, 3, "two rising numbers")
    assert found == (1, 2.5)
    assert {type(one) for one in found} <= {int, float}


@pytest.mark.parametrize(
    "value",
    [
        *(1, None, "12", {1, 2}, (), (1,), (1, 2, 3), (2, 1), (0.5, 2), (1, 4), (1, None), (True, 2), ("1", "2")),
        *((1, math.nan), (math.nan, 2), (1, math.inf), np.array([[1, 2]]), np.array([2, 1])),
    ],
    ids=repr,
)
def test_invalid_ranges_are_refused(value):
    with pytest.raises(CourseError, match=r"^r is .*; give two rising numbers$"):
        arguments.rising("r", value, 1, 3, "two rising numbers")


@pytest.mark.parametrize(
    "value", [True, False, 1, 0, 1.0, 0.0, np.True_, np.False_, np.int64(1), np.array(False)], ids=repr
)
def test_switches_are_converted_to_bool(value):
    assert arguments.switch("s", value) is bool(value)


@pytest.mark.parametrize("value", [None, "yes", 2, 0.5, -1, math.nan, [True], np.array([True]), b""], ids=repr)
def test_invalid_switches_are_refused(value):
    with pytest.raises(CourseError, match=r"^s is .*; give True or False$"):
        arguments.switch("s", value)


def test_a_long_value_is_shortened_to_one_line():
    text = arguments.shown(np.arange(900).reshape(30, 30))
    assert len(text) == 80
    assert "\n" not in text
    assert (arguments.shown(np.float64(0.5)), arguments.shown("20")) == ("0.5", "'20'")


def test_an_unknown_name_gets_a_suggestion():
    arguments.check_names(["b"], {"a": 1, "b": 2}, "f")
    with pytest.raises(CourseError, match=r"^brightnes is no argument of f; do you mean brightness\?$"):
        arguments.check_names(["brightnes"], ["degrees", "brightness"], "f")
    with pytest.raises(CourseError, match=r"^xyzzy is no argument of f; give some of degrees, brightness$"):
        arguments.check_names(["xyzzy"], ["degrees", "brightness"], "f")


def test_a_whole_number_of_numpy_becomes_one_of_python():
    assert type(arguments.whole_number("n", np.int64(10), 1, "a whole number")) is int


def test_angles_are_one_number_or_two():
    assert arguments.angles("degrees", np.float64(20), 90) == 20
    assert arguments.angles("degrees", [-10, 30], 90) == (-10, 30)
