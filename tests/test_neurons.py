"""Neurons against SciPy, Keras and finite differences, and linear chains against their product."""

import keras
import numpy as np
import pytest
import scipy.special
from keras import layers

from keras_course.errors import CourseError
from keras_course.models import ACTIVATIONS, linear_chain, multiply_out, neuron
from keras_course.models.neurons import sigmoid, sigmoid_slope, tanh_slope
from keras_course.training import predict_logits

X = np.linspace(-8, 8, 81)
EXPECTED = {
    "linear": lambda x: x,
    "relu": lambda x: x * (x > 0),
    "sigmoid": scipy.special.expit,
    "tanh": lambda x: 2 * scipy.special.expit(2 * x) - 1,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_activations_equal_their_formulas(name):
    for shape in ((81,), (9, 9), (81, 1)):
        value = ACTIVATIONS[name].value(X.reshape(shape))
        assert (value.shape, value.dtype) == (shape, np.float64)
        np.testing.assert_allclose(value, EXPECTED[name](X).reshape(shape), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", EXPECTED)
def test_activations_equal_keras(name):
    computed = keras.ops.convert_to_numpy(keras.activations.get(name)(X.astype("float32")))
    np.testing.assert_allclose(ACTIVATIONS[name].value(X), computed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", EXPECTED)
def test_slopes_equal_finite_differences(name):
    x = X[np.abs(X) > 0.01]  # relu has a corner at 0
    h = 1e-5
    value, slope = ACTIVATIONS[name]
    assert slope(x).dtype == np.float64
    np.testing.assert_allclose(slope(x), (value(x + h) - value(x - h)) / (2 * h), rtol=1e-6, atol=1e-9)


def test_the_slope_of_relu_at_0_is_0_as_in_every_framework():
    assert ACTIVATIONS["relu"].slope([0.0, -0.0]).tolist() == [0.0, 0.0]


def test_activations_are_exact_far_from_0():
    assert sigmoid([-1e308, 1e308]).tolist() == [0.0, 1.0]
    np.testing.assert_allclose(sigmoid([-700.0, -40.0]), np.exp([-700.0, -40.0]), rtol=1e-12)
    np.testing.assert_allclose(sigmoid_slope([-40.0, 40.0]), [np.exp(-40.0)] * 2, rtol=1e-12)
    np.testing.assert_allclose(tanh_slope([-20.0, 20.0]), [4 * np.exp(-40.0)] * 2, rtol=1e-12)
    assert sigmoid_slope([-1e308, 1e308]).tolist() == [0.0, 0.0]


def test_activations_return_a_new_array():
    for value, _ in ACTIVATIONS.values():
        x = np.ones(3)
        value(x)[:] = 7
        assert x.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_neuron_is_a_dense_layer_of_one_unit(name):
    random = np.random.default_rng(3)
    x, w, b = random.normal(size=(5, 4)), random.normal(size=4), 0.3
    by_hand = [EXPECTED[name](sum(w[i] * sample[i] for i in range(4)) + b) for sample in x]
    np.testing.assert_allclose(neuron(x, w, b, name), by_hand, rtol=1e-12)
    np.testing.assert_allclose(neuron(x[2], w, b, name), by_hand[2], rtol=1e-12)
    layer = layers.Dense(1, activation=name)
    layer.build((None, 4))
    layer.set_weights([w[:, None], np.array([b])])
    computed = keras.ops.convert_to_numpy(layer(x.astype("float32")))
    np.testing.assert_allclose(neuron(x, w, b, name), computed[:, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "w", "activation", "message"),
    [
        ([[1.0, 2.0]], [1.0], "linear", r"w has shape \(1,\) and x \(1, 2\); give one weight"),
        ([[1.0, 2.0]], [[1.0], [2.0]], "linear", r"w has shape \(2, 1\)"),
        (1.0, [1.0], "linear", r"x \(\)"),
        ([1.0], [1.0], "swish", "activation is 'swish'; give one of linear, relu, sigmoid, tanh"),
    ],
)
def test_a_neuron_names_bad_arguments(x, w, activation, message):
    with pytest.raises(CourseError, match=message):
        neuron(x, w, 0.0, activation)


# --- Chains ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs", "units"), [(1, (1,)), (3, (5, 4, 1)), (2, (6, 3)), (4, (1, 7, 2, 3))])
def test_multiply_out_gives_an_equivalent_linear_model(inputs, units):
    model = linear_chain(input_size=inputs, units=units, seed=2)
    weights, bias = multiply_out(model)
    assert (weights.shape, bias.shape) == ((inputs, units[-1]), (units[-1],))
    assert (weights.dtype, bias.dtype) == (np.float64, np.float64)
    x = np.random.default_rng(0).normal(scale=3, size=(50, inputs)).astype("float32")
    np.testing.assert_allclose(predict_logits(model, x), x @ weights + bias, rtol=1e-4, atol=1e-5)
    # and from the outputs for 0 and for each unit vector
    at_zero, *at_units = predict_logits(model, np.vstack([np.zeros(inputs), np.eye(inputs)]).astype("float32"))
    np.testing.assert_allclose(bias, at_zero, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(weights, np.array(at_units) - at_zero, rtol=1e-4, atol=1e-6)


def test_multiply_out_by_hand():
    model = linear_chain(input_size=1, units=(2, 1))
    model.set_weights([np.array([[2.0, 3.0]]), np.array([1.0, -1.0]), np.array([[5.0], [7.0]]), np.array([0.5])])
    weights, bias = multiply_out(model)
    assert (weights.tolist(), bias.tolist()) == ([[2 * 5 + 3 * 7]], [1 * 5 - 1 * 7 + 0.5])


def test_weights_and_biases_of_a_chain_depend_on_the_seed():
    first, again, other = (linear_chain(seed=seed) for seed in (1, 1, 2))
    assert [layer.name for layer in first.layers] == ["inputs", "linear1", "linear2", "linear3"]
    for weight, same, different in zip(*(model.get_weights() for model in (first, again, other)), strict=True):
        np.testing.assert_array_equal(weight, same)
        assert not np.isclose(weight, different).any()
        assert weight.all(), "biases must not be 0 in this test"


def test_multiply_out_without_bias_and_of_other_models():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, use_bias=False), layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(9, 3)).astype("float32")
    weights, bias = multiply_out(model)
    np.testing.assert_allclose(predict_logits(model, x), x @ weights + bias, rtol=1e-4, atol=1e-6)


def functional(build):
    inputs = keras.Input((3,))
    return keras.Model(inputs, build(inputs), name="mine")


def used_twice(inputs):
    layer = layers.Dense(3, name="again")
    return layer(layer(inputs))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda x: layers.Dense(2, activation="relu", name="bent")(x), "'bent' has the activation relu, so it is not"),
        (lambda x: layers.Dense(1)(layers.ReLU(name="corner")(x)), "layer 'corner' is a ReLU; give a chain of Dense"),
        (lambda x: layers.Add(name="sum")([layers.Dense(3)(x), x]), "layer 'sum' is a Add"),
        (used_twice, "the layers of 'mine' are not one chain"),
        (lambda x: [layers.Dense(1)(x), layers.Dense(1)(x)], "the layers of 'mine' are not one chain"),
    ],
)
def test_multiply_out_refuses_nonlinear_models(build, message):
    with pytest.raises(CourseError, match=message):
        multiply_out(functional(build))


def test_multiply_out_refuses_a_model_without_weights():
    with pytest.raises(CourseError, match="'later' has no weights yet"):
        multiply_out(keras.Sequential([layers.Dense(1)], name="later"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": ()}, "units is empty; give"),
        ({"units": (3, 0)}, r"units\[1\] is 0"),
        ({"input_size": 0}, "input_size is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_chain_names_bad_arguments(arguments, message):
    with pytest.raises(CourseError, match=message):
        linear_chain(**arguments)
