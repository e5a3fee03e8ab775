"""The densely connected networks, against formulas and NumPy."""

from itertools import pairwise

import keras
import numpy as np
import pytest

from keras_course.errors import CourseError
from keras_course.models import dense_classifier, dense_regressor
from keras_course.randomness import stream_key, uniform
from keras_course.training import fit, predict_logits

SMALL = {"input_shape": (3, 3, 1), "hidden": (7, 5), "num_classes": 4}


def pictures(count, shape=(3, 3, 1)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def parameters(*units):
    return sum(inputs * outputs + outputs for inputs, outputs in pairwise(units))


def test_the_default_network_has_669_706_parameters():
    model = dense_classifier()
    assert parameters(28 * 28, 512, 512, 10) == 669_706
    assert model.count_params() == 669_706
    assert (model.input_shape, model.output_shape) == ((None, 28, 28, 1), (None, 10))


@pytest.mark.parametrize(("hidden", "classes"), [((), 2), ((3,), 10), ((8, 1, 4), 24)])
def test_any_number_and_size_of_hidden_layers(hidden, classes):
    model = dense_classifier(input_shape=(5, 4, 3), hidden=hidden, num_classes=classes)
    assert model.count_params() == parameters(60, *hidden, classes)


def test_layer_names_are_stable():
    names = [layer.name for layer in dense_classifier(dropout=0.1, **SMALL).layers]
    assert names == ["pictures", "pixels", "flatten", "hidden1", "dropout1", "hidden2", "dropout2", "logits"]
    names = [layer.name for layer in dense_classifier(name="mine", **SMALL).layers]
    assert names == ["pictures", "pixels", "flatten", "hidden1", "hidden2", "logits"]
    assert dense_classifier(**SMALL).name == "dense_classifier"
    assert dense_classifier(name="mine", **SMALL).name == "mine"


ACTIVATIONS = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "linear": lambda x: x}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("scale", [1 / 255, 1.0])
def test_logits_equal_numpy(activation, scale):
    model = dense_classifier(activation=activation, scale=scale, **SMALL)
    x = pictures(6)
    kernel1, bias1, kernel2, bias2, kernel3, bias3 = (weight.astype("float64") for weight in model.get_weights())
    function = ACTIVATIONS[activation]
    hidden = function(function(x.reshape(6, 9) * scale @ kernel1 + bias1) @ kernel2 + bias2)
    logits = predict_logits(model, x)
    np.testing.assert_allclose(logits, hidden @ kernel3 + bias3, rtol=1e-5, atol=1e-5)
    assert logits.min() < 0 or logits.sum(axis=1).max() > 1.01, "the outputs must not be probabilities"


def test_dropout_is_active_only_in_training():
    x = pictures(6)
    plain, dropping = dense_classifier(**SMALL), dense_classifier(dropout=0.5, **SMALL)
    np.testing.assert_array_equal(predict_logits(dropping, x), predict_logits(plain, x))
    in_training = keras.ops.convert_to_numpy(dropping(x, training=True))
    assert not np.allclose(in_training, predict_logits(plain, x))


def test_initial_weights_are_glorot_uniform_by_seed_and_name():
    model = dense_classifier(seed=5)
    weights = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    assert list(weights) == [
        f"{layer}/{weight}" for layer in ("hidden1", "hidden2", "logits") for weight in ("kernel", "bias")
    ]
    for name, shape in {"hidden1": (784, 512), "hidden2": (512, 512), "logits": (512, 10)}.items():
        kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
        assert (kernel.shape, kernel.dtype) == (shape, np.float32)
        limit = np.sqrt(6 / sum(shape))
        draws = uniform(stream_key(5, f"{name}/kernel"), shape).astype("float64")
        np.testing.assert_allclose(kernel, limit * (2 * draws - 1), rtol=1e-6, atol=1e-9)
        assert abs(kernel).max() == pytest.approx(limit, rel=1e-3)
        assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)
        assert not bias.any()


def test_the_weights_depend_only_on_the_seed():
    first, again, other = (dense_classifier(seed=seed, **SMALL).get_weights() for seed in (1, 1, 2))
    for weight, same, different in zip(first[::2], again[::2], other[::2], strict=True):
        np.testing.assert_array_equal(weight, same)
        assert not np.isclose(weight, different).any()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_every_weight_gets_a_gradient(dropout):
    model = dense_classifier(dropout=dropout, **SMALL)
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in model.trainable_variables]
    data = (pictures(32), np.arange(32, dtype="int32") % 4)
    fit(model, data, optimizer=keras.optimizers.SGD(1.0), epochs=1, batch_size=32, progress=False)
    assert len(model.trainable_variables) == 6
    for weight, old in zip(model.trainable_variables, before, strict=True):
        assert not np.array_equal(keras.ops.convert_to_numpy(weight), old), weight.path


@pytest.fixture
def half_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


