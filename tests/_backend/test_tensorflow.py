"""TensorFlow alone: what a batch split over replicas draws, and what XLA cannot compile."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from keras_course.training import evaluate, fit, predict_logits

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


def test_what_xla_cannot_compile_is_predicted_measured_and_trained_without_it():
    """Hashing goes through strings, which XLA does not know."""
    inputs = keras.Input((3,), dtype="int32")
    hashed = layers.Hashing(4, output_mode="multi_hot")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(hashed))
    x, y = np.arange(36, dtype="int32").reshape(12, 3), np.arange(12) % 2
    for count in (12, 5):
        np.testing.assert_allclose(predict_logits(model, x[:count]), model(x[:count]), atol=1e-6)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    before = evaluate(model, (x, y))["loss"]
    assert before == pytest.approx(float(loss(y, model(x))), abs=1e-6)
    history = fit(model, (x, y), (x, y), optimizer=keras.optimizers.SGD(0.1), epochs=2, batch_size=4, progress=False)
    assert history.way == "keras"
    assert history["val_loss"][-1] < before


def test_an_error_of_the_model_itself_comes_through():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.ops.reshape(inputs, (-1, 4)))
    with pytest.raises(Exception, match=r"(?i)reshape|elements"):
        predict_logits(model, np.zeros((3, 3), "float32"))
