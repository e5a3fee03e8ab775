"""The training loops that an expert would write by hand in TensorFlow; ``training.py`` compares them with ``fit``.

``XLA step`` and ``graph step`` are the usual ``tf.function`` of one step, compiled by XLA or not; ``loop in XLA``
compiles a whole epoch into one program.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

LEARNING_RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-7


Loss = Callable[[list[tf.Variable], tf.Tensor, tf.Tensor], tf.Tensor]


def _loss(parameters: list[tf.Variable], x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    kernel1, bias1, kernel2, bias2, kernel3, bias3 = parameters
    hidden = tf.nn.relu(tf.cast(x, "float32") * (1 / 255) @ kernel1 + bias1)
    hidden = tf.nn.relu(hidden @ kernel2 + bias2)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, hidden @ kernel3 + bias3))


def make_epoch(
    variant: str, x: np.ndarray, y: np.ndarray, weights: list[np.ndarray], batch_size: int, *, loss_of: Loss = _loss
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that trains on the samples in a given order, and returns the loss of each step."""
    # int64 throughout: on a GPU, TensorFlow keeps int32 tensors in the host's memory
    samples, labels = tf.constant(x.reshape(len(x), -1)), tf.constant(y, "int64")
    parameters = [tf.Variable(array) for array in weights]
    momentums = [tf.Variable(tf.zeros_like(array)) for array in weights]
    velocities = [tf.Variable(tf.zeros_like(array)) for array in weights]
    count = tf.Variable(0.0)

    def step(x: tf.Tensor, y: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """Takes one step of Adam, with epsilon as in Keras."""
        with tf.GradientTape() as tape:
            loss = loss_of(parameters, tf.gather(x, batch), tf.gather(y, batch))
        gradients = tape.gradient(loss, parameters)
        count.assign_add(1.0)
        rate = LEARNING_RATE * tf.sqrt(1 - BETA_2**count) / (1 - BETA_1**count)
        for parameter, sparse, m, v in zip(parameters, gradients, momentums, velocities, strict=True):
            gradient = tf.convert_to_tensor(sparse)  # of an embedding: Adam as other backends have it moves all words
            m.assign_add((gradient - m) * (1 - BETA_1))
            v.assign_add((gradient * gradient - v) * (1 - BETA_2))
            parameter.assign_sub(rate * m / (tf.sqrt(v) + EPSILON))
        return loss

    if "loop in XLA" not in variant:
        one_step = tf.function(step, jit_compile="XLA" in variant)

        def epoch(order: np.ndarray) -> np.ndarray:
            whole, rest = divmod(len(order), batch_size)
            batches = tf.split(tf.constant(order, "int64"), [batch_size] * whole + [rest] * bool(rest))
            return tf.stack([one_step(samples, labels, batch) for batch in batches]).numpy()

        return epoch

    @tf.function(jit_compile=True)
    def loop(x: tf.Tensor, y: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
        whole = len(order) // batch_size * batch_size
        batches, rest = tf.reshape(order[:whole], (-1, batch_size)), order[whole:]
        # map_fn is a tf.while_loop that stores the result of each iteration; here the iterations are sequential
        losses = tf.map_fn(lambda batch: step(x, y, batch), batches, fn_output_signature="float32")
        return tf.concat([losses, [step(x, y, rest)]], axis=0) if len(rest) else losses

    return lambda order: loop(samples, labels, tf.constant(order, "int64")).numpy()
