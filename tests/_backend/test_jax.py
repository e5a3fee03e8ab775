"""JAX alone: what a batch split over devices draws."""

import subprocess
import sys

import jax

from keras_course._backend import jax as backend

PROGRAM = """
import os, sys
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={sys.argv[1]}"
import keras, numpy as np
if sys.argv[1] != "1":
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=keras.distribution.list_devices()))
from keras_course.models import dense_classifier
model = dense_classifier(input_shape=(4, 4, 1), hidden=(64,), num_classes=3, dropout=0.5)
model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
rng = np.random.default_rng(0)
x, y = rng.integers(0, 256, (32, 4, 4, 1)).astype("uint8"), rng.integers(0, 3, 32)
history = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
print(len(keras.distribution.list_devices()), *history.history["loss"])
"""


def losses(devices):
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(devices)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    count, *values = output.split()
    assert int(count) == devices
    return [float(value) for value in values]


def test_dropout_of_a_sharded_batch_is_that_of_the_whole():
    """Two devices with half a batch each lose what one device loses, dropout and all."""
    together, apart = losses(1), losses(2)
    assert max(abs(a - b) for a, b in zip(together, apart, strict=True)) < 1e-5


def test_an_xla_without_the_option_compiles_without_it(monkeypatch):
    native = jax.jit

    def jit(function, compiler_options=None, **settings):
        if compiler_options:
            raise RuntimeError(f"No such compile option: {next(iter(compiler_options))!r}")
        return native(function, **settings)

    monkeypatch.setattr(jax, "jit", jit)
    options = backend._compiler_options.__wrapped__()
    assert options == {}
    assert jax.jit(lambda x: 2 * x, compiler_options=options)(3) == 6
