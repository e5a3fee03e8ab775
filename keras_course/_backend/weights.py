"""Weights that are asked for and not made yet, or made without drawing any.

This room may use what Keras does not make public, and here it has to: Keras keeps a list of the weights that it has put
off, and makes them at the end of some later scope. Whoever wants to know how many a description asks for needs that
list. The weights of the net that comes of it are not all: a description can name layers that are made, and fill the
memory, and then are no part of the net. And what is left in the list would be made by whoever comes next.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

_LIST: Final = "uninitialized_variables"


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
    """Makes the weights that were put off, with zeros in place of random numbers, for values from a file.

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
    from keras import ops
    from keras.src.initializers.random_initializers import RandomInitializer

    for weight in asked:
        if isinstance(weight._initializer, RandomInitializer):
            weight._initializer = lambda shape, dtype=None: ops.convert_to_tensor(np.zeros(shape), dtype)
        weight._deferred_initialize()
