"""TensorFlow alone: what a batch split over replicas draws, and what XLA cannot compile."""

import subprocess
import sys

PROGRAM = """
import contextlib, sys
import numpy as np, tensorflow as tf
count = int(sys.argv[1])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)]) if count > 1 else None
import keras
from keras_course.models import dense_classifier
with strategy.scope() if strategy else contextlib.nullcontext():
    model = dense_classifier(input_shape=(4, 4, 1), hidden=(64,), num_classes=3, dropout=0.5)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  jit_compile=False)
rng = np.random.default_rng(0)
x, y = rng.integers(0, 256, (32, 4, 4, 1)).astype("uint8"), rng.integers(0, 3, 32)
history = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
print(strategy.num_replicas_in_sync if strategy else 1, *history.history["loss"])
"""


def losses(replicas):
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(replicas)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    count, *values = output.splitlines()[-1].split()
    assert int(count) == replicas
    return [float(value) for value in values]


def test_dropout_of_a_split_batch_is_that_of_the_whole():
    """Two replicas with half a batch each lose what one loses, dropout and all."""
    together, apart = losses(1), losses(2)
    assert max(abs(a - b) for a, b in zip(together, apart, strict=True)) < 1e-5
