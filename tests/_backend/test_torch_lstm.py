"""LSTM by the kernel of oneDNN, against Keras' layer."""

import keras
import numpy as np
import pytest
import torch
from keras import layers

from keras_course import _backend
from keras_course._backend import torch_lstm
from keras_course._backend.torch_lstm import lstm_by_onednn
from keras_course.training import fit

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the inputs of every call of the kernel."""
    shapes, lstm = [], torch_lstm.lstm

    def counted(x, *arguments):
        shapes.append(tuple(x.shape))
        return lstm(x, *arguments)

    monkeypatch.setattr(torch_lstm, "lstm", counted)
    return shapes


def both_ways(layer, *inputs):
    """Outputs and gradients of a layer by Keras, and with the kernel."""
    layer(*inputs)
    draw = np.random.default_rng(2)
    for variable in layer.trainable_variables:
        variable.assign(draw.normal(0, 0.7, variable.shape))
    found = []
    for wanted in (False, True):
        tensors = [torch.tensor(array, requires_grad=True) for array in inputs]
        with lstm_by_onednn(wanted=wanted):
            outputs = keras.tree.flatten(layer(*tensors))
        factors = [torch.tensor(np.random.default_rng(3).normal(size=output.shape)) for output in outputs]
        total = sum((output * factor).sum() for output, factor in zip(outputs, factors, strict=True))
        sources = [*tensors, *(variable.value for variable in layer.trainable_variables)]
        found.append([part.detach().numpy() for part in (*outputs, *torch.autograd.grad(total, sources))])
    return found


def assert_same(found, expected):
    assert np.abs(expected[-1]).max() > 0.1
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


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
    expected, found = both_ways(layer, vectors(3, 5, 2))
    assert calls == [(3, 5, 2)]
    assert_same(found, expected)


def test_an_initial_state_is_used_and_gets_a_gradient(calls):
    class Started(layers.Layer):
        def __init__(self):
            super().__init__()
            self.lstm = layers.LSTM(4, return_state=True)

        def call(self, x, h, c):
            return self.lstm(x, initial_state=[h, c])

    expected, found = both_ways(Started(), vectors(3, 5, 2), vectors(3, 4), vectors(3, 4)[::-1].copy())
    assert len(calls) == 1
    assert_same(found, expected)


def test_both_directions(calls):
    expected, found = both_ways(layers.Bidirectional(layers.LSTM(4, return_sequences=True)), vectors(3, 5, 2))
    assert len(calls) == 2
    assert_same(found, expected)


def test_compiled_programs_use_it(calls):
    tokens = keras.Input((5,), dtype="int32")
    model = keras.Model(tokens, layers.Dense(3)(layers.LSTM(4)(layers.Embedding(7, 2)(tokens))))
    data = (np.ones((8, 5), "int32"), np.zeros(8, "int32"))
    fit(model, data, epochs=2, batch_size=4, progress=False)
    assert calls == [(4, 5, 2)]
    expected = model(data[0]).detach().numpy()
    run = _backend.forward(model, frozen=True)
    for _ in range(2):
        np.testing.assert_allclose(run(data[0]), expected, atol=1e-6)
    assert calls == [(4, 5, 2), (8, 5, 2)]


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
        (lambda: layers.LSTM(4, stateful=True), {}),
        (lambda: Derived(4), {}),
    ],
    ids=["mask", "relu", "hard sigmoid", "16 bits", "GRU", "RNN", "stateful", "derived"],
)
def test_all_other_layers_are_those_of_keras(make, settings, calls):
    x = vectors(2, 5, 3)
    layer = make()
    layer.build(x.shape)
    with lstm_by_onednn(wanted=True):
        layer(x, **settings)
    assert not calls


def test_dropout_inside_is_that_of_keras(calls):
    with lstm_by_onednn(wanted=True):
        layers.LSTM(4, dropout=0.5)(vectors(2, 5, 3), training=True)
        layers.LSTM(4, recurrent_dropout=0.5)(vectors(2, 5, 3), training=True)
    assert not calls


def test_afterward_keras_has_its_own_again():
    native = layers.LSTM.inner_loop
    with pytest.raises(RuntimeError, match="a failure"), lstm_by_onednn(wanted=True):
        raise RuntimeError("a failure")
    assert layers.LSTM.inner_loop is native
    with lstm_by_onednn(wanted=False):
        assert layers.LSTM.inner_loop is native
