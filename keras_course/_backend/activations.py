"""Which outputs of a model are probabilities already, found out from its graph.

This room may use what Keras does not make public, and here it has to: the graph of a model is not public, nor are the
operations in it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeAlias

__all__ = ["output_activations"]

SOFTMAX: Final = "softmax"
SIGMOID: Final = "sigmoid"

_Found: TypeAlias = "str | frozenset[int] | None"
"""The activation that made some numbers, the places of the inputs of which they are parts, or neither of them."""

_FUNCTIONS: Final = {
    "softmax": SOFTMAX,
    "sparsemax": SOFTMAX,
    "sigmoid": SIGMOID,
    "hard_sigmoid": SIGMOID,
    "sparse_sigmoid": SIGMOID,
}
"""The functions of ``keras.activations`` and ``keras.ops`` that make probabilities."""

_OPERATIONS: Final = {
    "Softmax": SOFTMAX,
    "Sparsemax": SOFTMAX,
    "Sigmoid": SIGMOID,
    "HardSigmoid": SIGMOID,
    "SparseSigmoid": SIGMOID,
}
"""The same, as operations in a graph and as layers."""

_END_IN_ACTIVATION: Final = (
    *("Activation", "Dense", "EinsumDense", "SimpleRNN"),
    *(f"{kind}{sides}D" for kind in ("Conv", "SeparableConv", "DepthwiseConv") for sides in (1, 2, 3)),
    *(f"Conv{sides}DTranspose" for sides in (1, 2, 3)),
)
"""Layers whose outputs are those of their ``activation``."""

_AROUND: Final = ("TimeDistributed", "SpectralNormalization")
"""Layers whose outputs are those of their ``layer``."""

_PASS_ON: Final = (
    # the same numbers
    *("Identity", "ActivityRegularization", "Masking", "Dropout", "GaussianDropout", "GaussianNoise", "AlphaDropout"),
    *(f"SpatialDropout{sides}D" for sides in (1, 2, 3)),
    # in another order, or some of them
    *("Reshape", "Flatten", "Permute", "RepeatVector", "Concatenate", "CenterCrop"),
    *(f"{kind}{sides}D" for kind in ("Cropping", "ZeroPadding", "UpSampling", "MaxPooling") for sides in (1, 2, 3)),
    *(f"GlobalMaxPooling{sides}D" for sides in (1, 2, 3)),
    # or means of them, which are probabilities, too
    "Average",
    *(f"{kind}AveragePooling{sides}D" for kind in ("", "Adaptive", "Global") for sides in (1, 2, 3)),
)
"""Layers that pass on what they are given when a model does not learn."""

_OPERATIONS_THAT_PASS_ON: Final = {
    "keras.src.ops.numpy": (
        *("Reshape", "Ravel", "Squeeze", "ExpandDims", "Transpose", "Moveaxis", "Swapaxes", "Flip", "Roll", "Rot90"),
        *("GetItem", "Take", "TakeAlongAxis", "Split", "ArraySplit", "Repeat", "Tile", "BroadcastTo", "Copy", "Clip"),
        *("Concatenate", "Stack", "Hstack", "Vstack", "Dstack", "Array", "Mean"),
    ),
    "keras.src.ops.core": ("Cast", "SaturateCast", "StopGradient", "Slice", "Unstack", "ConvertToTensor"),
    "keras.src.ops.einops": ("Rearrange",),
}
_OF_SEVERAL: Final = ("Concatenate", "Stack", "Hstack", "Vstack", "Dstack", "Array")
"""Those of them whose numbers come from all their inputs."""


def output_activations(model: Any, inputs: Any = None) -> list[str | None]:
    """Says of each output of a model whether it is made of probabilities.

    The last operation decides that does more than to move, copy, cut or average numbers; whether it belongs to the
    model, to a model inside it, or to a layer with a ``call`` of its own.

    Args:
        model: A built Keras model.
        inputs: What a subclassed model takes, in its structure: anything with shapes and dtypes, such as arrays or
            ``keras.KerasTensor``. Other models say so themselves.

    Returns:
        For each output ``"softmax"`` (probabilities that sum to 1 where they were made), ``"sigmoid"`` (each number is
        a probability) or None. The list is empty if nothing is known: a subclassed model without ``inputs``, or one
        that does not compute with layers and ``keras.ops`` alone.

    Example:
        >>> import keras
        >>> layers = keras.layers
        >>> output_activations(keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")]))
        ['softmax']
        >>> output_activations(keras.Sequential([keras.Input((4,)), layers.Dense(3)]))
        [None]
    """
    import keras

    functional = _functional(model)
    if functional is not None:
        found = _search(functional.inputs, functional.outputs)
    elif inputs is None:
        return []
    else:
        found = _trace(model, model.call, keras.tree.map_structure(_tensor_like, (inputs,)))
    return [activation if isinstance(activation, str) else None for activation in found]


def _search(ends: Sequence[Any], outputs: Sequence[Any]) -> list[_Found]:
    """Goes back through a graph, from each output to what has made its numbers, or to an end, which is told by place.

    A long chain is gone through without recursion, and no part of a graph twice.
    """
    known: dict[int, _Found] = {id(end): frozenset([place]) for place, end in enumerate(ends)}
    waiting = list(outputs)
    while waiting:
        tensor = waiting[-1]
        if id(tensor) not in known:
            sources, found = _made_by(tensor)
            if isinstance(found, frozenset):
                parts = [sources[place] for place in found if place < len(sources)]
                if missing := [part for part in parts if id(part) not in known]:
                    waiting += missing
                    continue
                found = _merged([known[id(part)] for part in parts])
            known[id(tensor)] = found
        waiting.pop()
    return [known[id(output)] for output in outputs]


def _merged(found: Sequence[_Found]) -> _Found:
    """Says what has made numbers that come from several places."""
    places = [one for one in found if isinstance(one, frozenset)]
    if len(places) == len(found):
        return frozenset().union(*places) if places else None
    return found[0] if len(set(found)) == 1 else None


def _made_by(tensor: Any) -> tuple[list[Any], _Found]:
    """Says what has made a symbolic tensor, and of which tensors."""
    history = getattr(tensor, "_keras_history", None)
    if history is None:
        return [], None
    node = history.operation._inbound_nodes[history.node_index]
    sources = node.arguments.keras_tensors
    found = _of_call(history.operation, node.arguments.args, node.arguments.kwargs)
    return sources, found[history.tensor_index] if len(found) > 1 else found[0]


def _of_call(operation: Any, args: Any, kwargs: Any) -> list[_Found]:
    """Says what makes each output of an operation; one entry for all of them if they are alike.

    The places of inputs are those in all arguments, in their order.
    """
    import keras

    kind = type(operation)
    functional = _functional(operation)
    if functional is not None:
        return _search(functional.inputs, functional.outputs)
    if not isinstance(operation, keras.Layer):
        if kind.__name__ in _OPERATIONS_THAT_PASS_ON.get(kind.__module__, ()):
            count = sum(isinstance(value, keras.KerasTensor) for value in keras.tree.flatten((args, kwargs)))
            return [frozenset(range(count if kind.__name__ in _OF_SEVERAL else 1))]
        return [_OPERATIONS.get(kind.__name__) if kind.__module__.startswith("keras.src.ops.") else None]
    name = _layer_of_keras(operation)
    if name in _OPERATIONS:
        return [_OPERATIONS[name]]
    if name in _END_IN_ACTIVATION:
        found = _of_function(operation.activation)
        # what a dense layer passes on through its activation is its own
        return [found if isinstance(found, str) or name == "Activation" else None]
    if name in _AROUND:
        first = 2 if name == "TimeDistributed" else 1

        def inside(value: Any) -> Any:
            return keras.KerasTensor((value.shape[0], *value.shape[first:]), value.dtype)

        return _of_call(operation.layer, (inside(args[0] if args else kwargs["inputs"]),), {})
    if name in _PASS_ON:
        count = len(keras.tree.flatten(args[0] if args else kwargs["inputs"]))
        return [frozenset(range(count))]
    if name is None or name == "Lambda":
        return _trace(operation, operation.call, args, kwargs) or [None]
    return [None]


def _of_function(function: Any) -> _Found:
    """Says what an activation function makes of its argument."""
    import keras

    for name, activation in _FUNCTIONS.items():
        if function in (getattr(keras.activations, name), getattr(keras.ops, name)):
            return activation
    if function is keras.activations.linear:
        return frozenset([0])
    if getattr(function, "__module__", "").startswith("keras.src.activations"):
        return None
    for count in range(2, 6):  # of axes; a function may need some
        example = (keras.KerasTensor((None,) * (count - 1) + (2,)),)
        found = _of_call(function, example, {}) if isinstance(function, keras.Operation) else None
        if found := found or _trace(None, function, example):
            return found[0]
    return None


def _functional(operation: Any) -> Any:
    """Returns the graph of a model that is one, else None."""
    import keras
    from keras.src.models.functional import Functional

    call = type(operation).call if isinstance(operation, keras.Model) else None
    if call is keras.Sequential.call:
        return operation._functional
    return operation if call is Functional.call else None


def _layer_of_keras(layer: Any) -> str | None:
    """Names the layer of Keras that a layer computes as; None for one with a ``call`` of its own."""
    import keras

    for kind in type(layer).__mro__:
        if getattr(keras.layers, kind.__name__, None) is kind and kind.call is type(layer).call:
            return kind.__name__
    return None


def _trace(operation: Any, call: Callable[..., Any], args: Any, kwargs: Any = None) -> list[_Found]:
    """Follows a function through symbolic tensors; the list is empty if it does not take them."""
    import keras

    args, kwargs = keras.tree.map_structure(_tensor_like, (args, kwargs or {}))
    ends = [value for value in keras.tree.flatten((args, kwargs)) if isinstance(value, keras.KerasTensor)]
    with suppress(Exception), keras.StatelessScope(), _graph_unchanged(operation):
        return _search(ends, keras.tree.flatten(call(*args, **kwargs)))
    return []


def _tensor_like(value: Any) -> Any:
    """A symbolic tensor without a history for anything that has a shape and a dtype."""
    import keras

    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return keras.KerasTensor(tuple(value.shape), keras.backend.standardize_dtype(value.dtype))
    return value


@contextmanager
def _graph_unchanged(layer: Any) -> Iterator[None]:
    """Lets layers be called symbolically, and forgets these calls afterwards."""
    layers = list(layer._flatten_layers()) if layer is not None else []
    parts = [part for one in layers for part in (one, *getattr(one, "operations", ()))]
    before = [(part, part._inbound_nodes[:], part._outbound_nodes[:]) for part in parts]
    try:
        yield
    finally:
        for part, inbound, outbound in before:
            part._inbound_nodes[:], part._outbound_nodes[:] = inbound, outbound