def test_in_half_precision_weights_and_logits_stay_float32(half_precision):
    model = dense_classifier(**SMALL)
    assert keras.backend.standardize_dtype(model.get_layer("hidden1").compute_dtype) == "bfloat16"
    assert {weight.dtype for weight in model.get_weights()} == {np.dtype("float32")}
    assert keras.backend.standardize_dtype(model(pictures(2)).dtype) == "float32"
    data = (pictures(32), np.arange(32, dtype="int32") % 4)
    history = fit(model, data, optimizer=keras.optimizers.SGD(0.1), epochs=2, batch_size=16, progress=False)
    assert history["loss"][1] < history["loss"][0]
    logits = predict_logits(model, pictures(8))
    rounded = logits.view("uint32") & 0xFFFF == 0
    assert not rounded.all(), "the logits are rounded to bfloat16"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0; give"),
        ({"num_classes": 2.5}, "num_classes is 2.5"),
        ({"hidden": (8, -1)}, r"hidden\[1\] is -1"),
        ({"hidden": (8.0,)}, r"hidden\[0\] is 8.0"),
        ({"input_shape": (28, 0, 1)}, r"input_shape\[1\] is 0"),
        ({"input_shape": (None, 28, 1)}, r"input_shape\[0\] is None"),
        ({"dropout": 1.0}, "dropout is 1.0; give"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"dropout": 2, "hidden": ()}, "dropout is 2"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
    ],
)
def test_error_names_the_bad_argument(arguments, message):
    with pytest.raises(CourseError, match=message):
        dense_classifier(**arguments)


# --- Regression ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs", "hidden", "outputs"), [(1, (), 1), (1, (64, 64), 1), (3, (5,), 2)])
def test_a_regressor_with_any_hidden_layers(inputs, hidden, outputs):
    model = dense_regressor(input_size=inputs, hidden=hidden, num_outputs=outputs)
    assert model.count_params() == parameters(inputs, *hidden, outputs)
    assert (model.input_shape, model.output_shape) == ((None, inputs), (None, outputs))
    names = [layer.name for layer in model.layers]
    assert names == ["inputs", *(f"hidden{number}" for number in range(1, len(hidden) + 1)), "outputs"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_outputs_of_a_regressor_equal_numpy(activation):
    model = dense_regressor(input_size=3, hidden=(7, 5), activation=activation, num_outputs=2, seed=4)
    x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    kernel1, bias1, kernel2, bias2, kernel3, bias3 = (weight.astype("float64") for weight in model.get_weights())
    function = ACTIVATIONS[activation]
    expected = function(function(x @ kernel1 + bias1) @ kernel2 + bias2) @ kernel3 + bias3
    np.testing.assert_allclose(predict_logits(model, x), expected, rtol=1e-5, atol=1e-6)
    assert expected.min() < 0, "outputs of a regression can be negative"


def test_initial_weights_of_a_regressor_depend_on_seed_and_name():
    model = dense_regressor(input_size=2, hidden=(3,), seed=5)
    weights = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    assert list(weights) == ["hidden1/kernel", "hidden1/bias", "outputs/kernel", "outputs/bias"]
    for name, shape in {"hidden1": (2, 3), "outputs": (3, 1)}.items():
        draws = uniform(stream_key(5, f"{name}/kernel"), shape).astype("float64")
        np.testing.assert_allclose(weights[f"{name}/kernel"], np.sqrt(6 / sum(shape)) * (2 * draws - 1), rtol=1e-6)
        assert not weights[f"{name}/bias"].any()


def test_a_regressor_without_hidden_layers_finds_the_line_of_the_course():
    x, y = np.array([[1.0], [2.0]], "float32"), np.array([[3.0], [5.0]], "float32")
    model = dense_regressor(hidden=())
    data = (np.tile(x, (200, 1)), np.tile(y, (200, 1)))
    settings = {"optimizer": keras.optimizers.SGD(0.1), "loss": "mean_squared_error", "metrics": {}}
    history = fit(model, data, epochs=5, batch_size=2, progress=False, **settings)
    assert history["loss"][-1] < 1e-4
    kernel, bias = model.get_weights()
    assert (kernel.item(), bias.item()) == (pytest.approx(2, abs=0.02), pytest.approx(1, abs=0.03))


def test_in_half_precision_the_outputs_of_a_regressor_stay_float32(half_precision):
    model = dense_regressor(hidden=(4,))
    assert keras.backend.standardize_dtype(model.get_layer("hidden1").compute_dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(model(np.ones((2, 1), "float32")).dtype) == "float32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": 0}, "input_size is 0; give"),
        ({"num_outputs": -1}, "num_outputs is -1; give"),
        ({"hidden": (8, 0)}, r"hidden\[1\] is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_error_names_the_bad_argument_of_a_regressor(arguments, message):
    with pytest.raises(CourseError, match=message):
        dense_regressor(**arguments)
