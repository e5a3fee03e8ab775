"""The loops that an expert would write by hand in TensorFlow for the LSTM net; ``text.py`` races them against ``fit``.

The words of a sentence are read by a ``tf.while_loop`` (``scan``) or by as many copies of the cell (``unrolled``). A
step is a ``tf.function``, compiled by XLA or not; ``loop in XLA`` compiles a whole epoch into one program.
"""

from collections.abc import Callable
from functools import partial

import hand_written_tensorflow
import numpy as np
import tensorflow as tf


def make_epoch(
    variant: str, x: np.ndarray, y: np.ndarray, weights: list[np.ndarray], batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that trains on the samples in a given order, and returns the loss of each step."""
    loss_of = partial(_loss, read=_unrolled if "unrolled" in variant else _scanned)
    # int64: on a GPU, TensorFlow keeps int32 tensors in the host's memory
    return hand_written_tensorflow.make_epoch(variant, x.astype("int64"), y, weights, batch_size, loss_of=loss_of)


def _loss(parameters: list[tf.Variable], x: tf.Tensor, y: tf.Tensor, read: Callable[..., tf.Tensor]) -> tf.Tensor:
    table, kernel, recurrent_kernel, bias, dense_kernel, dense_bias = parameters
    vectors = tf.gather(table, tf.transpose(x))  # (time, batch, size)
    inputs = tf.matmul(tf.reshape(vectors, (-1, vectors.shape[-1])), kernel) + bias
    inputs = tf.reshape(inputs, (*vectors.shape[:2], -1))
    logits = read(inputs, recurrent_kernel) @ dense_kernel + dense_bias
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))


def _cell(inputs: tf.Tensor, h: tf.Tensor, c: tf.Tensor, recurrent_kernel: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    i, f, g, o = tf.split(inputs + h @ recurrent_kernel, 4, axis=1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(c), c


def _unrolled(inputs: tf.Tensor, recurrent_kernel: tf.Variable) -> tf.Tensor:
    """Returns the last state of the LSTM."""
    h = c = tf.zeros((inputs.shape[1], recurrent_kernel.shape[0]))
    for time in range(inputs.shape[0]):
        h, c = _cell(inputs[time], h, c, recurrent_kernel)
    return h


def _scanned(inputs: tf.Tensor, recurrent_kernel: tf.Variable) -> tf.Tensor:
    zeros = tf.zeros((inputs.shape[1], recurrent_kernel.shape[0]))
    times, kernel = inputs.shape[0], tf.convert_to_tensor(recurrent_kernel)
    _, h, _ = tf.while_loop(
        lambda time, h, c: time < times,
        lambda time, h, c: (time + 1, *_cell(inputs[time], h, c, kernel)),
        (tf.constant(0), zeros, zeros),
        maximum_iterations=times,
    )
    return h
