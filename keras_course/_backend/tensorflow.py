"""The course on TensorFlow: the training steps of one call are one ``while_loop``, compiled whole by XLA."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_course._backend import input_of, keras_private, loops, products, quiet, resampling, with_length
from keras_course._backend.loops import PATCHING, Update, shapes
from keras_course.errors import CourseError


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


def forward(model: keras.Model, *, frozen: bool = False) -> Callable[[Any], Any]:
    """Compiles the forward pass of a model in inference mode, which is the same whether it is frozen or not."""

    def call(x: Any) -> Any:
        # on a CPU XLA's depthwise convolution takes ten times as long
        on_cpu = not tf.config.list_physical_devices("GPU")
        with products.convolutions_replaced(wanted=on_cpu, names=("depthwise_conv", "separable_conv")):
            return keras.tree.map_structure(lambda output: tf.cast(output, "float32"), model(x, training=False))

    programs: dict[Any, Any] = {}

    def run(x: Any) -> Any:
        batch = keras.tree.map_structure(tf.constant, x)
        if (program := programs.get(shapes(x))) is not None:
            return keras.tree.map_structure(lambda output: output.numpy(), program(batch))
        program = tf.function(call, jit_compile=True).get_concrete_function(batch)
        try:
            outputs = program(batch)
        except (tf.errors.InvalidArgumentError, tf.errors.InternalError, tf.errors.UnimplementedError):
            # XLA lacks some operations, for example those on strings, with which Keras hashes
            program = tf.function(call).get_concrete_function(batch)
            outputs = program(batch)
        programs[shapes(x)] = program
        return keras.tree.map_structure(lambda output: output.numpy(), outputs)

    return run


def compiles_each_shape() -> bool:
    """Returns whether ``forward`` compiles a program for each length of a text."""
    return True


def export(model: keras.Model, path: Path, kind: str, *, longest: int | None = None) -> None:
    """Writes a model as ONNX, SavedModel or LiteRT, for a batch of any size; texts have a fixed length in LiteRT."""
    if kind == "litert":
        model = with_length(model, longest)
    _, shape, number_type = input_of(model)
    # Keras exports only a model that has been called
    model(tf.zeros((1, *(side or 1 for side in shape)), number_type))
    with warnings.catch_warnings(), quiet("tf2onnx"), _convertible(model, kind):
        warnings.simplefilter("ignore")  # about the code of the converters, not about the model
        model.export(str(path), format="tf_saved_model" if kind == "saved_model" else kind, verbose=False)


@contextmanager
def _convertible(model: keras.Model, kind: str) -> Iterator[None]:
    """Lets layers use operations that a format has: no erfc in ONNX, and no loops over steps in LiteRT."""
    layers = [layer for layer in keras_private.all_layers(model) if kind == "litert" and hasattr(layer, "unroll")]
    before = [layer.unroll for layer in layers]
    for layer in layers:
        layer.unroll = True
    try:
        with PATCHING, keras_private.backend_operations_replaced({"gelu": _gelu} if kind == "onnx" else {}):
            yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.unroll = value


def _gelu(x: Any, approximate: bool = True) -> Any:
    """Computes GELU by the error function, which TensorFlow does by its complement."""
    x = tf.convert_to_tensor(x)
    return tf.nn.gelu(x, approximate=True) if approximate else x * (0.5 + 0.5 * tf.math.erf(x * 2**-0.5))


def value_and_grad(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that computes the value and its gradient."""

    def differentiated(parameters: list[tf.Tensor], *rest: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(parameters)
            value, beside = function(parameters, *rest)
        gradients = tape.gradient(value, parameters, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return (value, beside), [tf.convert_to_tensor(gradient) for gradient in gradients]

    return differentiated


def vectorize(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function with a new first axis in all arguments and results."""

    def vectorized(*arguments: Any) -> Any:
        try:
            return tf.vectorized_map(lambda rows: function(*rows), arguments)
        except Exception as error:
            if isinstance(error.__context__, CourseError):  # TensorFlow has wrapped it in another error
                raise error.__context__ from None
            raise

    return vectorized


axis = resampling.axis


def resample(images: Any, columns: Any, rows: Any, fill: str) -> Any:
    """Samples pictures (batch, height, width, channels) at given positions, bilinearly."""
    # Keras' take checks for indices out of range, and there are none
    return resampling.resample(images, columns, rows, fill, keras.ops, tf.gather)


def by_pictures(draw: resampling.DrawFunction, apply: resampling.ApplyFunction) -> resampling.Run:
    """Compiles a random transform of pictures by XLA, on a CPU too, where Keras does not use it."""

    @tf.function(jit_compile=True, autograph=False)
    def compiled(pictures: Any, step: Any, first_row: Any) -> Any:
        drawn = draw(keras.ops.shape(pictures), step, first_row, keras.ops)
        return apply(pictures, drawn, first_row, step, keras.ops), drawn

    def run(pictures: Any, step: Any, first_row: Any) -> Any:
        # as tensors: TensorFlow would compile a new program for each Python number
        return compiled(tf.convert_to_tensor(pictures), tf.cast(step, "int32"), tf.cast(first_row, "int32"))

    return run


class TrainingLoop(loops.TrainingLoop):
    """Runs training steps on the Keras variables."""

    def __init__(self, updates: Sequence[Update], state: Sequence[Any] = ()) -> None:
        width = sum(update.width for update in updates)

        def step(batch: Any) -> tf.Tensor:
            return tf.concat([_apply(update, batch) for update in updates], 0)

        # without autograph, as in Keras' trainer; autograph would also wrap an error that a loss raises
        @tf.function(jit_compile=True, autograph=False)
        def steps(batches: Any, count: tf.Tensor) -> tf.Tensor:
            def body(index: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                row = step(tf.nest.map_structure(lambda array: array[index], batches))
                return index + 1, tf.tensor_scatter_nd_update(rows, [[index]], [row])

            rows = tf.zeros((tf.nest.flatten(batches)[0].shape[0], width))
            return tf.while_loop(lambda index, rows: index < count, body, (tf.constant(0), rows))[1]

        self._steps = steps
        self._programs: dict[Any, Any] = {}

    def run(self, batches: Any, count: int) -> Any:
        """Takes the first ``count`` steps."""
        arguments = tf.nest.map_structure(tf.constant, batches), tf.constant(count)
        shape = shapes(batches)
        if shape not in self._programs:
            self._programs[shape] = self._steps.get_concrete_function(*arguments)
        return self._programs[shape](*arguments)

    def load(self) -> None:
        """Does nothing: each call works on the Keras variables."""

    def sync(self) -> None:
        """Does nothing: each call leaves the values in the Keras variables."""


def _apply(update: Update, batch: Any) -> tf.Tensor:
    """Applies an update; returns its row of numbers."""
    optimizer = update.optimizer
    with tf.GradientTape() as tape, products.convolutions_replaced(wanted=not tf.config.list_physical_devices("GPU")):
        loss, row = update.measure(batch)
        scaled = loss if optimizer is None else optimizer.scale_loss(loss)
    if optimizer is not None and update.variables:
        sources = [variable.value for variable in update.variables]
        gradients = tape.gradient(scaled, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # dense: with sparse gradients a token that repeats in the batch counts differently from the other backends
        optimizer.apply([tf.convert_to_tensor(gradient) for gradient in gradients], update.variables)
    return row


training_loop = TrainingLoop


def unproven(objects: Iterable[Any]) -> str | None:
    """Returns the name of a layer that Keras does not compile; Keras' trainer traces all others, too."""
    return loops.find_not_compilable(objects)
