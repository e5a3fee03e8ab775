"""The table of optimizers against the textbook formulas and against Keras."""

import keras
import numpy as np
import pytest

from keras_course.errors import CourseError
from keras_course.update_rules import UPDATE_RULES, UpdateRule, find_rule, update

KERAS = {
    "sgd": lambda rate: keras.optimizers.SGD(rate),
    "momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "adagrad": lambda rate: keras.optimizers.Adagrad(rate),
    "rmsprop": lambda rate: keras.optimizers.RMSprop(rate),
    "adam": lambda rate: keras.optimizers.Adam(rate),
}
GRADIENTS = np.array([[-3.0, 0.5, 0.0], [1.0, 0.5, 0.25], [0.1, -2.0, 0.0], [4.0, 0.5, 1e-4]])
START = np.array([1.0, -2.0, 0.5])
RATE = 0.05


def path_by_table(name):
    """Yields the parameters after each step along fixed gradients, by the table, in float64."""
    rule = UPDATE_RULES[name].numbers()
    parameter, velocity, square = START, np.zeros(3), np.full(3, UPDATE_RULES[name].square_start)
    for step, gradient in enumerate(GRADIENTS, start=1):
        parameter, velocity, square = update(
            parameter, gradient, velocity, square, rule=rule, learning_rate=RATE, step=float(step)
        )
        yield parameter


def path_by_textbook(name):
    """Yields the same parameters by the textbook formula of each method."""
    parameter, v, s = START.copy(), np.zeros(3), np.zeros(3)
    if name == "adagrad":
        s += 0.1  # Keras' initial value
    for t, g in enumerate(GRADIENTS, start=1):
        if name == "sgd":
            parameter = parameter - RATE * g
        elif name == "momentum":
            v = 0.9 * v - RATE * g
            parameter = parameter + v
        elif name == "adagrad":
            s = s + g**2
            parameter = parameter - RATE * g / np.sqrt(s + 1e-7)
        elif name == "rmsprop":
            s = 0.9 * s + 0.1 * g**2
            parameter = parameter - RATE * g / np.sqrt(s + 1e-7)
        else:
            v, s = 0.9 * v + 0.1 * g, 0.999 * s + 0.001 * g**2
            v_hat, s_hat = v / (1 - 0.9**t), s / (1 - 0.999**t)
            # Keras adds epsilon to the root before the bias correction
            parameter = parameter - RATE * v_hat / (np.sqrt(s_hat) + 1e-7 / np.sqrt(1 - 0.999**t))
        yield parameter


@pytest.mark.parametrize("name", UPDATE_RULES)
def test_rules_equal_the_textbook_formulas(name):
    for found, expected in zip(path_by_table(name), path_by_textbook(name), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", UPDATE_RULES)
def test_rules_equal_keras(name):
    variable = keras.Variable(START.astype("float32"))
    optimizer = KERAS[name](RATE)
    optimizer.build([variable])
    for found, gradient in zip(path_by_table(name), GRADIENTS, strict=True):
        optimizer.apply([keras.ops.convert_to_tensor(gradient.astype("float32"))], [variable])
        np.testing.assert_allclose(found, keras.ops.convert_to_numpy(variable), rtol=1e-5)


def test_there_is_a_rule_for_each_optimizer_of_the_course():
    assert [rule.title for rule in UPDATE_RULES.values()] == ["SGD", "momentum", "Adagrad", "RMSprop", "Adam"]


def test_an_unknown_optimizer_is_explained():
    with pytest.raises(CourseError, match="optimizer is 'lion'; give one of sgd, momentum"):
        find_rule("lion")


def test_a_user_defined_rule_is_returned_unchanged():
    rule = UpdateRule(title="heavy ball", velocity_decay=0.5)
    assert find_rule(rule) is rule
