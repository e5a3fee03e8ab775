"""How much the layers of a model make of one input, found out before they make it.

This room may use what Keras does not make public, and here it has to: Keras tells the shapes of the layers of a model,
and not of those inside of other layers, or that are used twice, or whose inputs may have any size.
"""

import math
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from importlib import import_module
from threading import Lock, get_ident
from typing import Any, Final

_UNKNOWN_SIDES: Final = (224, 600, 1)
"""What stands for a side that may have any length: that of most photos for networks; the others where it does not fit.
"""

_FAR_LESS: Final = 16
_SCORES: Final = ("MultiHeadAttention", "GroupQueryAttention", "Attention", "AdditiveAttention", "DotProductAttention")
"""Layers and operations that compare each place of one input with each of another."""

_OF_MASKS: Final = ("NotEqual", "Any")

_only_one = Lock()


class _Larger(Exception):
    """Ends a model that would make too much."""


def find_larger(model: Any, largest: int) -> tuple[str, int] | None:
    """Follows one input through a model, up to the first layer or operation that would make too much of it.

    Frameworks find out about shapes without computing, if they can; PyTorch cannot for some layers, and then computes.
    So each is asked for the shape of its output before it is run.

    Args:
        model: A built Keras model.
        largest: How many numbers an operation may make.

    Returns:
        The name of that operation and how many numbers it would make; None if there is none.

    Example:
        >>> import keras
        >>> repeated = keras.layers.RepeatVector(100, name="repeated")
        >>> model = keras.Sequential([keras.Input((10,)), repeated, keras.layers.Flatten()])
        >>> find_larger(model, 999), find_larger(model, 1000)
        (('repeated', 1000), None)
    """
    sides = _UNKNOWN_SIDES if any(None in end.shape[1:] for end in model.inputs) else _UNKNOWN_SIDES[:1]
    for side in sides:
        try:
            return _find_larger(model, largest, side)
        except Exception:
            if side == sides[-1]:
                raise
    return None


def _find_larger(model: Any, largest: int, unknown_side: int) -> tuple[str, int] | None:
    import keras
    from keras.src.backend import compute_output_spec, is_tensor
    from keras.src.ops.operation import Operation

    found: list[tuple[str, int]] = []
    thread = get_ident()

    def shapes(values: Any) -> Any:
        return keras.tree.map_structure(
            lambda value: keras.KerasTensor(value.shape, value.dtype) if is_tensor(value) else value, values
        )

    def watched(operation: Any, *inputs: Any, **settings: Any) -> Any:
        # of what a net makes, one of its layers has made as much
        if get_ident() == thread and not isinstance(operation, keras.Model):
            takes, given = shapes(inputs), shapes(settings)
            count = _inside(operation, takes, given)
            if count <= largest:
                made = keras.tree.flatten(operation.compute_output_spec(*takes, **given))
                if any(None in output.shape for output in made):  # some layers say of a side only that it may be any
                    made = keras.tree.flatten(compute_output_spec(operation.call, *takes, **given))
                if not isinstance(operation, keras.Layer) and any(None in output.shape for output in made):
                    raise ValueError(f"nobody knows how many numbers {operation.name!r} makes")
                count = max((_count(output.shape) for output in made), default=0)
            if count > largest:
                found.append((operation.name, count))
            if found:
                raise _Larger
        outputs = call(operation, *inputs, **settings)
        if any(getattr(getattr(value, "shape", None), "rank", 0) is None for value in keras.tree.flatten(outputs)):
            raise ValueError(f"TensorFlow does not know the shape of what {operation.name!r} makes")
        return outputs

    def one(end: Any) -> Any:
        return keras.KerasTensor((1, *(side or unknown_side for side in end.shape[1:])), dtype=end.dtype)

    ends = getattr(model, "_functional", model)._inputs_struct
    with _only_one:
        call = Operation.__call__  # not before: it could be that of another thread's search
        Operation.__call__ = watched
        try:
            compute_output_spec(partial(model, training=False), keras.tree.map_structure(one, ends))
        except Exception:  # Keras and the frameworks make others of it
            if not found:
                raise
        finally:
            Operation.__call__ = call
    return found[0] if found else None


def may_be_larger(model: Any, largest: int) -> bool:
    """Says whether `find_larger` is worth its time, by the shapes that are known without running a model.

    Args:
        model: A built Keras model.
        largest: How many numbers an operation may make.

    Returns:
        False if each operation makes far less, as in nearly all models.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((10,)), keras.layers.RepeatVector(100)])
        >>> may_be_larger(model, 999), may_be_larger(model, 100_000)
        (True, False)
    """
    import keras

    nets = [net for net in model._flatten_layers() if isinstance(net, keras.Model)]
    for net in nets:
        graph = getattr(net, "_functional", net)
        if not hasattr(graph, "operations"):
            continue
        if any(None in end.shape[1:] for end in graph.inputs):
            return True
        for operation in graph.operations:
            if not isinstance(operation, keras.Layer) and type(operation).__name__ not in _OF_MASKS:
                return True  # what Keras makes of its settings shows only when it runs
            for node in operation._inbound_nodes:
                inside = _inside(operation, node.arguments.args, node.arguments.kwargs)
                made = max((_count(output.shape) for output in node.outputs), default=0)
                if max(inside, made) > largest // _FAR_LESS:
                    return True
    return False


def operations_of_keras(modules: Iterable[str]) -> dict[str, set[str]]:
    """Lists the operations of ``keras.ops``.

    Args:
        modules: Names of modules of ``keras.src.ops``; those that this Keras does not have are left out.

    Returns:
        The names of the classes, by the full name of their module.

    Example:
        >>> "Einsum" in operations_of_keras(["numpy"])["keras.src.ops.numpy"]
        True
    """
    import keras

    found: dict[str, set[str]] = {}
    for name in (f"keras.src.ops.{module}" for module in modules):
        with suppress(ImportError):
            classes = [value for value in vars(import_module(name)).values() if isinstance(value, type)]
            found[name] = {
                kind.__name__ for kind in classes if issubclass(kind, keras.Operation) and kind.__module__ == name
            }
    return found


def _count(shape: Any) -> int:
    """How many numbers there are of one sample, where a side that is not known counts as the usual one."""
    sides = [_UNKNOWN_SIDES[0] if side is None else side for side in shape]
    return math.prod(sides[1:]) * (shape[0] or 1) if sides else 1


def _inside(operation: Any, args: Any, kwargs: Any) -> int:
    """How many numbers the operations make inside whose outputs have far fewer."""
    import keras

    named = [kwargs[name] for name in ("query", "value") if name in kwargs]
    tensors = [value for value in keras.tree.flatten((args, named)) if hasattr(value, "shape")]
    shapes = [tuple(side or _UNKNOWN_SIDES[0] for side in tensor.shape[1:]) for tensor in tensors]
    kind = type(operation).__name__
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
