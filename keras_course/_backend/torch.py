"""The course on PyTorch: a training step is traced once into a graph of PyTorch operations.

``make_fx`` runs the step of a Keras model once and records the operations that reach PyTorch: forward pass, backward
pass and update, without the Python code above them. Tracing needs no compiler and takes a fraction of a second. Three
changes then make the graph as fast as one written by hand, or faster:

- Adam's update is one fused kernel that works in place; Keras creates temporaries.
- On a CPU, float32 matrix products use oneDNN, which has kernels for each kind of processor.
- On a CPU, freed memory stays with the process; otherwise each step requests the pages of its gradients again.
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
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils._pytree import tree_flatten, tree_unflatten

from keras_course._backend import index_of, input_of, keras_private, loops, mode, quiet, resampling
from keras_course._backend.known_code import find_untraceable
from keras_course._backend.loops import PATCHING, Update, all_variables, shapes
from keras_course._backend.torch_graphs import (
    finish,
    fold_constants,
    multiply_with_onednn,
    trace,
    trace_any_shape,
    trace_frozen,
)
from keras_course._backend.torch_lstm import lstm_by_onednn

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
    """Returns the forward pass of a model in inference mode, traced if its weights are frozen.

    It is traced for each shape of the inputs, but for texts of any length only once.
    """
    graphs: dict[Any, Callable[[Any], Any]] = {}
    of_texts: list[tuple[Callable[[Any], Any], Callable[[Any], bool]]] = []
    call = partial(model, training=False)
    if frozen:
        _keep_freed_memory()

    @torch.no_grad()
    def run(x: Any) -> Any:
        batch = keras.tree.map_structure(keras.ops.convert_to_tensor, x)
        if frozen and shapes(x) not in graphs:
            if not of_texts and _takes_any_length(model):
                of_texts.append(_trace_any_length(model))
            graph = next((graph for graph, is_right in of_texts if is_right(batch)), None)
            graphs[shapes(x)] = graph or _trace_frozen(model, batch)
        outputs = graphs.get(shapes(x), call)(batch)
        return keras.tree.map_structure(lambda output: output.float().cpu().numpy(), outputs)

    return run


def _trace_frozen(model: keras.Model, x: Any) -> Callable[[Any], Any]:
    graph = trace_frozen(*_function_of(model, x))
    return lambda x: graph(*tree_flatten(x)[0])


def _takes_any_length(model: keras.Model) -> bool:
    """Returns whether a model takes texts, integers, of any length."""
    inputs = getattr(model, "inputs", None) or []  # a model that is a class of its own does not have them
    return any(None in part.shape[1:] for part in inputs) and all(
        keras.backend.standardize_dtype(part.dtype).startswith(("int", "bool")) for part in inputs
    )


def _trace_any_length(model: keras.Model) -> tuple[Callable[[Any], Any], Callable[[Any], bool]]:
    """Returns the graph of a model that takes texts of any length, and whether the graph is right for a batch."""

    def example(part: Any) -> torch.Tensor:
        # no two unknown sides are equal, and none is 1, which code often treats as a case of its own
        shape = [3 + 2 * axis if side is None else side for axis, side in enumerate(part.shape)]
        return keras.ops.zeros(shape, part.dtype)

    examples = keras.tree.map_structure(example, model.input)
    try:
        graph, is_right = trace_any_shape(*_function_of(model, examples))
    except Exception:  # of PyTorch, for code that needs the value of a shape: it is traced for each of them
        return model, lambda _: False
    return lambda x: graph(*tree_flatten(x)[0]), lambda x: is_right(*tree_flatten(x)[0])


def _function_of(model: keras.Model, x: Any) -> tuple[Callable[..., Any], list[torch.Tensor], list[torch.Tensor]]:
    """Returns a function of tensors, the tensors of a batch, and copies of the weights, which follow them."""
    count = len(model.trainable_variables)
    arrays, structure = tree_flatten(x)

    def call(*arguments: torch.Tensor) -> Any:
        x, weights = tree_unflatten(arguments[: len(arrays)], structure), arguments[len(arrays) :]
        with lstm_by_onednn(wanted=_has_onednn()):
            return model.stateless_call(weights[:count], weights[count:], x, **mode(model, training=False))[0]

    variables = [*model.trainable_variables, *model.non_trainable_variables]
    return call, arrays, [variable.value.detach().clone() for variable in variables]


def compiles_each_shape() -> bool:
    """Returns whether ``forward`` compiles a program for each length of a text."""
    return False


def export(model: keras.Model, path: Path, kind: str, *, longest: int | None = None) -> None:
    """Writes a model as ONNX or as an exported program of PyTorch, for a batch of any size."""
    model.eval()
    name, shape, number_type = input_of(model)
    # two inputs, of two tokens: with one, the number would become a constant
    sides = (2, *(side or 2 for side in shape))
    inputs = torch.zeros(sides, dtype=getattr(torch, number_type), device=keras_private.torch_device())
    any_size = {0: torch.export.Dim("batch")}
    if shape == (None,):
        any_size[1] = torch.export.Dim("tokens", max=longest)
    shapes = [(any_size,)]
    with warnings.catch_warnings(), quiet("torch.onnx"):
        warnings.simplefilter("ignore")  # about the code of Keras, not about the model
        if kind == "torch":
            program = torch.export.export(model, (inputs,), dynamic_shapes=shapes, strict=False)
            torch.export.save(program, path)
        else:
            names = {"input_names": [name], "output_names": ["logits"]}
            onnx = torch.onnx.export(model, (inputs,), dynamo=True, dynamic_shapes=shapes, verbose=False, **names)
            path.write_bytes(onnx.model_proto.SerializeToString())


def _has_onednn() -> bool:
    """Returns whether tensors are on a CPU and PyTorch has oneDNN, which has kernels for each kind of processor."""
    return keras_private.torch_device() == "cpu" and torch.backends.mkldnn.is_available()


def value_and_grad(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that computes the value and its gradient."""
    differentiated = torch.func.grad_and_value(function, has_aux=True)

    def value_first(*arguments: Any) -> Any:
        gradients, value_and_auxiliary = differentiated(*arguments)
        return value_and_auxiliary, gradients

    return value_first


