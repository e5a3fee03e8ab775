"""The LSTM of the compiled loop, against that of Keras."""

from importlib import import_module

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_course import _backend
from keras_course._backend.recurrent import lstm_replaced

lstm = import_module(f"keras_course._backend.{keras.backend.backend()}").lstm


@pytest.fixture
def calls():
    """The calls of the function that computes for the layers."""
    return []


def both_ways(layer, calls, *inputs, **settings):
    """Outputs and gradients of a layer by Keras, and by our function."""
    layer(*inputs, **settings)
    draw = np.random.default_rng(2)
    weights = [draw.normal(0, 0.7, weight.shape).astype("float32") for weight in layer.trainable_variables]
    factors = draw.normal(0, 1, 1000).astype("float32")

    def counted(*arguments):
        calls.append(arguments)
        return lstm(*arguments)

    def measured(tensors):
        own, rest = tensors[: len(weights)], tensors[len(weights) :]
        mapping = list(zip(layer.trainable_variables, own, strict=True))
        with keras.StatelessScope(mapping):
            outputs = keras.tree.flatten(layer(*rest, **settings))
        outputs = [ops.cast(output, "float32") for output in outputs]
        total = 0.0
        for output in outputs:  # each number has a factor of its own
            size = int(np.prod(output.shape))
            total = total + ops.sum(ops.reshape(output, (-1,)) * ops.convert_to_tensor(factors[:size]))
        return total, outputs

    def computed(replaced):
        tensors = [ops.convert_to_tensor(array) for array in (*weights, *inputs)]
        with lstm_replaced(counted, wanted=replaced):
            (_, outputs), gradients = _backend.value_and_grad(measured)(tensors)
        return [ops.convert_to_numpy(tensor) for tensor in (*outputs, *gradients)]

    return computed(replaced=False), computed(replaced=True)


def vectors(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"return_sequences": True},
        {"return_sequences": True, "return_state": True},
        {"go_backwards": True, "return_sequences": True},
        {"use_bias": False},
        {"unroll": True},
        {"dropout": 0.5, "recurrent_dropout": 0.5},  # only in training
    ],
    ids=str,
)
def test_outputs_and_gradients_are_those_of_keras(settings, calls):
    layer = layers.LSTM(4, **settings)
    keras_has, found = both_ways(layer, calls, vectors(3, 5, 2))
    assert len(calls) == 1
    assert np.abs(keras_has[-1]).max() > 0.1
    for one, other in zip(found, keras_has, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_an_initial_state_is_used_and_gets_a_gradient(calls):
    class Started(layers.Layer):
        def __init__(self):
            super().__init__()
            self.lstm = layers.LSTM(4, return_state=True)

        def call(self, x, h, c):
            return self.lstm(x, initial_state=[h, c])

    keras_has, found = both_ways(Started(), calls, vectors(3, 5, 2), vectors(3, 4), vectors(3, 4)[::-1].copy())
    assert len(calls) == 1
    for one, other in zip(found, keras_has, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_both_directions(calls):
    keras_has, found = both_ways(layers.Bidirectional(layers.LSTM(4, return_sequences=True)), calls, vectors(3, 5, 2))
    assert len(calls) == 2
    for one, other in zip(found, keras_has, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


class Derived(layers.LSTM):
    """A layer that may do something else."""


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (lambda: layers.LSTM(4), {"mask": np.array([[True] * 5, [False] * 2 + [True] * 3])}),
        (lambda: layers.LSTM(4, activation="relu"), {}),
        (lambda: layers.LSTM(4, recurrent_activation="hard_sigmoid"), {}),
        (lambda: layers.LSTM(4, dtype="mixed_bfloat16"), {}),
        (lambda: layers.GRU(4), {}),
        (lambda: layers.RNN(layers.LSTMCell(4)), {}),
        (lambda: Derived(4), {}),
    ],
    ids=["mask", "relu", "hard sigmoid", "16 bits", "GRU", "RNN", "derived"],
)
def test_all_other_layers_are_those_of_keras(make, settings, calls):
    x = vectors(2, 5, 3)
    layer = make()
    layer.build(x.shape)
    with lstm_replaced(lambda *arguments: calls.append(arguments), wanted=True):
        layer(x, **settings)
    assert not calls


def test_dropout_inside_is_that_of_keras(calls):
    with lstm_replaced(lambda *arguments: calls.append(arguments), wanted=True):
        layers.LSTM(4, dropout=0.5)(vectors(2, 5, 3), training=True)
        layers.LSTM(4, recurrent_dropout=0.5)(vectors(2, 5, 3), training=True)
    assert not calls


def test_afterward_keras_has_its_own_again(calls):
    native = layers.LSTM.inner_loop
    with pytest.raises(RuntimeError, match="a failure"), lstm_replaced(calls.append, wanted=True):
        raise RuntimeError("a failure")
    assert layers.LSTM.inner_loop is native
    with lstm_replaced(calls.append, wanted=False):
        assert layers.LSTM.inner_loop is native
