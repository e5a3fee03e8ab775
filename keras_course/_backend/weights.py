"""The description of a model, and the model that is made from it with weights that are put off or not drawn.

This room may use what Keras does not make public, and here it has to: Keras keeps a list of the weights that it has put
off, and makes them at the end of some later scope. Whoever wants to know how many a description asks for needs that
list. The weights of the net that comes of it are not all: a description can name layers that are made, and fill the
memory, and then are no part of the net. And what is left in the list would be made by whoever comes next.
"""

import json
import random
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock, get_ident
from typing import Any, Final

import numpy as np

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
"""Layers that are made again from any description of them, how many weights they have, and what adds one to these."""

_AROUND_A_NET: Final = "keras_course>Backbone"
"""The layer of this course that has a model inside."""

_LIST: Final = "uninitialized_variables"
_NAMES: Final = "object_name_uids"
_LARGEST_SIDE: Final = 2**62

_only_one = Lock()


def describe(model: Any) -> dict[str, Any]:
    """Returns what Keras would write about a model into a file: its layers, without weights.

    Args:
        model: A Keras model.

    Returns:
        The description, as it comes back from JSON.

    Example:
        >>> import keras
        >>> describe(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))["class_name"]
        'Sequential'
    """
    import keras
    from keras.src.saving.serialization_lib import ObjectSharingScope

    with warnings.catch_warnings(), ObjectSharingScope():
        warnings.simplefilter("ignore")  # of functions that will not be opened again
        return dict(json.loads(json.dumps(keras.saving.serialize_keras_object(model))))


def rebuild(description: Any) -> tuple[Any, list[Any]]:
    """Makes a model from its description, without its weights.

    Args:
        description: What `describe` returned, or what a file holds.

    Returns:
        The model, and the weights that were asked for, which `make` makes.

    Example:
        >>> import keras
        >>> model, asked = rebuild(describe(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])))
        >>> [tuple(weight.shape) for weight in asked]
        [(2, 1), (1,)]
    """
    import keras
    from keras.src.saving.serialization_lib import ObjectSharingScope

    with (
        put_off() as asked,
        _shapes_limited(),
        ObjectSharingScope(),
    ):  # in which a layer that is used in two places is one
        return keras.saving.deserialize_keras_object(description, safe_mode=True), asked


def is_plain(model: Any) -> bool:
    """Says whether `rebuild` certainly makes a model again, with as many weights, so that it need not be tried.

    It does for a net of usual layers, each of which is used once, on nothing but what other layers make. To look at
    them takes a tenth of the time of making them: an EfficientNet has 154.

    Args:
        model: A Keras model whose description may be opened.

    Returns:
        False if anything in it is unusual.

    Example:
        >>> import keras
        >>> dense = keras.layers.Dense(2)
        >>> is_plain(keras.Sequential([keras.Input((2,)), dense]))
        True
        >>> inputs = keras.Input((2,))
        >>> is_plain(keras.Model(inputs, dense(dense(inputs))))
        False
    """
    import keras

    seen: set[int] = set()
    nets = [model]
    while nets:
        net = nets.pop()
        graph = getattr(net, "_functional", net) if net.built else None
        if graph is None or len(graph._nodes) != len(graph.operations):  # a layer is used twice
            return False
        for layer in graph.operations:
            if id(layer) in seen:
                return False
            seen.add(id(layer))
            net = layer.model if _name_in_course(layer) == _AROUND_A_NET else layer
            if isinstance(net, keras.Model):
                nets.append(net)
            elif not _is_plain_layer(layer):
                return False
        for node in (node for depth in graph._nodes_by_depth.values() for node in depth):
            taken = keras.tree.flatten(node.arguments.args)
            settings = keras.tree.flatten(node.arguments.kwargs)
            if not all(isinstance(value, keras.KerasTensor) for value in taken):
                return False
            if not all(value is None or isinstance(value, bool) for value in settings):
                return False
    return True


def _is_plain_layer(layer: Any) -> bool:
    """Says whether a layer is one of the usual ones, with its usual weights, and none of them in a layer inside it."""
    import keras

    kind = type(layer)
    name = kind.__name__ if getattr(keras.layers, kind.__name__, None) is kind else _name_in_course(layer)
    if name not in _PLAIN or list(layer._flatten_layers(include_self=False)):
        return False
    count, more = _PLAIN[name]
    return len(layer.weights) == count + sum(bool(getattr(layer, setting)) for setting in more)


