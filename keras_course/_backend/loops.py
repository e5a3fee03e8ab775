"""What a compiled training loop takes and gives: the same on the three backends, whatever is trained.

`fit` trains one network with one optimizer. A generative adversarial network has two of each, and reinforcement
learning has batches of its own. All go through one loop, which knows a step only as a list of updates.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    import numpy as np

PATCHING: Final = RLock()
"""Held while a function of Keras is replaced: two threads would else put back what the other has put in its place."""


@dataclass(frozen=True)
class Update:
    """One part of a training step: variables that an optimizer moves down the gradient of a loss.

    Args:
        loss: A function from a batch, a nest of tensors, to the loss, a scalar tensor. It is called with Keras
            variables that have their values of this step; what it assigns to other variables is kept. With ``logs`` it
            returns the pair of the loss and a mapping that has a tensor for each name there.
        optimizer: A Keras optimizer, built for these variables; None for a loss that is only measured, or that assigns
            what it changes by itself.
        variables: The Keras variables that the optimizer moves.
        logs: The shapes of further tensors that ``loss`` returns, by name.
    """

    loss: Callable[[Any], Any]
    optimizer: Any = None
    variables: Sequence[Any] = ()
    logs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """How many numbers the loop reports of a step: the loss and those of the logs."""
        return 1 + sum(math.prod(shape) for shape in self.logs.values())

    def measure(self, batch: Any) -> tuple[Any, Any]:
        """Returns the loss of a batch, and the float32 row (width,) of the loss and the logs."""
        from keras import ops

        result = self.loss(batch)
        loss, logs = result if self.logs else (result, {})
        parts = [loss, *(logs[name] for name in self.logs)]
        flat = [ops.reshape(ops.cast(part, "float32"), (-1,)) for part in parts]
        return loss, ops.concatenate(flat) if len(flat) > 1 else flat[0]


class TrainingLoop(Protocol):
    """Takes training steps, several in one call, each of them all updates one after the other.

    An update sees what those before it in the same step have changed. Each shape of the batches is one compiled
    program.

    Args:
        updates: What a step consists of.
        state: Further Keras variables that the losses read or assign: statistics of batch normalisation, states of
            random generators, metrics.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from keras_course import _backend
        >>> weight = keras.Variable([4.0])
        >>> optimizer = keras.optimizers.SGD(0.25)
        >>> optimizer.build([weight])
        >>> def loss(batch):
        ...     return keras.ops.sum((weight - batch["target"]) ** 2)
        >>> loop = _backend.training_loop([_backend.Update(loss, optimizer, [weight])])
        >>> loop.load()
        >>> np.asarray(loop.run({"target": np.zeros((3, 1), "float32")}, 3))[:, 0].tolist()  # the weight is halved
        [16.0, 4.0, 1.0]
        >>> loop.sync()
        >>> keras.ops.convert_to_numpy(weight).tolist()
        [0.5]
    """

    def __init__(self, updates: Sequence[Update], state: Sequence[Any] = ()) -> None: ...

    def run(self, batches: Any, count: int) -> Any:
        """Takes the first ``count`` steps.

        Args:
            batches: A nest of NumPy arrays (steps, batch, ...).
            count: How many of the batches to use; 0 compiles the program and changes nothing.

        Returns:
            An array of at least ``count`` rows, perhaps still being computed: for each update its loss and its logs,
            one number beside the other.
        """
        ...

    def load(self) -> None:
        """Takes the values of the Keras variables, before the first ``run`` and after others have changed them."""
        ...

    def sync(self) -> None:
        """Hands the values to the Keras variables; after a call that failed they keep those of the last ``load``."""
        ...


def all_variables(updates: Sequence[Update], state: Sequence[Any]) -> list[Any]:
    """Lists every variable that a step reads or changes, each once.

    Args:
        updates: What the step consists of.
        state: Further variables.

    Returns:
        Those of the updates, the state, and those of the optimizers.
    """
    moved = [variable for update in updates for variable in update.variables]
    kept = [variable for update in updates if update.optimizer for variable in update.optimizer.variables]
    return list({id(variable): variable for variable in [*moved, *state, *kept]}.values())


def leaves(nest: Any) -> "Iterator[np.ndarray]":
    """Yields the arrays of a nest of dictionaries, lists and tuples, in one order.

    Args:
        nest: The nest.

    Example:
        >>> import numpy as np
        >>> [leaf.tolist() for leaf in leaves({"b": np.zeros(1), "a": (np.ones(1), np.ones(2))})]
        [[1.0], [1.0, 1.0], [0.0]]
    """
    if isinstance(nest, dict):
        for name in sorted(nest):
            yield from leaves(nest[name])
    elif isinstance(nest, list | tuple):
        for part in nest:
            yield from leaves(part)
    else:
        yield nest


def shapes(nest: Any) -> tuple[Any, ...]:
    """Returns what decides whether two batches can use one compiled program."""
    return tuple((leaf.shape, leaf.dtype.str) for leaf in leaves(nest))
