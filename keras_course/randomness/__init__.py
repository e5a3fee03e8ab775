"""One counter-based generator, so that one seed means the same numbers on every backend.

The generator is Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): a
function of a key and a counter that returns 64 random bits and uses only 32-bit additions, rotations and exclusive ors.
It has no state: a number depends only on its key and its place, and not on the backend, the device or the division of
the work into batches or shards.

Each function is written once, in the operations that NumPy and ``keras.ops`` share. ``xp=numpy`` (the default) draws on
the host; ``xp=keras.ops`` draws the same bits on the device, inside a compiled step.

| file | contents |
|---|---|
| ``generator`` | streams and draws; needs only NumPy |
| ``weights`` | initial weights of a Keras model |
| ``layers`` | dropout as a Keras layer |

Importing this package does not import Keras; the first use of ``initialize``, ``draw_weights`` or ``Dropout`` does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from keras_course.randomness.generator import (
    Key,
    integers,
    keep_mask,
    normal,
    permutation,
    random_bits,
    stream_key,
    threefry_2x32,
    uniform,
)

if TYPE_CHECKING:
    from keras_course.randomness.layers import Dropout
    from keras_course.randomness.weights import draw_weights, initialize

__all__ = [
    "Dropout",
    "Key",
    "draw_weights",
    "initialize",
    "integers",
    "keep_mask",
    "normal",
    "permutation",
    "random_bits",
    "stream_key",
    "threefry_2x32",
    "uniform",
]

_IN_KERAS = {"Dropout": "layers", "draw_weights": "weights", "initialize": "weights"}


def __getattr__(name: str) -> Any:
    """Imports Keras at the first use of a name that needs it."""
    if name not in _IN_KERAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_IN_KERAS[name]}"), name)
