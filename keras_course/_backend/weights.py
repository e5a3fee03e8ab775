"""Describes a model, and builds a model from a description without allocating its weights.

A description may come from a file that is not trusted, and may ask for more weights than fit in memory. So the weights
are deferred: Keras records each of them in a list and creates none. The list also has the weights of layers that are
built and then are not part of the model, which the model itself does not know.
"""

import json
import random
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock, get_ident
from typing import Any, Final

import numpy as np

from keras_course._backend import keras_private

_ONE_WEIGHT: Final = ("Dense", *(f"{kind}{sides}D" for kind in ("Conv", "DepthwiseConv") for sides in (1, 2)))
_PLAIN: Final = {
    **dict.fromkeys(_ONE_WEIGHT, (1, ("use_bias",))),
    "BatchNormalization": (2, ("center", "scale")),
    "LayerNormalization": (0, ("center", "scale")),
    "Embedding": (1, ()),
    **dict.fromkeys(("InputLayer", "Identity", "Rescaling", "Flatten", "Reshape", "Dropout"), (0, ())),
    **dict.fromkeys(("Activation", "ReLU", "Softmax", "Add", "Concatenate", "ZeroPadding2D"), (0, ())),
    **dict.fromkeys(("MaxPooling2D", "AveragePooling2D", "GlobalMaxPooling2D", "GlobalAveragePooling2D"), (0, ())),
    "keras_course>Dropout": (1, ()),
}
"""Layers that can always be rebuilt: their number of weights, and the settings that each add one weight."""

_AROUND_A_MODEL: Final = "keras_course>Backbone"
"""The layer of this course that contains a model."""

_LARGEST_SIDE: Final = 2**62

_tensor_creation_lock = Lock()


def describe(model: Any) -> dict[str, Any]:
    """Returns the description of a model that Keras writes into a file, as JSON can hold it: its layers, no weights."""
    import keras

    with warnings.catch_warnings(), keras_private.object_sharing():
        warnings.simplefilter("ignore")  # about functions that cannot be loaded again
        return dict(json.loads(json.dumps(keras.saving.serialize_keras_object(model))))


def rebuild(description: Any) -> tuple[Any, list[Any]]:
    """Builds a model from a description of `describe`; returns it and its deferred weights, for `create_weights`."""
    import keras

    with keras_private.deferred_variables() as deferred, _shapes_limited(), keras_private.object_sharing():
        return keras.saving.deserialize_keras_object(description, safe_mode=True), deferred


def is_plain(model: Any) -> bool:
    """Returns whether `rebuild` certainly rebuilds a model with the same number of weights.

    It does for common layers, each of which is used once, on outputs of other layers. The check takes a tenth of the
    time of rebuilding; an EfficientNet has 154 layers.
    """
    import keras

    seen: set[int] = set()
    nets = [model]
    while nets:
        net = nets.pop()
        graph = keras_private.graph_of(net) if net.built else None
        if graph is None or keras_private.uses_a_layer_twice(graph):
            return False
        for layer in graph.operations:
            if id(layer) in seen:
                return False
            seen.add(id(layer))
            net = layer.model if _name_in_course(layer) == _AROUND_A_MODEL else layer
            if isinstance(net, keras.Model):
                nets.append(net)
            elif not _is_plain_layer(layer):
                return False
        for node in keras_private.calls_in_graph(graph):
            inputs = keras.tree.flatten(node.arguments.args)
            settings = keras.tree.flatten(node.arguments.kwargs)
            if not all(isinstance(value, keras.KerasTensor) for value in inputs):
                return False
            if not all(value is None or isinstance(value, bool) for value in settings):
                return False
    return True


def _is_plain_layer(layer: Any) -> bool:
    """Returns whether a layer is a common one with its usual weights, and has no layers inside."""
    import keras

    kind = type(layer)
    name = kind.__name__ if getattr(keras.layers, kind.__name__, None) is kind else _name_in_course(layer)
    if name not in _PLAIN or keras_private.all_layers(layer, include_self=False):
        return False
    count, optional = _PLAIN[name]
    return len(layer.weights) == count + sum(bool(getattr(layer, setting)) for setting in optional)


def _name_in_course(layer: Any) -> str | None:
    """Returns the name under which a layer of this course is registered in Keras, None for any other object."""
    import keras

    name = str(keras.saving.get_registered_name(type(layer)))
    return name if name.startswith("keras_course>") else None


@contextmanager
def _shapes_limited() -> Iterator[None]:
    """Raises an error when a shape becomes absurdly large.

    A chain of outer products squares the number of elements each time. After forty of them, writing down the size alone
    fills the memory.
    """
    thread = get_ident()

    def limit(native: Callable[..., None]) -> Callable[..., None]:
        def limited(tensor: Any, shape: Any, *args: Any, **settings: Any) -> None:
            if get_ident() == thread and any(isinstance(side, int) and side > _LARGEST_SIDE for side in shape):
                raise ValueError(f"a layer has an output with a side of more than {_LARGEST_SIDE:,} numbers")
            native(tensor, shape, *args, **settings)

        return limited

    with _tensor_creation_lock, keras_private.tensor_creation_replaced(limit):
        yield


@contextmanager
def global_state_restored() -> Iterator[None]:
    """Restores the counters of layer names and Python's random state, so that later layers are not affected."""
    state = random.getstate()
    try:
        with keras_private.layer_names():
            yield
    finally:
        random.setstate(state)


@contextmanager
def without_training(model: Any) -> Iterator[None]:
    """Removes optimizer, compile settings and initial values in arrays from a model while it is described.

    The settings differ between backends. The arrays can be large, and trained weights replace them.
    """
    import keras

    compiled, optimizer = model.compiled, getattr(model, "optimizer", None)
    starts = [
        (initializer, initializer.value)
        for layer in keras_private.all_layers(model)
        for initializer in vars(layer).values()
        if isinstance(initializer, keras.initializers.Constant) and np.ndim(initializer.value)
    ]
    model.compiled, model.optimizer = False, None
    try:
        for initializer, _ in starts:
            initializer.value = 0.0
        yield
    finally:
        for initializer, value in starts:
            initializer.value = value
        model.compiled, model.optimizer = compiled, optimizer


def create_weights(deferred: Iterable[Any]) -> None:
    """Creates deferred weights whose values will come from a file: zeros replace random numbers and arrays.

    On JAX, drawing the weights of an EfficientNet takes half a minute: a program is compiled for each shape.
    """
    from keras import initializers, ops

    def zeros(shape: Any, dtype: Any = None) -> Any:
        return ops.convert_to_tensor(np.zeros(shape), dtype)

    for weight in deferred:
        initializer = keras_private.initializer_of(weight)
        # an array is broadcast with the shape of the weight, which could need far more memory than either
        is_array = isinstance(initializer, initializers.Constant) and np.ndim(initializer.value)
        if is_array or keras_private.is_random_initializer(initializer):
            keras_private.set_initializer(weight, zeros)
        keras_private.create(weight)
