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

from keras_course._backend import index_of, input_of, keras_private, loops, mode, products, resampling
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
        # on a CPU XLA's depthwise convolution takes ten times as long; its other convolutions are faster outside loops
        on_cpu = jax.default_backend() == "cpu"
        with products.convolutions_replaced(wanted=on_cpu, names=("depthwise_conv", "separable_conv")):
            outputs, _ = model.stateless_call(trainable, non_trainable, x, **mode(model, training=False))
        return keras.tree.map_structure(lambda output: output.astype("float32"), outputs)

    def run(x: Any) -> Any:
        outputs = logits(_values(model.trainable_variables), _values(model.non_trainable_variables), x)
        return keras.tree.map_structure(np.asarray, outputs)

    return run


def compiles_each_shape() -> bool:
    """Returns whether ``forward`` compiles a program for each length of a text."""
    return True


def export(model: keras.Model, path: Path, kind: str, *, longest: int | None = None) -> None:
    """Writes a model as ONNX, the only format that needs no other framework."""
    import jax2onnx

    name, shape, number_type = input_of(model)
    sides: tuple[Any, ...] = ("batch", *shape)
    if shape == (None,):
        # the limit shows that there are positions for all tokens
        sides = jax.export.symbolic_shape("batch, tokens", constraints=[f"tokens <= {longest}"])
    inputs = jax.ShapeDtypeStruct(sides, np.dtype(number_type))

    def logits(x: Any) -> Any:
        with _pooling_of_flax():
            return model(x, training=False).astype("float32")

    written = jax2onnx.to_onnx(logits, inputs=[inputs], input_names=[name], output_names=["logits"])
    path.write_bytes(written.SerializeToString())


@contextmanager
def _pooling_of_flax() -> Iterator[None]:
    """Lets Keras' layers pool by functions that ``jax2onnx`` writes as one MaxPool or AveragePool.

    It writes JAX's own pooling as one that also pools over channels, which no runtime opens. Pooling by comparisons, as
    in ``products``, can be opened, but makes inference twice as slow.
    """
    replacements = {
        "max_pool": partial(_pool, "max_pool"),
        "average_pool": partial(_pool, "avg_pool", count_include_pad=False),
    }
    with PATCHING, keras_private.backend_operations_replaced(replacements):
        yield


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

    pool = getattr(nnx, name)  # looked up here, since jax2onnx replaces it while it traces
    windows = {"window_shape": for_each(pool_size), "strides": for_each(strides or pool_size)}
    channels_first = data_format == "channels_first"
    pictures = jnp.moveaxis(inputs, 1, -1) if channels_first else inputs
    pooled = pool(pictures, **windows, padding=padding.upper(), **settings)
    return jnp.moveaxis(pooled, -1, 1) if channels_first else pooled


def value_and_grad(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that computes the value and its gradient."""
    return jax.value_and_grad(function, has_aux=True)


def vectorize(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function with a new first axis in all arguments and results."""
    return jax.vmap(function)


axis = resampling.axis


def resample(images: Any, columns: Any, rows: Any, fill: str) -> Any:
    """Samples pictures (batch, height, width, channels) at given positions, bilinearly."""

    def take(pixels: Any, places: Any, axis: int) -> Any:
        # Keras' take checks for indices out of range, and there are none; reshape: JAX's take of no pixels loses axes
        return jnp.take(pixels, places, axis=axis, mode="clip").reshape(*places.shape, *pixels.shape[1:])

    return resampling.resample(images, columns, rows, fill, keras.ops, take)


def by_pictures(draw: resampling.DrawFunction, apply: resampling.ApplyFunction) -> resampling.Run:
    """Compiles a random transform of pictures."""

    @jax.jit
    def compiled(pictures: Any, step: Any, first_row: Any) -> Any:
        drawn = draw(pictures.shape, step, first_row, keras.ops)
        return apply(pictures, drawn, first_row, step, keras.ops), drawn

    return compiled


class TrainingLoop(loops.TrainingLoop):
    """Runs training steps; between ``load`` and ``sync`` the values of the variables are kept here."""

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
        values, self._values = self._values, None  # the call reuses the memory of the values (donation)
        self._values, rows = self._steps(values, batches, count)
        return rows

    def load(self) -> None:
        """Copies the values of the Keras variables."""
        self._values = [jnp.copy(variable.value) for variable in self._variables]

    def sync(self) -> None:
        """Assigns the values to the Keras variables; call ``load`` before the next ``run``."""
        if self._values is None:
            return
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)
        self._values = None


def _apply(update: Update, variables: list[Any], values: list[Any], batch: Any) -> tuple[list[Any], Any]:
    """Returns the values after an update, and its row of numbers."""
    optimizer = update.optimizer
    own = [index_of(variable, variables) for variable in update.variables]

    def loss_of(moved: list[Any], values: list[Any]) -> Any:
        current = dict(enumerate(values)) | dict(zip(own, moved, strict=True))
        mapping = [(variable, current[place]) for place, variable in enumerate(variables)]
        with (
            products.convolutions_replaced(wanted=jax.default_backend() == "cpu"),
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


def unproven(objects: Iterable[Any]) -> str | None:
    """Returns the name of a layer that Keras does not compile; Keras' trainer traces all others, too."""
    return loops.find_not_compilable(objects)


@cache
def _compiler_options() -> dict[str, Any]:
    """Returns the option with which XLA updates weights in place and does not copy them; empty where XLA lacks it."""
    options = {"xla_cpu_copy_insertion_use_region_analysis": True}
    try:
        jax.jit(lambda x: x, compiler_options=options)(0)
    except RuntimeError:
        return {}
    return options


def _values(variables: list[Any]) -> list[Any]:
    return [variable.value for variable in variables]
