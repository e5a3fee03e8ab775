"""Which code may be traced."""

import functools
import json
import random

import keras
import numpy as np
import pytest
from keras import ops

from keras_course._backend.known_code import comes_from, find_untraceable

COUNTS = [0]
SCALE = ops.add  # a function of Keras, which does not change


def test_code_of_others_is_not_traced():
    known = [keras.layers.Dense(3, activation="relu"), keras.losses.MeanSquaredError()]
    assert find_untraceable(known) is None
    assert find_untraceable([*known, json.dumps]) == "the function 'dumps'"
    assert comes_from(keras.layers.Dense, "keras")
    assert not comes_from(json.dumps, "keras", "keras_course")


def squared(x):
    return ops.square(x)


def sum_of_squares(x, factor=2.0):
    return factor * ops.sum(squared(x)) if len(x.shape) else SCALE(x, x)


def at_random(x):
    return x * random.random()


def counting(x):
    COUNTS[0] += 1
    return x


def with_a_list(x, seen=[]):  # noqa: B006 - the list changes from call to call
    return x


def reading_a_list(x):
    return x + COUNTS[0]


def printing(x):
    print(x)
    return x


def from_numpy(x):
    return x * np.random.default_rng().normal()


class Loss:
    def measure(self, labels, outputs):
        return ops.sum(labels - outputs)


@pytest.mark.parametrize("function", [squared, sum_of_squares, functools.partial(sum_of_squares, factor=3.0)])
def test_a_function_of_its_arguments_alone_is_traced(function):
    assert find_untraceable([function]) is None


@pytest.mark.parametrize(
    "function", [at_random, counting, with_a_list, reading_a_list, printing, from_numpy], ids=lambda one: one.__name__
)
def test_a_function_that_may_differ_from_call_to_call_is_not_traced(function):
    for form in (function, functools.partial(function), functools.partial(ops.add, function)):
        assert find_untraceable([form]) == f"the function {function.__name__!r}"


def test_a_method_is_traced_if_its_code_and_its_object_allow_it():
    assert find_untraceable([Loss().measure]) is None
    assert find_untraceable([random.Random(0).choices]) == "the function 'choices'"
