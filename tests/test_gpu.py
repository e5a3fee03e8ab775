"""Tests for an NVIDIA GPU: `pytest -m gpu` on a machine that has one."""

import keras
import numpy as np
import pytest

from keras_course import _backend, randomness
from keras_course.models import dense_classifier
from keras_course.training import compare, fit, predict_logits

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def float32_on_gpu():
    if _backend.device_in_use() == "cpu":
        pytest.skip("no GPU here")
    _backend.configure("float32")


def labeled_pictures(count=2048):
    """Returns noisy pictures and their labels: the brighter half."""
    key = randomness.stream_key(0, "pictures")
    labels = randomness.integers(key, (count,), 2)
    pictures = 200 * randomness.uniform(key, (count, 8, 8, 1), step=1)
    pictures[labels == 1, :4] += 55
    return pictures.astype("uint8"), labels


def numpy_curve(model, x, y, *, batch_size, learning_rate):
    """Returns the losses of plain SGD on a network with one hidden tanh layer, in float64."""
    w1, b1, w2, b2 = (array.astype("float64") for array in model.get_weights())
    order = randomness.permutation(randomness.stream_key(0, "shuffle"), len(x), step=0)
    losses = []
    for start in range(0, len(x), batch_size):
        batch = order[start : start + batch_size]
        pixels = x[batch].reshape(len(batch), -1) / 255
        hidden = np.tanh(pixels @ w1 + b1)
        logits = hidden @ w2 + b2
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        losses.append(-np.log(probabilities[np.arange(len(batch)), y[batch]]).mean())
        error = (probabilities - np.eye(2)[y[batch]]) / len(batch)
        back = error @ w2.T * (1 - hidden**2)
        w2 -= learning_rate * hidden.T @ error
        b2 -= learning_rate * error.sum(axis=0)
        w1 -= learning_rate * pixels.T @ back
        b1 -= learning_rate * back.sum(axis=0)
    return np.array(losses)


class Losses(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])


def test_random_numbers_equal_those_of_the_host():
    key = randomness.stream_key(0, "gpu")
    for draw in (randomness.random_bits, randomness.uniform):
        on_device = keras.ops.convert_to_numpy(draw(key, (64, 1001), step=3, xp=keras.ops))
        np.testing.assert_array_equal(on_device, draw(key, (64, 1001), step=3))
    order = keras.ops.convert_to_numpy(randomness.permutation(key, 60_000, xp=keras.ops))
    np.testing.assert_array_equal(order, randomness.permutation(key, 60_000))


def test_losses_equal_numpy():
    x, y = labeled_pictures()
    model = dense_classifier(input_shape=(8, 8, 1), hidden=(32,), num_classes=2, activation="tanh")
    expected = numpy_curve(model, x, y, batch_size=32, learning_rate=0.1)
    losses = Losses()
    fit(model, (x, y), optimizer=keras.optimizers.SGD(0.1), epochs=1, callbacks=[losses], progress=False)
    np.testing.assert_allclose(losses.losses, expected, atol=1e-5)


def test_adam_with_dropout_and_a_smaller_last_batch():
    x, y = labeled_pictures(1000)
    model = dense_classifier(input_shape=(8, 8, 1), hidden=(64,), num_classes=2, dropout=0.2)
    history = fit(model, (x, y), (x, y), epochs=5, batch_size=48, progress=False)
    assert history["val_accuracy"][-1] > 0.95
    assert (predict_logits(model, x).argmax(axis=1) == y).mean() == pytest.approx(history["val_accuracy"][-1])


def test_training_runs_on_the_gpu():
    """Also in half precision."""
    assert _backend.device_in_use().startswith("gpu: ")
    _backend.configure("bfloat16")
    try:
        x, y = labeled_pictures(512)
        model = dense_classifier(input_shape=(8, 8, 1), hidden=(64,), num_classes=2)
        assert fit(model, (x, y), epochs=3, progress=False)["loss"][-1] < 0.6
    finally:
        _backend.configure("float32")


def test_compare_equals_numpy():
    x, y = labeled_pictures(512)
    model = dense_classifier(input_shape=(8, 8, 1), hidden=(32,), num_classes=2, activation="tanh")
    expected = numpy_curve(model, x, y, batch_size=32, learning_rate=0.1)
    loss = "sparse_categorical_crossentropy"
    family = compare(model, (x, y), loss=loss, learning_rate=[0.1, 0.01], batch_size=32, epochs=1)
    np.testing.assert_allclose(family["learning rate 0.1"].losses, expected, atol=1e-5)
