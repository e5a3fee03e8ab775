"""How much the layers of a model make of one input, found out before they make it.

This room may use what Keras does not make public, and here it has to: Keras tells the shapes of the layers of a model,
and not of those inside of other layers, or that are used twice, or whose inputs may have any size.
"""

import math
from functools import partial
from threading import Lock, get_ident
from typing import Any, Final

_UNKNOWN_SIDE: Final = 224
"""What stands for a side that may have any length: that of most photos for networks."""

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
            outputs = operation.compute_output_spec(*shapes(inputs), **shapes(settings))
            count = max((math.prod(output.shape) for output in keras.tree.flatten(outputs)), default=0)
            if count > largest:
                found.append((operation.name, count))
            if found:
                raise _Larger
        return call(operation, *inputs, **settings)

    def one(end: Any) -> Any:
        return keras.KerasTensor((1, *(side or _UNKNOWN_SIDE for side in end.shape[1:])), dtype=end.dtype)

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
