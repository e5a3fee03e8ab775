"""Finds in the graph of a model which of its outputs are probabilities."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from keras_course._backend import keras_private

__all__ = ["output_activations"]

SOFTMAX: Final = "softmax"
SIGMOID: Final = "sigmoid"

_Found: TypeAlias = "str | frozenset[int] | None"
"""The activation that made the values, or the indices of the inputs that they are copied from; None for neither."""

_FUNCTIONS: Final = {
    **dict.fromkeys(("softmax", "sparsemax"), SOFTMAX),
    **dict.fromkeys(("sigmoid", "hard_sigmoid", "sparse_sigmoid"), SIGMOID),
}
"""Functions of ``keras.activations`` and ``keras.ops`` that return probabilities."""

_OPERATIONS: Final = {
    **dict.fromkeys(("Softmax", "Sparsemax"), SOFTMAX),
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "SparseSigmoid"), SIGMOID),
}
"""Operations and layers that return probabilities."""

_END_IN_ACTIVATION: Final = (
    *("Activation", "Dense", "EinsumDense", "SimpleRNN"),
    *(f"{kind}{sides}D" for kind in ("Conv", "SeparableConv", "DepthwiseConv") for sides in (1, 2, 3)),
    *(f"Conv{sides}DTranspose" for sides in (1, 2, 3)),
)
"""Layers whose last operation is their ``activation``."""

_AROUND: Final = ("TimeDistributed", "SpectralNormalization")
"""Layers whose last operation is their ``layer``."""

_PASS_ON: Final = (
    # the same values
    *("Identity", "ActivityRegularization", "Masking", "Dropout", "GaussianDropout", "GaussianNoise", "AlphaDropout"),
    *(f"SpatialDropout{sides}D" for sides in (1, 2, 3)),
    # in another order, or some of them
    *("Reshape", "Flatten", "Permute", "RepeatVector", "Concatenate", "CenterCrop"),
    *(f"{kind}{sides}D" for kind in ("Cropping", "ZeroPadding", "UpSampling", "MaxPooling") for sides in (1, 2, 3)),
    *(f"GlobalMaxPooling{sides}D" for sides in (1, 2, 3)),
    # means of probabilities are probabilities, too
    "Average",
    *(f"{kind}AveragePooling{sides}D" for kind in ("", "Adaptive", "Global") for sides in (1, 2, 3)),
)
"""Layers that in inference mode only move, copy, cut or average their inputs."""

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
"""Operations among them that use all their inputs; the others use the first one."""


def output_activations(model: Any, inputs: Any = None) -> list[str | None]:
    """Returns for each output of a model ``"softmax"`` (probabilities that sum to 1), ``"sigmoid"`` or None.

    The last operation that does more than move, copy, cut or average values decides. Only a subclassed model needs
    ``inputs``: arrays or ``keras.KerasTensor``, as it takes them. The list is empty if nothing is known.
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
    """Follows a graph back from each output to the operation that made its values, or to an end, given by its index.

    The search is iterative, since chains can be long, and visits each tensor once.
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
    """Returns the common origin of values that come from several tensors."""
    places = [one for one in found if isinstance(one, frozenset)]
    if len(places) == len(found):
        return frozenset().union(*places) if places else None
    return found[0] if len(set(found)) == 1 else None


def _made_by(tensor: Any) -> tuple[list[Any], _Found]:
    """Returns the input tensors of the operation that made a symbolic tensor, and the origin of its values."""
    made = keras_private.call_that_made(tensor)
    if made is None:
        return [], None
    operation, call, output = made
    found = _of_call(operation, call.arguments.args, call.arguments.kwargs)
    return call.arguments.keras_tensors, found[output] if len(found) > 1 else found[0]


def _of_call(operation: Any, args: Any, kwargs: Any) -> list[_Found]:
    """Returns the origin of each output of an operation, or one entry for all; inputs are counted in all arguments."""
    import keras

    kind = type(operation)
    functional = _functional(operation)
    if functional is not None:
        return _search(functional.inputs, functional.outputs)
    if not isinstance(operation, keras.Layer):
        if kind.__name__ in _OPERATIONS_THAT_PASS_ON.get(kind.__module__, ()):
            count = sum(isinstance(value, keras.KerasTensor) for value in keras.tree.flatten((args, kwargs)))
            return [frozenset(range(count if kind.__name__ in _OF_SEVERAL else 1))]
        return [_OPERATIONS.get(kind.__name__) if keras_private.is_operation_of_keras(operation) else None]
    name = _layer_of_keras(operation)
    if name in _OPERATIONS:
        return [_OPERATIONS[name]]
    if name in _END_IN_ACTIVATION:
        found = _of_function(operation.activation)
        # a linear activation of a dense layer passes on values that the layer has computed
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
    """Returns the origin of the values of an activation function."""
    import keras

    for name, activation in _FUNCTIONS.items():
        if function in (getattr(keras.activations, name), getattr(keras.ops, name)):
            return activation
    if function is keras.activations.linear:
        return frozenset([0])
    if keras_private.is_activation_of_keras(function):
        return None
    for count in range(2, 6):  # numbers of axes, since a function may need several
        example = (keras.KerasTensor((None,) * (count - 1) + (2,)),)
        found = _of_call(function, example, {}) if isinstance(function, keras.Operation) else None
        if found := found or _trace(None, function, example):
            return found[0]
    return None


def _functional(operation: Any) -> Any:
    """Returns the functional model that computes the outputs of a model, None for a custom ``call``."""
    import keras

    if not isinstance(operation, keras.Model):
        return None
    if type(operation).call is keras.Sequential.call:
        return keras_private.graph_of(operation)
    return operation if keras_private.is_functional(operation) else None


def _layer_of_keras(layer: Any) -> str | None:
    """Returns the name of the Keras layer whose ``call`` a layer uses; None for a custom ``call``."""
    import keras

    for kind in type(layer).__mro__:
        if getattr(keras.layers, kind.__name__, None) is kind and kind.call is type(layer).call:
            return kind.__name__
    return None


def _trace(operation: Any, call: Callable[..., Any], args: Any, kwargs: Any = None) -> list[_Found]:
    """Calls a function on symbolic tensors and searches their graph; the list is empty if the call fails."""
    import keras

    args, kwargs = keras.tree.map_structure(_tensor_like, (args, kwargs or {}))
    ends = [value for value in keras.tree.flatten((args, kwargs)) if isinstance(value, keras.KerasTensor)]
    layers = [] if operation is None else keras_private.all_layers(operation)
    with suppress(Exception), keras.StatelessScope(), keras_private.graph_unchanged(layers):
        return _search(ends, keras.tree.flatten(call(*args, **kwargs)))
    return []


def _tensor_like(value: Any) -> Any:
    """Returns a symbolic tensor without a history for a value with a shape and a dtype, else the value."""
    import keras

    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return keras.KerasTensor(tuple(value.shape), keras.backend.standardize_dtype(value.dtype))
    return value
