"""The search for layers that make too much takes back what it changes in Keras, whoever searches at the same time."""

import threading
import time

import keras
from keras.src.ops.operation import Operation

from keras_course._backend import outputs


def test_a_search_that_waits_for_another_leaves_nothing_behind(monkeypatch):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    found = []
    search = threading.Thread(target=lambda: found.append(outputs.find_larger(model, 3)))
    original = Operation.__call__
    with outputs._search_lock:  # another search, in the middle of which Keras is not as it was
        monkeypatch.setattr(Operation, "__call__", lambda operation, *inputs, **settings: None)
        search.start()
        time.sleep(0.5)
        monkeypatch.undo()
    search.join()
    assert found == [None]
    assert Operation.__call__ is original


def test_a_large_output_is_found_and_suspected_from_known_shapes():
    repeated = keras.layers.RepeatVector(100, name="repeated")
    model = keras.Sequential([keras.Input((10,)), repeated, keras.layers.Flatten()])
    assert (outputs.find_larger(model, 999), outputs.find_larger(model, 1000)) == (("repeated", 1000), None)
    assert (outputs.may_be_larger(model, 999), outputs.may_be_larger(model, 100_000)) == (True, False)
