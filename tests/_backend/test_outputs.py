"""The search for layers that make too much takes back what it changes in Keras, whoever searches at the same time."""

import threading
import time

import keras
import pytest
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


def model_of(compute, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, compute(*inputs))


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("model", "size"),
    [
        # each element is compared with each of the others
        pytest.param(
            lambda: model_of(keras.ops.isin, (4,), (3,)),
            4 * 3,
            marks=pytest.mark.skipif(
                keras.backend.backend() == "tensorflow", reason="there Keras' isin works only outside of models"
            ),
        ),
        # the pairs (a, c) are computed before the sum over d: at most all combinations
        (lambda: model_of(lambda a, c, d: keras.ops.einsum("ba,bc,bd->b", a, c, d), (4,), (5,), (6,)), 4 * 5 * 6),
        # a kernel of 30 × 30 for each of 2 channels, and a picture of 5 × 5
        (lambda: model_of(lambda x: keras.ops.image.gaussian_blur(x, (30, 30)), (5, 5, 2)), 30 * 30 * 2),
    ],
)
def test_an_intermediate_result_that_is_larger_than_the_output_counts(model, size):
    model = model()
    assert outputs.find_larger(model, size) is None
    assert outputs.find_larger(model, size - 1)[1] == size


@pytest.mark.one_backend
def test_several_lengths_are_tried_for_a_side_that_may_have_any():
    """224 numbers do not fit into 3 × 200, and 600 do."""
    model = keras.Sequential([keras.Input((None,)), keras.layers.Reshape((3, 200), name="rows")])
    assert outputs.find_larger(model, 600) is None
    assert outputs.find_larger(model, 599) == ("rows", 600)
    impossible = keras.Sequential([keras.Input((None,)), keras.layers.Reshape((7, 11))])
    with pytest.raises(ValueError, match="total size"):
        outputs.find_larger(impossible, 600)


@pytest.mark.one_backend
def test_a_model_that_is_no_graph_is_not_suspected():
    class Own(keras.Model):
        def call(self, x):
            return x

    assert not outputs.may_be_larger(Own(), 10)
