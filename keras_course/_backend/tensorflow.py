"""The course on TensorFlow: the training steps of one call are one ``while_loop``, compiled whole by XLA."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Metric = Callable[[Any, Any], Any]


def describe_devices() -> list[dict[str, Any]]:
    """Lists the devices that TensorFlow sees."""
    devices = []
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device) if device.device_type == "GPU" else {}
        name = details.get("device_name", device.device_type)
        devices.append({"name": name, "kind": device.device_type.lower(), "memory_bytes": None})
    return devices


def set_precision(precision: str) -> None:
    """Chooses how exact a float32 matrix product is on a GPU; TensorFlow's own default there is tf32."""
    tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")


def replica() -> Any:
    """Returns the number of this replica under a ``tf.distribute`` strategy, 0 without one."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return 0
    return context.replica_id_in_sync_group


def forward(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Compiles the forward pass of a model in inference mode."""
    logits = tf.function(lambda x: tf.cast(model(x, training=False), "float32"), jit_compile=True)
    programs: dict[Any, Any] = {}

    def run(x: np.ndarray) -> np.ndarray:
        batch = tf.constant(x)
        if (program := programs.get(x.shape)) is None:
            program = programs[x.shape] = logits.get_concrete_function(batch)
        return program(batch).numpy()

    return run


class TrainingLoop:
    """Runs training steps on the variables of the model and of the optimizer."""

    def __init__(
        self, model: keras.Model, optimizer: keras.Optimizer, loss: Metric, metrics: Mapping[str, Metric]
    ) -> None:
        variables = model.trainable_variables

        def step(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                logits = tf.cast(model(x, training=True), "float32")
                value = loss(y, logits) + sum(model.losses)
            # A sparse gradient would count a row that repeats in the batch differently from the other backends.
            gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(value, variables)]
            optimizer.apply(gradients, variables)
            sums = [tf.reduce_sum(tf.cast(metric(y, logits), "float32")) for metric in metrics.values()]
            return tf.stack([value, *sums])

        @tf.function(jit_compile=True)
        def steps(x: tf.Tensor, y: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
            def body(index: tf.Tensor, logs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                return index + 1, tf.tensor_scatter_nd_update(logs, [[index]], [step(x[index], y[index])])

            logs = tf.zeros((x.shape[0], 1 + len(metrics)))
            return tf.while_loop(lambda index, logs: index < count, body, (tf.constant(0), logs))[1]

        self._steps = steps
        self._programs: dict[Any, Any] = {}

    def run(self, x: np.ndarray, y: np.ndarray, count: int) -> Any:
        """Takes the first ``count`` steps of x (steps, batch, ...) and y (steps, batch, ...).

        Returns:
            An array (steps, 1 + metrics) on its way: the loss of each batch, and the sum of each metric over it.
        """
        arguments = tf.constant(x), tf.constant(y), tf.constant(count)
        shape = (x.shape, x.dtype, y.shape, y.dtype)
        if shape not in self._programs:
            self._programs[shape] = self._steps.get_concrete_function(*arguments)
        return self._programs[shape](*arguments)

    def load(self) -> None:
        """Has nothing to do: each call works on the Keras variables."""

    def sync(self) -> None:
        """Has nothing to do: each call leaves the weights in their Keras variables."""


training_loop = TrainingLoop
