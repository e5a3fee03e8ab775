"""Finds how large the outputs of the layers of a model are for one input, before they are computed.

Keras gives the output shapes of the layers of a model, but not those of layers inside other layers, of layers that are
used twice, or of layers whose inputs may have any size.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Lock, get_ident
from typing import Any, Final

from keras_course._backend import keras_private

_UNKNOWN_SIDES: Final = (224, 600, 1)
"""Lengths to try for a side that may have any length: first that of most photos for networks."""

_FAR_LESS: Final = 16
_SCORES: Final = ("MultiHeadAttention", "GroupQueryAttention", "Attention", "AdditiveAttention", "DotProductAttention")
"""Layers and operations that compare each position of one input with each position of another."""

_OF_MASKS: Final = ("NotEqual", "Any")

_search_lock = Lock()


class _Larger(Exception):
    """Stops the search as soon as an operation exceeds the limit."""


def find_larger(model: Any, largest: int) -> tuple[str, int] | None:
    """Returns name and size of the first operation that returns more than ``largest`` values for one input, or None.

    Shapes are inferred without computing where the backend can do so. PyTorch computes some layers, so the output shape
    of each operation is inferred before the operation is called.
    """
    sides = _UNKNOWN_SIDES if any(None in end.shape[1:] for end in model.inputs) else _UNKNOWN_SIDES[:1]
    for side in sides[:-1]:
        with suppress(Exception):  # the layers may need another length
            return _find_larger(model, largest, side)
    return _find_larger(model, largest, sides[-1])


def _find_larger(model: Any, largest: int, unknown_side: int) -> tuple[str, int] | None:
    import keras

    found: list[tuple[str, int]] = []
    thread = get_ident()

    def shapes(values: Any) -> Any:
        return keras.tree.map_structure(
            lambda value: keras.KerasTensor(value.shape, value.dtype) if keras.ops.is_tensor(value) else value, values
        )

    def check(operation: Any, inputs: Any, settings: Any) -> None:
        args, kwargs = shapes(inputs), shapes(settings)
        count = _inside(operation, args, kwargs)
        if count <= largest:
            outputs = keras.tree.flatten(operation.compute_output_spec(*args, **kwargs))
            if any(None in output.shape for output in outputs):  # some layers leave a side open that can be inferred
                outputs = keras.tree.flatten(keras_private.output_spec(operation.call, *args, **kwargs))
            if not isinstance(operation, keras.Layer) and any(None in output.shape for output in outputs):
                raise ValueError(f"the output shape of {operation.name!r} is not known")
            count = max((_count(output.shape) for output in outputs), default=0)
        if count > largest:
            found.append((operation.name, count))
        if found:
            raise _Larger

    def watch(native: Callable[..., Any]) -> Callable[..., Any]:
        def watched(operation: Any, *inputs: Any, **settings: Any) -> Any:
            # the output of a model is the output of one of its layers, which is checked
            if get_ident() == thread and not isinstance(operation, keras.Model):
                check(operation, inputs, settings)
            outputs = native(operation, *inputs, **settings)
            if any(getattr(getattr(value, "shape", None), "rank", 0) is None for value in keras.tree.flatten(outputs)):
                raise ValueError(f"TensorFlow does not know the output shape of {operation.name!r}")
            return outputs

        return watched

    def one(end: Any) -> Any:
        return keras.KerasTensor((1, *(side or unknown_side for side in end.shape[1:])), dtype=end.dtype)

    inputs = keras.tree.map_structure(one, keras_private.input_structure(model))
    with _search_lock, keras_private.operation_calls_replaced(watch):
        try:
            keras_private.output_spec(partial(model, training=False), inputs)
        except Exception:  # Keras and the frameworks turn _Larger into other errors
            if not found:
                raise
    return found[0] if found else None


def may_be_larger(model: Any, largest: int) -> bool:
    """Returns whether `find_larger` has to be called, judged by the shapes that are known without calling the model."""
    import keras

    nets = [net for net in keras_private.all_layers(model) if isinstance(net, keras.Model)]
    for net in nets:
        graph = keras_private.graph_of(net)
        if not hasattr(graph, "operations"):
            continue
        if any(None in end.shape[1:] for end in graph.inputs):
            return True
        for operation in graph.operations:
            if not isinstance(operation, keras.Layer) and type(operation).__name__ not in _OF_MASKS:
                return True  # the effect of its settings shows only when it is called
            for call in keras_private.calls_of(operation):
                inside = _inside(operation, call.arguments.args, call.arguments.kwargs)
                returned = max((_count(output.shape) for output in call.outputs), default=0)
                if max(inside, returned) > largest // _FAR_LESS:
                    return True
    return False


def _count(shape: Any) -> int:
    """Returns the number of values for one sample; an unknown side counts as the usual one."""
    sides = [_UNKNOWN_SIDES[0] if side is None else side for side in shape]
    return math.prod(sides[1:]) * (shape[0] or 1) if sides else 1


def _inside(operation: Any, args: Any, kwargs: Any) -> int:
    """Returns the size of the largest intermediate result of an operation that needs more memory than its output."""
    import keras

    named = [kwargs[name] for name in ("query", "value") if name in kwargs]
    tensors = [value for value in keras.tree.flatten((args, named)) if hasattr(value, "shape")]
    shapes = [tuple(side or _UNKNOWN_SIDES[0] for side in tensor.shape[1:]) for tensor in tensors]
    kind = type(operation).__name__
    if kind == "TransformerBlock" and shapes:  # of this course
        return int(operation.num_heads) * shapes[0][0] ** 2
    if kind in _SCORES and shapes:
        query, key = shapes[0], shapes[1] if len(shapes) > 1 else shapes[0]
        heads = getattr(operation, "num_heads", getattr(operation, "num_query_heads", 1))
        if kind == "DotProductAttention":
            heads = query[-2]
            query, key = (query[0], query[-1]), (key[0], key[-1])
        each = query[-1] if kind == "AdditiveAttention" else 1
        return math.prod(query[:-1]) * math.prod(key[:-1]) * heads * each
    if kind in ("CDist", "IsIn") and len(shapes) == 2:
        return math.prod(shapes[0]) * max(1, math.prod(shapes[1]))
    if kind == "Einsum" and len(shapes) > 2:
        return math.prod(math.prod(shape) for shape in shapes)
    if kind in ("MultiHot", "CategoryEncoding") and shapes:
        classes: Any = getattr(operation, "num_classes", getattr(operation, "num_tokens", None))
        return math.prod(shapes[0]) * int(classes or 1)
    if kind == "GaussianBlur" and shapes:
        return math.prod(operation.kernel_size) * shapes[0][-1]
    return 0
