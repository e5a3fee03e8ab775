"""The functions that each backend has for the training loops, against NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_course import _backend
from keras_course._backend import loops
from keras_course.errors import CourseError


def as_numpy(nest):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, nest)


def test_value_and_grad_differentiates_only_by_the_first_argument():
    def function(parameters, x, state):
        weight, bias, _ = parameters
        return ops.sum((weight * x + bias) ** 2), [state + 1.0]

    weight, bias, x = np.float32(3), np.float32(1), np.array([1, 2], "float32")
    tensors = [ops.convert_to_tensor(value) for value in (weight, bias, np.float32(7))]
    (value, beside), gradients = as_numpy(
        _backend.value_and_grad(function)(tensors, ops.convert_to_tensor(x), ops.convert_to_tensor(np.float32(4)))
    )
    error = weight * x + bias
    assert value == np.sum(error**2)
    assert beside == [5.0]
    assert gradients == [np.sum(2 * error * x), np.sum(2 * error), 0.0]


def test_vectorize_maps_over_the_first_axis_of_nests():
    draws = np.random.default_rng(0)
    matrices, vectors = draws.normal(size=(5, 3, 4)).astype("float32"), draws.normal(size=(5, 4)).astype("float32")

    def function(pair, number):
        matrix, vector = pair
        return [ops.matmul(matrix, vector), number + 1]

    tensors = [ops.convert_to_tensor(array) for array in (matrices, vectors)]
    numbers = ops.convert_to_tensor(np.arange(5, dtype="int32"))
    products, counted = as_numpy(_backend.vectorize(function)(tensors, numbers))
    np.testing.assert_allclose(products, np.einsum("rij,rj->ri", matrices, vectors), rtol=1e-5)
    assert counted.tolist() == [1, 2, 3, 4, 5]


def test_gradients_can_be_vectorized():
    cubes = _backend.vectorize(_backend.value_and_grad(lambda parameters: (ops.sum(parameters[0] ** 3), [])))
    points = np.array([[1.0, 2.0], [3.0, -1.0]], "float32")
    (values, _), (slopes,) = as_numpy(cubes([ops.convert_to_tensor(points)]))
    np.testing.assert_allclose(values, (points**3).sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(slopes, 3 * points**2, rtol=1e-6)


def test_an_error_in_a_loss_is_raised_unchanged():
    def loss(batch):
        raise CourseError("the loss is wrong")

    loop = _backend.training_loop([_backend.Update(loss)])
    loop.load()
    with pytest.raises(CourseError, match="the loss is wrong"):
        loop.run(np.ones((2, 1), "float32"), 2)


def test_the_arrays_of_a_nest_come_in_the_order_of_keys():
    nest = {"b": np.zeros(1), "a": (np.ones(1), [np.ones(2)])}
    assert [leaf.tolist() for leaf in loops.leaves(nest)] == [[1.0], [1.0, 1.0], [0.0]]


@pytest.mark.one_backend
def test_an_unknown_precision_is_refused():
    with pytest.raises(CourseError, match="precision is 'float64'; give one of float32, tf32, bfloat16"):
        _backend.configure("float64")
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.one_backend
@pytest.mark.parametrize("device", ["gpu", "gpu:0"])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch, device):
    cpu = {"name": "CPU", "kind": "cpu", "memory_bytes": None}
    gpu = {"name": "NVIDIA H200", "kind": "gpu", "memory_bytes": 2**37}
    monkeypatch.setitem(vars(_backend), "__getattr__", lambda name: lambda: found)
    found = [cpu]
    _backend.check_device("cpu")
    with pytest.raises(CourseError, match=f"--device is {device}, but no GPU is found; `keras-course doctor`"):
        _backend.check_device(device)
    found = [cpu, gpu]
    _backend.check_device(device)
    assert _backend.device_in_use() == "gpu: NVIDIA H200"
