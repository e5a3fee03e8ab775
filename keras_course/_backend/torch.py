"""The course on PyTorch: a training step is traced once into a graph of PyTorch's own operations.

``make_fx`` runs the step of a Keras model once and records what reaches PyTorch: forward pass, backward pass and
update, without the layers of Python above them. That needs no compiler and takes a fraction of a second. Three things
then make the graph as fast as one written by hand, or faster:

- Adam's update is one fused kernel on the variables in place, where Keras makes temporaries.
- On a CPU, float32 matrix products go to oneDNN, whose kernels are chosen for the processor at hand.
- On a CPU, freed memory stays with the process; without that each step gets its gradients' pages anew from the kernel.
"""

import ctypes
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from keras.src.backend.torch import core
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils._pytree import tree_flatten, tree_unflatten

from keras_course._backend import index_of, mode, quiet, resampling
from keras_course._backend.known_code import find_unknown
from keras_course._backend.loops import PATCHING, Update, all_variables, shapes
from keras_course._backend.torch_graphs import finish, fold_constants, multiply_with_onednn, trace, trace_frozen

_aten = torch.ops.aten
_VALUES_TOGETHER = 2**18


def describe_devices() -> list[dict[str, Any]]:
    """Lists the devices that PyTorch sees."""
    devices: list[dict[str, Any]] = [{"name": "cpu", "kind": "cpu", "memory_bytes": None}]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices.append({"name": properties.name, "kind": "gpu", "memory_bytes": properties.total_memory})
    if torch.backends.mps.is_available():
        devices.append({"name": "Apple GPU (mps)", "kind": "gpu", "memory_bytes": None})
    return devices


def set_precision(precision: str) -> None:
    """Chooses how exact a float32 matrix product or convolution is on a GPU."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def replica() -> int:
    """Returns the rank of this process in a ``torch.distributed`` group, 0 without one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return 0


def forward(model: keras.Model, *, frozen: bool = False) -> Callable[[Any], Any]:
    """Returns the forward pass of a model in inference mode; traced, if its weights are not to change any more."""
    graphs: dict[Any, Callable[[Any], Any]] = {}
    call = partial(model, training=False)
    if frozen:
        _keep_freed_memory()

    @torch.no_grad()
    def run(x: Any) -> Any:
        batch = keras.tree.map_structure(keras.ops.convert_to_tensor, x)
        if frozen and shapes(x) not in graphs:
            graphs[shapes(x)] = _trace_frozen(model, batch)
        outputs = graphs.get(shapes(x), call)(batch)
        return keras.tree.map_structure(lambda output: output.float().cpu().numpy(), outputs)

    return run