def _name_in_course(layer: Any) -> str | None:
    """Returns the name under which a layer of this course is known to Keras; None for all others, and operations."""
    import keras

    name = str(keras.saving.get_registered_name(type(layer)))
    return name if name.startswith("keras_course>") else None


@contextmanager
def _shapes_limited() -> Iterator[None]:
    """Ends the making of a model whose shapes are no shapes any more.

    A chain of products of something with itself squares the number of elements each time: after forty of them, the
    number alone fills the memory.
    """
    import keras

    thread = get_ident()

    def limited(tensor: Any, shape: Any, *args: Any, **settings: Any) -> None:
        if get_ident() == thread and any(isinstance(side, int) and side > _LARGEST_SIDE for side in shape):
            raise ValueError(f"a layer makes a side of more than {_LARGEST_SIDE:,} numbers")
        make_tensor(tensor, shape, *args, **settings)

    with _only_one:
        make_tensor = keras.KerasTensor.__init__
        keras.KerasTensor.__init__ = limited
        try:
            yield
        finally:
            keras.KerasTensor.__init__ = make_tensor


@contextmanager
def leaving_no_trace() -> Iterator[None]:
    """Lets layers be made without a change to the names and the random numbers of those that are made later.

    Example:
        >>> import keras
        >>> with leaving_no_trace():
        ...     name = keras.layers.Dense(1).name
        >>> keras.layers.Dense(1).name == name
        True
    """
    from keras.src.backend.common import global_state

    names, state = global_state.get_global_attribute(_NAMES), random.getstate()
    before = None if names is None else names.copy()
    try:
        yield
    finally:
        global_state.set_global_attribute(_NAMES, before)
        random.setstate(state)


@contextmanager
def without_training(model: Any) -> Iterator[None]:
    """Takes from a model, for as long as it is described, what only its training needs.

    These are its optimizer and compile settings, which differ from backend to backend, and arrays that weights start
    from, which can be larger than all the rest, and are replaced by what has been learned.

    Args:
        model: A Keras model.
    """
    import keras

    compiled, optimizer = model.compiled, getattr(model, "optimizer", None)
    starts = [
        (initializer, initializer.value)
        for layer in model._flatten_layers()
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


@contextmanager
def put_off() -> Iterator[list[Any]]:
    """Lets layers be made without the memory of their weights, which are made by `make` or never.

    Yields:
        The weights that were asked for so far, each with its shape.

    Example:
        >>> import keras
        >>> with put_off() as asked:
        ...     layer = keras.layers.Dense(10**6)
        ...     layer.build((None, 10**6))
        >>> [tuple(weight.shape) for weight in asked]
        [(1000000, 1000000), (1000000,)]
    """
    import keras
    from keras.src.backend.common import global_state

    before = global_state.get_global_attribute(_LIST)
    asked: list[Any] = []
    global_state.set_global_attribute(_LIST, asked)
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield asked
    finally:
        global_state.set_global_attribute(_LIST, before or [])


def make(asked: Iterable[Any]) -> None:
    """Makes the weights that were put off, with zeros in place of random numbers and arrays, for values from a file.

    On JAX, drawing those of an EfficientNet takes half a minute: a program is compiled for each shape.

    Args:
        asked: What `put_off` has yielded.

    Example:
        >>> import keras
        >>> with put_off() as asked:
        ...     layer = keras.layers.Dense(3)
        ...     layer.build((None, 2))
        >>> make(asked)
        >>> bool((keras.ops.convert_to_numpy(layer.kernel) == 0).all())
        True
    """
    from keras import initializers, ops
    from keras.src.initializers.random_initializers import RandomInitializer

    for weight in asked:
        start = weight._initializer
        # an array may be larger than the weight: together they would make as many numbers as their product
        is_array = isinstance(start, initializers.Constant) and np.ndim(start.value)
        if is_array or isinstance(start, RandomInitializer):
            weight._initializer = lambda shape, dtype=None: ops.convert_to_tensor(np.zeros(shape), dtype)
        weight._deferred_initialize()
