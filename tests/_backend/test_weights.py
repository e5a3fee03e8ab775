"""Models are built from their description without weights."""

import keras

from keras_course._backend import keras_private, weights


def net():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


def test_a_model_is_rebuilt_with_deferred_weights():
    model, deferred = weights.rebuild(weights.describe(net()))
    assert [tuple(weight.shape) for weight in deferred] == [(2, 1), (1,)]
    weights.create_weights(deferred)
    assert not keras.ops.convert_to_numpy(model.layers[0].kernel).any()  # no random numbers are drawn


def test_weights_that_fit_nowhere_are_deferred():
    with keras_private.deferred_variables() as deferred:
        keras.layers.Dense(10**6).build((None, 10**6))
    assert [tuple(weight.shape) for weight in deferred] == [(10**6, 10**6), (10**6,)]


def test_a_layer_that_is_used_twice_is_not_plain():
    inputs, dense = keras.Input((2,)), keras.layers.Dense(2)
    assert weights.is_plain(net())
    assert not weights.is_plain(keras.Model(inputs, dense(dense(inputs))))


def test_names_go_on_as_if_nothing_had_been_built():
    with weights.global_state_restored():
        name = keras.layers.Dense(1).name
    assert keras.layers.Dense(1).name == name