def _trace_frozen(model: keras.Model, x: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    count = len(model.trainable_variables)

    def call(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return model.stateless_call(weights[:count], weights[count:], x, **mode(model, training=False))[0]

    variables = [*model.trainable_variables, *model.non_trainable_variables]
    return trace_frozen(call, x, [variable.value.detach().clone() for variable in variables])


def export(model: keras.Model, path: Path, kind: str) -> None:
    """Writes a model as ONNX or as PyTorch's own exported program, for a batch of any size."""
    model.eval()
    # of one picture the batch would become a constant
    pictures = torch.zeros((2, *model.input_shape[1:]), device=core.get_device())
    shapes = [({0: torch.export.Dim("batch")},)]
    with warnings.catch_warnings(), quiet("torch.onnx"):
        warnings.simplefilter("ignore")  # about how Keras is written, which is nothing to the person
        if kind == "torch":
            program = torch.export.export(model, (pictures,), dynamic_shapes=shapes, strict=False)
            torch.export.save(program, path)
        else:
            names = {"input_names": ["pictures"], "output_names": ["logits"]}
            onnx = torch.onnx.export(model, (pictures,), dynamo=True, dynamic_shapes=shapes, verbose=False, **names)
            path.write_bytes(onnx.model_proto.SerializeToString())


def value_and_grad(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function that also differentiates."""
    differentiated = torch.func.grad_and_value(function, has_aux=True)

    def in_the_order_of_the_others(*arguments: Any) -> Any:
        gradients, value_and_beside = differentiated(*arguments)
        return value_and_beside, gradients

    return in_the_order_of_the_others


def vectorise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function over a new first axis of all its arguments and results."""
    return torch.func.vmap(function)


def axis(size: int) -> tuple[float, float]:
    """Counts as ``grid_sample`` does: from -1, the outer edge of the first pixel, to 1, that of the last."""
    return 1 / size - 1, 2 / size


def resample(images: torch.Tensor, columns: torch.Tensor, rows: torch.Tensor, fill: str) -> torch.Tensor:
    """Reads pictures (batch, height, width, channels) at other places, bilinearly."""
    # all x, then all y: side by side, pairs would be added one by one
    grid = (columns[:, :, None] + rows[:, :, :, None]).permute(0, 2, 3, 1)  # (batch, height', width', 2)
    padding = {"constant": "zeros", "nearest": "border", "reflect": "reflection"}[fill]
    sampled = torch.nn.functional.grid_sample(
        images.permute(0, 3, 1, 2), grid, padding_mode=padding, align_corners=False
    )
    return sampled.permute(0, 2, 3, 1)


def by_pictures(draw: resampling.Draw, change: resampling.Change) -> resampling.Run:
    """Changes pictures at random: on a CPU a few at a time, in memory that is still in the cache."""

    def run(pictures: Any, step: Any, first_row: Any) -> tuple[torch.Tensor, resampling.Drawn]:
        pictures = keras.ops.convert_to_tensor(pictures)
        if _is_known(step) and _is_known(first_row):  # then NumPy has the few numbers sooner
            on_the_host = draw(tuple(pictures.shape), int(step), int(first_row), np)
            drawn = tuple(torch.from_numpy(array).to(pictures.device, non_blocking=True) for array in on_the_host)
        else:
            drawn = draw(pictures.shape, step, first_row, keras.ops)
        arguments = (pictures, drawn, first_row, step, keras.ops)
        if pictures.device.type != "cpu":
            return change(*arguments), drawn
        parts = resampling.in_parts(change, *arguments, values=_VALUES_TOGETHER, threads=torch.get_num_threads())
        return _joined(parts, len(pictures)), drawn

    return run


def _joined(parts: Iterator[tuple[slice, torch.Tensor]], count: int) -> torch.Tensor:
    """Puts each part in its place as soon as it is there, while it is in the cache."""
    rows, part = next(parts)
    if len(part) == count:
        return part
    # with channels first or last in memory as the parts have them: bytes that lie side by side are copied at once
    channels_first = part.movedim(-1, 1)
    layout = torch.contiguous_format if channels_first.is_contiguous() else torch.channels_last
    size = (count, *channels_first.shape[1:])
    joined = torch.empty(size, dtype=part.dtype, device=part.device, memory_format=layout).movedim(1, -1)
    joined[rows] = part
    for rows, part in parts:
        joined[rows] = part
    return joined


def _is_known(number: Any) -> bool:
    """Whether a number is at hand on the host, and not the input of a program that is being recorded."""
    if isinstance(number, torch.Tensor):
        is_recorded = torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None
        return number.device.type == "cpu" and not is_recorded
    return isinstance(number, int | np.integer)


class TrainingLoop:
    """Runs training steps on the Keras variables, in place."""

    def __init__(self, updates: Sequence[Update], state: Sequence[Any] = ()) -> None:
        self._updates, self._variables = updates, all_variables(updates, state)
        self._steps: dict[Any, Callable[[Any], torch.Tensor]] = {}
        _keep_freed_memory()

    def run(self, batches: Any, count: int) -> Any:
        """Takes the first ``count`` steps."""
        device = core.get_device()
        arrays, structure = tree_flatten(batches)
        tensors = [torch.from_numpy(array).to(device, non_blocking=True) for array in arrays]
        state = [variable.value.detach() for variable in self._variables]
        shape = tuple((tensor.shape[1:], tensor.dtype) for tensor in tensors)
        with torch.no_grad():
            if shape not in self._steps:
                self._steps[shape] = self._compile(state, [tensor[0] for tensor in tensors], structure)
            step = self._steps[shape]
            return _Rows([step(*state, *(tensor[index] for tensor in tensors)) for index in range(count)])

    def load(self) -> None:
        """Has nothing to do: each call works on the Keras variables."""

    def sync(self) -> None:
        """Has nothing to do: each step leaves the values in their Keras variables."""

    def _compile(self, state: list[torch.Tensor], batch: list[torch.Tensor], structure: Any) -> Any:
        def step(*tensors: torch.Tensor) -> torch.Tensor:
            return self._step(list(tensors[: len(state)]), tree_unflatten(list(tensors[len(state) :]), structure))

        graph = trace(step, *(tensor.clone() for tensor in state), *batch)
        fold_constants(graph)
        if batch[0].device.type == "cpu" and torch.backends.mkldnn.is_available():
            multiply_with_onednn(graph)
        finish(graph)
        return graph

    def _step(self, state: list[torch.Tensor], batch: Any) -> torch.Tensor:
        """One training step as a function of the state, which it changes in place, and of a batch."""
        values, rows = state, []
        for update in self._updates:
            values, row = self._apply(update, values, batch)
            rows.append(row.detach())
        for old, new in zip(state, values, strict=True):
            if new is not old:
                old.copy_(new)
        return torch.cat(rows) if len(rows) > 1 else rows[0]

    def _apply(self, update: Update, values: list[Any], batch: Any) -> tuple[list[Any], Any]:
        optimizer, variables = update.optimizer, self._variables
        own = [index_of(variable, variables) for variable in update.variables]
        leaves = {place: values[place].detach().requires_grad_() for place in own}
        current = [leaves.get(place, value) for place, value in enumerate(values)]
        mapping = list(zip(variables, current, strict=True))
        with torch.enable_grad(), keras.StatelessScope(mapping, collect_losses=True) as scope:
            loss, row = update.measure(batch)
            scaled = loss if optimizer is None else optimizer.scale_loss(loss)
        after = [
            old if (new := scope.get_current_value(variable)) is seen else new.detach()
            for variable, seen, old in zip(variables, current, values, strict=True)
        ]
        if optimizer is None or not own:
            return after, row
        gradients = torch.autograd.grad(scaled, list(leaves.values()), allow_unused=True, materialize_grads=True)
        kept = [index_of(variable, variables) for variable in optimizer.variables]
        with _traceable(optimizer):
            moved, state = optimizer.stateless_apply(
                [after[place] for place in kept], gradients, [after[place] for place in own]
            )
        changed = dict(zip([*own, *kept], [*moved, *state], strict=True))
        return [changed.get(place, value) for place, value in enumerate(after)], row


training_loop = TrainingLoop


def unproven(things: Iterable[Any]) -> str | None:
    """Names code that Keras' trainer would call in each step, and that a traced step would not."""
    return find_unknown(things)


class _Rows:
    """Rows of numbers that are still being computed; NumPy asks for them with ``__array__``."""

    def __init__(self, rows: list[torch.Tensor]) -> None:
        self._rows = rows

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(torch.stack(self._rows).cpu().numpy(), dtype)


def _keep_freed_memory() -> None:
    """Asks the C library to keep freed memory for the next step (glibc only; a no-op elsewhere)."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, 2**31 - 1)


@contextmanager
def _traceable(optimizer: keras.Optimizer) -> Iterator[None]:
    """While it lasts, an optimizer updates its variables in a way that ``make_fx`` can record.

    Everything around the update (schedule, clipping, weight decay, averaging, counting) stays Keras' own. Keras'
    updates for PyTorch turn the learning rate into a Python number, which a graph cannot hold; Keras' general ones do
    not. Where a schedule goes one way or the other by the step, as those that warm up do, the graph goes both and then
    chooses.
    """
    update = _update_fused if _is_plain_adam(optimizer) else _general_update(type(optimizer))
    learning_rate = optimizer._get_current_learning_rate

    def traceable_learning_rate() -> Any:
        with PATCHING:
            native, core.cond = core.cond, _both_ways
            try:
                return learning_rate()
            finally:
                core.cond = native

    optimizer._backend_update_step = partial(update, optimizer)
    optimizer._get_current_learning_rate = traceable_learning_rate
    try:
        yield
    finally:
        del optimizer._backend_update_step, optimizer._get_current_learning_rate


def _is_plain_adam(optimizer: keras.Optimizer) -> bool:
    """Whether the update is exactly Adam's formula, and that of no class derived from it."""
    return type(optimizer) in (type(keras.optimizers.Adam()), type(keras.optimizers.AdamW())) and not optimizer.amsgrad


def _general_update(kind: type) -> Callable[..., None]:
    """Returns the update that an optimizer has on all backends, which is behind the one that it has for PyTorch."""
    general = (cls for cls in kind.__mro__ if ".backend." not in cls.__module__)
    return next(vars(cls)["_backend_update_step"] for cls in general if "_backend_update_step" in vars(cls))


def _both_ways(condition: Any, if_true: Callable[[], Any], if_false: Callable[[], Any]) -> Any:
    """Computes two numbers and takes one of them; the other is left out where it is known which, as it may write."""
    try:
        return if_true() if bool(condition) else if_false()
    except RuntimeError:  # which one depends on the step
        pass
    return torch.where(*map(keras.ops.convert_to_tensor, (condition, if_true(), if_false())))


def _suits_kernel(weights: torch.Tensor) -> bool:
    """Whether the fused kernel moves weights as Keras does: it walks through memory, and computes in 32 bits.

    Orthogonal weights, for one, lie in memory by columns.
    """
    return weights.is_contiguous() and weights.dtype == torch.float32


def _update_fused(optimizer: keras.optimizers.Adam, gradients: Any, variables: Any, learning_rate: Any) -> None:
    """Adam's update of all variables by PyTorch's fused kernel, in place."""
    pairs: list[Any] = []
    others: list[Any] = []
    for pair in zip(gradients, variables, strict=True):
        (pairs if _suits_kernel(pair[1].value) else others).append(pair)
    if others:
        _general_update(type(optimizer))(optimizer, *map(list, zip(*others, strict=True)), learning_rate)
    if not pairs:
        return
    gradients, variables = zip(*pairs, strict=True)
    index = [optimizer._get_variable_index(variable) for variable in variables]
    count = keras.ops.cast(optimizer.iterations + 1, "float32")
    # Keras adds epsilon after the bias correction, PyTorch before it. With a step count so large that PyTorch sees no
    # bias to correct, and the correction inside the learning rate, the two are the same formula.
    correction = torch.sqrt(1 - optimizer.beta_2**count) / (1 - optimizer.beta_1**count)
    rate = keras.ops.cast(learning_rate, "float32") * correction
    _aten._fused_adam_.tensor_lr(
        [variable.value for variable in variables],
        # a convolution's gradient may lie in memory in another order than its weights
        [gradient.contiguous() for gradient in gradients],
        [optimizer._momentums[i].value for i in index],
        [optimizer._velocities[i].value for i in index],
        [],
        [torch.full((), 1e9, device=rate.device) for _ in index],
        lr=rate,
        beta1=optimizer.beta_1,
        beta2=optimizer.beta_2,
        weight_decay=0.0,
        eps=optimizer.epsilon,
        amsgrad=False,
        maximize=False,
    )