def vectorize(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function with a new first axis in all arguments and results."""
    return torch.func.vmap(function)


def axis(size: int) -> tuple[float, float]:
    """Returns the coordinates of ``grid_sample``: -1 and 1 are the outer edges of the first and the last pixel."""
    return 1 / size - 1, 2 / size


def resample(images: torch.Tensor, columns: torch.Tensor, rows: torch.Tensor, fill: str) -> torch.Tensor:
    """Samples pictures (batch, height, width, channels) at given positions, bilinearly."""
    # all x, then all y: with x and y side by side the addition is not vectorized
    grid = (columns[:, :, None] + rows[:, :, :, None]).permute(0, 2, 3, 1)  # (batch, height', width', 2)
    padding = {"constant": "zeros", "nearest": "border", "reflect": "reflection"}[fill]
    sampled = torch.nn.functional.grid_sample(
        images.permute(0, 3, 1, 2), grid, padding_mode=padding, align_corners=False
    )
    return sampled.permute(0, 2, 3, 1)


def by_pictures(draw: resampling.DrawFunction, apply: resampling.ApplyFunction) -> resampling.Run:
    """Returns a random transform of pictures; on a CPU it works on parts of the batch that fit in the cache."""

    def run(pictures: Any, step: Any, first_row: Any) -> tuple[torch.Tensor, resampling.Drawn]:
        pictures = keras.ops.convert_to_tensor(pictures)
        if _is_known(step) and _is_known(first_row):  # NumPy draws these few numbers faster
            on_the_host = draw(tuple(pictures.shape), int(step), int(first_row), np)
            drawn = tuple(torch.from_numpy(array).to(pictures.device, non_blocking=True) for array in on_the_host)
        else:
            drawn = draw(pictures.shape, step, first_row, keras.ops)
        arguments = (pictures, drawn, first_row, step, keras.ops)
        if pictures.device.type != "cpu":
            return apply(*arguments), drawn
        parts = resampling.in_parts(apply, *arguments, values=_VALUES_TOGETHER, threads=torch.get_num_threads())
        return _joined(parts, len(pictures)), drawn

    return run


def _joined(parts: Iterator[tuple[slice, torch.Tensor]], count: int) -> torch.Tensor:
    """Joins the parts of a batch; copies each one while it is in the cache."""
    rows, part = next(parts)
    if len(part) == count:
        return part
    # the same memory layout as the parts, channels first or last, so that contiguous bytes are copied at once
    channels_first = part.movedim(-1, 1)
    layout = torch.contiguous_format if channels_first.is_contiguous() else torch.channels_last
    size = (count, *channels_first.shape[1:])
    joined = torch.empty(size, dtype=part.dtype, device=part.device, memory_format=layout).movedim(1, -1)
    joined[rows] = part
    for rows, part in parts:
        joined[rows] = part
    return joined


def _is_known(number: Any) -> bool:
    """Returns whether a number is on the host and not the input of a program that is being traced."""
    if isinstance(number, torch.Tensor):
        is_traced = torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None
        return number.device.type == "cpu" and not is_traced
    return isinstance(number, int | np.integer)


class TrainingLoop(loops.TrainingLoop):
    """Runs training steps on the Keras variables, in place."""

    def __init__(self, updates: Sequence[Update], state: Sequence[Any] = ()) -> None:
        self._updates, self._variables = updates, all_variables(updates, state)
        self._steps: dict[Any, Callable[[Any], torch.Tensor]] = {}
        _keep_freed_memory()

    def run(self, batches: Any, count: int) -> Any:
        """Takes the first ``count`` steps."""
        device = keras_private.torch_device()
        arrays, structure = tree_flatten(batches)
        tensors = [torch.from_numpy(array).to(device, non_blocking=True) for array in arrays]
        state = [variable.value.detach() for variable in self._variables]
        shape = tuple((tensor.shape[1:], tensor.dtype) for tensor in tensors)
        if shape not in self._steps:
            with torch.no_grad():
                self._steps[shape] = self._compile(state, [tensor[0] for tensor in tensors], structure)
        step = self._steps[shape]
        # no tensor requires a gradient, but without this mode oneDNN's LSTM keeps nothing for its backward pass
        with torch.enable_grad():
            return _Rows([step(*state, *(tensor[index] for tensor in tensors)) for index in range(count)])

    def load(self) -> None:
        """Does nothing: each call works on the Keras variables."""

    def sync(self) -> None:
        """Does nothing: each step leaves the values in the Keras variables."""

    def _compile(self, state: list[torch.Tensor], batch: list[torch.Tensor], structure: Any) -> Any:
        def step(*tensors: torch.Tensor) -> torch.Tensor:
            return self._step(list(tensors[: len(state)]), tree_unflatten(list(tensors[len(state) :]), structure))

        graph = trace(step, *(tensor.clone() for tensor in state), *batch)
        fold_constants(graph)
        if _has_onednn():
            multiply_with_onednn(graph)
        finish(graph)
        return graph

    def _step(self, state: list[torch.Tensor], batch: Any) -> torch.Tensor:
        """Takes one training step: changes the state in place and returns the row of numbers."""
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
        with (
            torch.enable_grad(),
            lstm_by_onednn(wanted=_has_onednn()),
            keras.StatelessScope(mapping, collect_losses=True) as scope,
        ):
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


def unproven(objects: Iterable[Any]) -> str | None:
    """Returns the name of code that may do something else at each call, which a traced step would not repeat."""
    return find_untraceable(objects)


class _Rows:
    """Rows of numbers that may still be computed; ``np.asarray`` waits for them."""

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
    """Makes an optimizer update its variables in a way that ``make_fx`` can trace.

    Everything around the update (schedule, clipping, weight decay, averaging, counting) stays that of Keras. Keras'
    updates for PyTorch turn the learning rate into a Python number, which a graph cannot contain; its general updates
    do not. Where a learning-rate schedule branches on the step, as one with warm-up does, the graph computes both
    branches and then selects.
    """
    update = _update_fused if _is_plain_adam(optimizer) else keras_private.general_update(type(optimizer))

    def traceable(learning_rate: Callable[[], Any]) -> Any:
        with PATCHING, keras_private.torch_cond_replaced(_select):
            return learning_rate()

    with keras_private.optimizer_update_replaced(optimizer, partial(update, optimizer), traceable):
        yield


def _is_plain_adam(optimizer: keras.Optimizer) -> bool:
    """Returns whether the update is exactly Adam's formula; classes derived from Adam may change it."""
    return type(optimizer) in (type(keras.optimizers.Adam()), type(keras.optimizers.AdamW())) and not optimizer.amsgrad


def _select(condition: Any, if_true: Callable[[], Any], if_false: Callable[[], Any]) -> Any:
    """Returns the result of one of two branches.

    Both are computed if the condition depends on the step, else only one, since a branch may have side effects.
    """
    try:
        return if_true() if bool(condition) else if_false()
    except RuntimeError:  # the condition depends on the step
        pass
    return torch.where(*map(keras.ops.convert_to_tensor, (condition, if_true(), if_false())))


def _suits_kernel(weights: torch.Tensor) -> bool:
    """Returns whether the fused kernel supports the weights: it needs contiguous memory and 32 bits.

    Orthogonal weights, for example, are stored by columns.
    """
    return weights.is_contiguous() and weights.dtype == torch.float32


def _update_fused(optimizer: keras.optimizers.Adam, gradients: Any, variables: Any, learning_rate: Any) -> None:
    """Updates all variables by PyTorch's fused Adam kernel, in place."""
    pairs: list[Any] = []
    others: list[Any] = []
    for pair in zip(gradients, variables, strict=True):
        (pairs if _suits_kernel(pair[1].value) else others).append(pair)
    if others:
        general_update = keras_private.general_update(type(optimizer))
        general_update(optimizer, *map(list, zip(*others, strict=True)), learning_rate)
    if not pairs:
        return
    gradients, variables = zip(*pairs, strict=True)
    first_moments, second_moments = keras_private.adam_moments(optimizer, variables)
    count = keras.ops.cast(optimizer.iterations + 1, "float32")
    # Keras adds epsilon after the bias correction, PyTorch before it. With a step count so large that PyTorch sees no
    # bias to correct, and the correction inside the learning rate, the two are the same formula.
    correction = torch.sqrt(1 - optimizer.beta_2**count) / (1 - optimizer.beta_1**count)
    rate = keras.ops.cast(learning_rate, "float32") * correction
    _aten._fused_adam_.tensor_lr(
        [variable.value for variable in variables],
        # the gradient of a convolution may have another memory layout than its weights
        [gradient.contiguous() for gradient in gradients],
        [moment.value for moment in first_moments],
        [moment.value for moment in second_moments],
        [],
        [torch.full((), 1e9, device=rate.device) for _ in variables],
        lr=rate,
        beta1=optimizer.beta_1,
        beta2=optimizer.beta_2,
        weight_decay=0.0,
        eps=optimizer.epsilon,
        amsgrad=False,
        maximize=False,
    )
