"""The loops that an expert would write by hand in TensorFlow for the LSTM net; ``text.py`` races them against ``fit``.

The words of a sentence are read by a ``tf.while_loop`` (``scan``) or by as many copies of the cell (``unrolled``). A
step is a ``tf.function``, compiled by XLA or not; ``loop in XLA`` compiles a whole epoch into one program.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

LEARNING_RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-7


def make_epoch(
    variant: str, x: np.ndarray, y: np.ndarray, weights: list[np.ndarray], batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that trains on the samples in the order it is given, and returns the loss of each step."""
    # int64 throughout: on a GPU, TensorFlow keeps int32 tensors in the host's memory
    tokens, labels = tf.constant(x, "int64"), tf.constant(y, "int64")
    parameters = [tf.Variable(array) for array in weights]
    momentums = [tf.Variable(tf.zeros_like(array)) for array in weights]
    velocities = [tf.Variable(tf.zeros_like(array)) for array in weights]
    count = tf.Variable(0.0)
    read = _unrolled if "unrolled" in variant else _scanned

    def step(x: tf.Tensor, y: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """One step of Adam, with epsilon where Keras has it."""
        with tf.GradientTape() as tape:
            loss = _loss(parameters, tf.gather(x, batch), tf.gather(y, batch), read)
        gradients = tape.gradient(loss, parameters)
        count.assign_add(1.0)
        rate = LEARNING_RATE * tf.sqrt(1 - BETA_2**count) / (1 - BETA_1**count)
        for parameter, sparse, m, v in zip(parameters, gradients, momentums, velocities, strict=True):
            gradient = tf.convert_to_tensor(sparse)  # Adam as Keras' other backends have it moves all words
            m.assign_add((gradient - m) * (1 - BETA_1))
            v.assign_add((gradient * gradient - v) * (1 - BETA_2))
            parameter.assign_sub(rate * m / (tf.sqrt(v) + EPSILON))
        return loss

    if "loop in XLA" not in variant:
        one_step = tf.function(step, jit_compile="XLA" in variant)

        def epoch(order: np.ndarray) -> np.ndarray:
            whole, rest = divmod(len(order), batch_size)
            batches = tf.split(tf.constant(order, "int64"), [batch_size] * whole + [rest] * bool(rest))
            return tf.stack([one_step(tokens, labels, batch) for batch in batches]).numpy()

        return epoch

    @tf.function(jit_compile=True)
    def loop(x: tf.Tensor, y: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
        whole = len(order) // batch_size * batch_size
        batches, rest = tf.reshape(order[:whole], (-1, batch_size)), order[whole:]
        losses = tf.map_fn(lambda batch: step(x, y, batch), batches, fn_output_signature="float32")
        return tf.concat([losses, [step(x, y, rest)]], axis=0) if len(rest) else losses

    return lambda order: loop(tokens, labels, tf.constant(order, "int64")).numpy()


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
