"""The course on JAX: the training steps of one call are one compiled ``lax.fori_loop``."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
from jax import lax
from jax import numpy as jnp
from keras.src.backend import nn  # what layers look their operations up in

from keras_course._backend import index_of, products, resampling

Metric = Callable[[Any, Any], Any]
Change = Callable[[Any, Any, Any], tuple[Any, Any]]


def describe_devices() -> list[dict[str, Any]]:
    """Lists the devices that JAX sees."""
    return [
        {
            "name": device.device_kind,
            "kind": device.platform,
            "memory_bytes": (device.memory_stats() or {}).get("bytes_limit"),
        }
        for device in jax.devices()
    ]


def set_precision(precision: str) -> None:
    """Chooses how exact a float32 matrix product is on a GPU; JAX's own default there is tf32."""
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if precision == "tf32" else "float32")


def replica() -> int:
    """Returns 0: under JAX's sharding a layer always sees the whole batch."""
    return 0


def forward(model: keras.Model, *, frozen: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    """Compiles the forward pass of a model in inference mode, which is the same whether it is frozen or not."""

    @jax.jit
    def logits(trainable: list[Any], non_trainable: list[Any], x: Any) -> Any:
        # XLA's own takes ten times as long there; its other convolutions are the faster ones outside of loops
        on_cpu = jax.default_backend() == "cpu"
        with products.instead_of_convolutions(wanted=on_cpu, names=("depthwise_conv", "separable_conv")):
            outputs, _ = model.stateless_call(trainable, non_trainable, x, training=False)
        return outputs.astype("float32")

    def run(x: np.ndarray) -> np.ndarray:
        return np.asarray(logits(_values(model.trainable_variables), _values(model.non_trainable_variables), x))

    return run


def export(model: keras.Model, path: Path, kind: str) -> None:
    """Writes a model as ONNX, the one format that JAX can be traced to without another framework."""
    import jax2onnx

    pictures = jax.ShapeDtypeStruct(("batch", *model.input_shape[1:]), np.dtype("float32"))

    def logits(x: Any) -> Any:
        with _pooling_of_flax():
            return model(x, training=False).astype("float32")

    written = jax2onnx.to_onnx(logits, inputs=[pictures], input_names=["pictures"], output_names=["logits"])
    path.write_bytes(written.SerializeToString())


@contextmanager
def _pooling_of_flax() -> Iterator[None]:
    """Lets Keras' layers pool by functions that ``jax2onnx`` knows, and writes as one MaxPool or AveragePool.

    What it makes of JAX's own pools over channels, too, which runtimes do not open. Comparisons of the pixels, as in
    ``products``, they would open, but a net then takes twice as long.
    """
    native = {"max_pool": nn.max_pool, "average_pool": nn.average_pool}
    nn.max_pool = partial(_pool, "max_pool")
    nn.average_pool = partial(_pool, "avg_pool", count_include_pad=False)
    try:
        yield
    finally:
        for name, function in native.items():
            setattr(nn, name, function)


def _pool(
    name: str,
    inputs: Any,
    pool_size: Any,
    strides: Any = None,
    padding: str = "valid",
    data_format: str | None = None,
    **settings: Any,
) -> Any:
    from flax import nnx

    def for_each(number: Any) -> tuple[int, ...]:
        return (number,) * (inputs.ndim - 2) if isinstance(number, int) else tuple(number)

    pool = getattr(nnx, name)  # while jax2onnx traces, this name stands for its own
    windows = {"window_shape": for_each(pool_size), "strides": for_each(strides or pool_size)}
    channels_first = data_format == "channels_first"
    pictures = jnp.moveaxis(inputs, 1, -1) if channels_first else inputs
    pooled = pool(pictures, **windows, padding=padding.upper(), **settings)
    return jnp.moveaxis(pooled, -1, 1) if channels_first else pooled


def value_and_grad(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function that also differentiates."""
    return jax.value_and_grad(function, has_aux=True)


def vectorise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function over a new first axis of all its arguments and results."""
    return jax.vmap(function)


def scan(step: Callable[[Any, Any], tuple[Any, Any]]) -> Callable[[Any, Any, int], tuple[Any, Any]]:
    """Compiles a loop over the rows of some arrays."""

    @jax.jit
    def loop(state: Any, rows: Any, count: Any) -> Any:
        def row(index: Any) -> Any:
            return jax.tree.map(lambda array: array[index], rows)

        def body(index: Any, carry: Any) -> Any:
            state, outputs = carry
            state, output = step(state, row(index))
            return state, jax.tree.map(lambda array, value: array.at[index].set(value), outputs, output)

        length = len(jax.tree.leaves(rows)[0])
        _, output = jax.eval_shape(step, state, row(0))
        outputs = jax.tree.map(lambda value: jnp.zeros((length, *value.shape), value.dtype), output)
        return lax.fori_loop(0, count, body, (state, outputs))

    def run(state: Any, rows: Any, count: int) -> tuple[Any, Any]:
        state, outputs = jax.tree.map(np.asarray, loop(state, rows, count))
        return state, jax.tree.map(itemgetter(slice(count)), outputs)

    return run


axis = resampling.axis


def resample(images: Any, columns: Any, rows: Any, fill: str) -> Any:
    """Reads pictures (batch, height, width, channels) at other places, bilinearly."""

    def take(pixels: Any, places: Any, axis: int) -> Any:
        # Keras' take looks for places outside, of which there are none here; of no pixels, JAX's loses axes
        return jnp.take(pixels, places, axis=axis, mode="clip").reshape(*places.shape, *pixels.shape[1:])

    return resampling.resample(images, columns, rows, fill, keras.ops, take)


def by_pictures(draw: resampling.Draw, change: resampling.Change) -> resampling.Run:
    """Compiles random changes of pictures."""

    @jax.jit
    def compiled(pictures: Any, step: Any, first_row: Any) -> Any:
        drawn = draw(pictures.shape, step, first_row, keras.ops)
        return change(pictures, drawn, first_row, step, keras.ops), drawn

    return compiled


class TrainingLoop:
    """Runs training steps; the weights live here between ``load`` and ``sync``."""

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.Optimizer,
        loss: Metric,
        metrics: Mapping[str, Metric],
        change: Change | None = None,
    ) -> None:
        iterations = index_of(optimizer.iterations, optimizer.variables)
        self._variables = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
        self._state: Any = None

        def loss_and_state(trainable: Any, non_trainable: Any, x: Any, y: Any) -> Any:
            with products.instead_of_convolutions(wanted=jax.default_backend() == "cpu"):
                logits, non_trainable, penalties = model.stateless_call(
                    trainable, non_trainable, x, training=True, return_losses=True
                )
            logits = keras.ops.cast(logits, "float32")
            return loss(y, logits) + sum(penalties), (non_trainable, logits)

        def step(state: Any, x: Any, y: Any) -> Any:
            trainable, non_trainable, optimizer_state = state
            if change is not None:
                x, y = change(x, y, optimizer_state[iterations])
            (value, (non_trainable, logits)), gradients = jax.value_and_grad(loss_and_state, has_aux=True)(
                trainable, non_trainable, x, y
            )
            trainable, optimizer_state = optimizer.stateless_apply(optimizer_state, gradients, trainable)
            logs = [value, *(jnp.sum(metric(y, logits), dtype="float32") for metric in metrics.values())]
            return (trainable, non_trainable, optimizer_state), jnp.stack(logs)

        @partial(jax.jit, donate_argnums=0, compiler_options=_compiler_options())
        def steps(state: Any, x: Any, y: Any, count: Any) -> Any:
            def body(index: Any, carry: Any) -> Any:
                state, logs = carry
                state, row = step(state, x[index], y[index])
                return state, logs.at[index].set(row)

            logs = jnp.zeros((x.shape[0], 1 + len(metrics)), "float32")
            return lax.fori_loop(0, count, body, (state, logs))

        self._steps = steps

    def run(self, x: np.ndarray, y: np.ndarray, count: int) -> Any:
        """Takes the first ``count`` steps of x (steps, batch, ...) and y (steps, batch, ...).

        Returns:
            An array (steps, 1 + metrics) on its way: the loss of each batch, and the sum of each metric over it.
        """
        state, self._state = self._state, None  # the call takes the state's memory for its result
        self._state, logs = self._steps(state, x, y, count)
        return logs

    def load(self) -> None:
        """Takes a copy of the weights and the optimizer's state from their Keras variables."""
        self._state = jax.tree.map(jnp.copy, tuple(map(_values, self._variables)))

    def sync(self) -> None:
        """Hands the weights and the optimizer's state to their Keras variables; after it comes ``load``.

        After a call that failed, for want of memory for instance, the variables keep what they had at the last
        ``load``.
        """
        if self._state is None:
            return
        for variables, values in zip(self._variables, self._state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        self._state = None


training_loop = TrainingLoop


@cache
def _compiler_options() -> dict[str, Any]:
    """Lets XLA update weights in place that it would else copy in each step, where this version of it knows how."""
    options = {"xla_cpu_copy_insertion_use_region_analysis": True}
    try:
        jax.jit(lambda x: x, compiler_options=options)(0)
    except RuntimeError:
        return {}
    return options


def _values(variables: list[Any]) -> list[Any]:
    return [variable.value for variable in variables]
