"""The course on JAX: the training steps of one call are one compiled ``lax.fori_loop``."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
from jax import lax
from jax import numpy as jnp
from keras.src.backend import nn  # what layers look their operations up in

from keras_course._backend import index_of, mode, products, resampling
from keras_course._backend.loops import PATCHING, Update, all_variables


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


def forward(model: keras.Model, *, frozen: bool = False) -> Callable[[Any], Any]:
    """Compiles the forward pass of a model in inference mode, which is the same whether it is frozen or not."""

    @jax.jit
    def logits(trainable: list[Any], non_trainable: list[Any], x: Any) -> Any:
        # XLA's own takes ten times as long there; its other convolutions are the faster ones outside of loops
        on_cpu = jax.default_backend() == "cpu"
        with products.instead_of_convolutions(wanted=on_cpu, names=("depthwise_conv", "separable_conv")):
            outputs, _ = model.stateless_call(trainable, non_trainable, x, **mode(model, training=False))
        return keras.tree.map_structure(lambda output: output.astype("float32"), outputs)

    def run(x: Any) -> Any:
        outputs = logits(_values(model.trainable_variables), _values(model.non_trainable_variables), x)
        return keras.tree.map_structure(np.asarray, outputs)

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
    with PATCHING:
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
    """Runs training steps; the variables' values live here between ``load`` and ``sync``."""

    def __init__(self, updates: Sequence[Update], state: Sequence[Any] = ()) -> None:
        self._variables = variables = all_variables(updates, state)
        self._values: list[Any] | None = None
        width = sum(update.width for update in updates)

        def step(values: list[Any], batch: Any) -> tuple[list[Any], Any]:
            rows = []
            for update in updates:
                values, row = _apply(update, variables, values, batch)
                rows.append(row)
            return values, jnp.concatenate(rows)

        @partial(jax.jit, donate_argnums=0, compiler_options=_compiler_options())
        def steps(values: list[Any], batches: Any, count: Any) -> Any:
            def body(index: Any, carry: Any) -> Any:
                values, rows = carry
                values, row = step(values, jax.tree.map(lambda array: array[index], batches))
                return values, rows.at[index].set(row)

            rows = jnp.zeros((len(jax.tree.leaves(batches)[0]), width), "float32")
            return lax.fori_loop(0, count, body, (values, rows))

        self._steps = steps

    def run(self, batches: Any, count: int) -> Any:
        """Takes the first ``count`` steps."""
        values, self._values = self._values, None  # the call takes the memory of the values for its result
        self._values, rows = self._steps(values, batches, count)
        return rows

    def load(self) -> None:
        """Takes a copy of the values of the Keras variables."""
        self._values = [jnp.copy(variable.value) for variable in self._variables]

    def sync(self) -> None:
        """Hands the values to the Keras variables; after it comes ``load``.

        After a call that failed, for want of memory for instance, the variables keep what they had at the last
        ``load``.
        """
        if self._values is None:
            return
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)
        self._values = None


def _apply(update: Update, variables: list[Any], values: list[Any], batch: Any) -> tuple[list[Any], Any]:
    """Computes the values after an update, and its row of numbers."""
    optimizer = update.optimizer
    own = [index_of(variable, variables) for variable in update.variables]

    def loss_of(moved: list[Any], values: list[Any]) -> Any:
        current = dict(enumerate(values)) | dict(zip(own, moved, strict=True))
        mapping = [(variable, current[place]) for place, variable in enumerate(variables)]
        with (
            products.instead_of_convolutions(wanted=jax.default_backend() == "cpu"),
            keras.StatelessScope(mapping, collect_losses=True) as scope,
        ):
            loss, row = update.measure(batch)
            scaled = loss if optimizer is None else optimizer.scale_loss(loss)
        return scaled, (row, [scope.get_current_value(variable) for variable in variables])

    moved = [values[place] for place in own]
    if optimizer is None or not own:
        _, (row, values) = loss_of(moved, values)
        return values, row
    (_, (row, values)), gradients = jax.value_and_grad(loss_of, has_aux=True)(moved, values)
    kept = [index_of(variable, variables) for variable in optimizer.variables]
    moved, state = optimizer.stateless_apply([values[place] for place in kept], gradients, moved)
    changed = dict(zip([*own, *kept], [*moved, *state], strict=True))
    return [changed.get(place, value) for place, value in enumerate(values)], row


training_loop = TrainingLoop


def unproven(things: Iterable[Any]) -> str | None:
    """Names a layer that Keras itself does not compile; the rest is traced by Keras' own trainer, too."""
    names = (type(thing).__name__ for thing in things if not getattr(thing, "supports_jit", True))
    return next((f"the class {name!r}" for name in names), None)


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
