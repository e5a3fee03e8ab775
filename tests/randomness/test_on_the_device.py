"""What a backend draws, eagerly and compiled, is what NumPy draws; test_generator.py tests that."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_course import randomness
from keras_course.randomness import stream_key

KEY = stream_key(0, "test")


def jitted(function):
    """Runs a function of no tensor inside a compiled program of whatever backend is there, and returns NumPy."""

    class Program(keras.layers.Layer):
        def call(self, x):
            return function(x)

    layer = Program()

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def call(self, x):
            return self.layer(x)

    model = Model()
    model.compile(jit_compile=keras.backend.backend() != "torch")
    return model.predict(np.zeros((1, 1), "int32"), batch_size=1, verbose=0)


DRAWS = {
    "random_bits": lambda xp, **where: randomness.random_bits(KEY, (7, 33), xp=xp, **where),
    "uniform": lambda xp, **where: randomness.uniform(KEY, (7, 33), xp=xp, **where),
    "integers": lambda xp, **where: randomness.integers(KEY, (7, 33), 1000, xp=xp, **where),
    "keep_mask": lambda xp, **where: randomness.keep_mask(KEY, (7, 33), 0.3, xp=xp, **where),
    "permutation": lambda xp, **where: randomness.permutation(KEY, 1001, xp=xp, **where),
}


class TestTwins:
    def test_threefry(self):
        counters = np.random.default_rng(0).integers(-(2**31), 2**31, (2, 50), dtype="int32")
        words = randomness.threefry_2x32(KEY, *map(ops.convert_to_tensor, counters), xp=ops)
        expected = randomness.threefry_2x32(KEY, *counters)
        np.testing.assert_array_equal([ops.convert_to_numpy(word) for word in words], expected)

    @pytest.mark.parametrize("name", DRAWS)
    def test_device_draws_the_bits_of_the_host(self, name):
        on_host = DRAWS[name](np, step=3)
        on_device = ops.convert_to_numpy(DRAWS[name](ops, step=ops.convert_to_tensor(np.int32(3))))
        assert on_device.dtype == on_host.dtype
        np.testing.assert_array_equal(on_device, on_host)

    @pytest.mark.parametrize("name", DRAWS)
    def test_compiled_program_draws_the_bits_of_the_host(self, name):
        on_host = DRAWS[name](np, step=5)
        on_device = jitted(lambda x: ops.expand_dims(DRAWS[name](ops, step=ops.sum(x) + 5), 0))[0]
        np.testing.assert_array_equal(on_device, on_host)

    def test_normal_agrees_to_the_last_bits(self):
        on_host = randomness.normal(KEY, (100, 101))
        on_device = ops.convert_to_numpy(randomness.normal(KEY, (100, 101), xp=ops))
        np.testing.assert_allclose(on_device, on_host, rtol=1e-5, atol=2e-6)

    @pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 1), (2, 3, 5)])
    def test_any_shape(self, shape):
        assert tuple(ops.shape(randomness.uniform(KEY, shape, xp=ops))) == shape
