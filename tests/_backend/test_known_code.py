"""Which code may be traced."""

import json

import keras

from keras_course._backend.known_code import comes_from, find_untraceable


def test_code_of_others_is_not_traced():
    known = [keras.layers.Dense(3, activation="relu"), keras.losses.MeanSquaredError()]
    assert find_untraceable(known) is None
    assert find_untraceable([*known, json.dumps]) == "the function 'dumps'"
    assert comes_from(keras.layers.Dense, "keras")
    assert not comes_from(json.dumps, "keras", "keras_course")
