"""The interface of the compiled training loop, the same on the three backends and for everything that is trained.

`fit` trains one network with one optimizer. A generative adversarial network has two of each, and reinforcement
learning generates its batches. All use one loop, for which a step is a list of updates.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    import numpy as np

PATCHING: Final = RLock()
"""Held while a function of Keras is replaced, so that two threads do not restore each other's replacement."""


@dataclass(frozen=True)
class Update:
    """One part of a training step: an optimizer reduces a loss by changing variables.

    Args:
        loss: A function from a batch, a nest of tensors, to the loss, a scalar tensor. The Keras variables have their
            values of this step, and values that the function assigns to other variables are kept. With ``logs`` it
            returns the loss and a mapping with a tensor for each name in ``logs``.
        optimizer: A Keras optimizer, built for these variables; None for a loss that is only measured, or that assigns
            the new values itself.
        variables: The Keras variables that the optimizer changes.
        logs: The shapes of further tensors that ``loss`` returns, by name.
    """

    loss: Callable[[Any], Any]
    optimizer: Any = None
    variables: Sequence[Any] = ()
    logs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """The number of values that the loop reports for a step: the loss and the logs."""
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
    """Takes several training steps in one call; a step applies all updates in order.

    An update sees the changes of the updates before it in the same step. A program is compiled for each shape of the
    batches.

    Args:
        updates: The updates of a step.
        state: Further Keras variables that the losses read or assign: statistics of batch normalization, states of
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

    @abstractmethod
    def run(self, batches: Any, count: int) -> Any:
        """Takes the first ``count`` steps.

        Args:
            batches: A nest of NumPy arrays (steps, batch, ...).
            count: Number of batches to use; 0 compiles the program and changes nothing.

        Returns:
            An array of at least ``count`` rows, which may still be computed; ``np.asarray`` waits for it. A row has
            the loss and the logs of each update.
        """
        ...

    @abstractmethod
    def load(self) -> None:
        """Reads the Keras variables: before the first ``run``, and after other code has changed them."""
        ...

    @abstractmethod
    def sync(self) -> None:
        """Writes the Keras variables; after a ``run`` that failed they keep the values of the last ``load``."""
        ...


def all_variables(updates: Sequence[Update], state: Sequence[Any]) -> list[Any]:
    """Returns every variable that a step reads or changes, each once: of updates, optimizers and state."""
    moved = [variable for update in updates for variable in update.variables]
    kept = [variable for update in updates if update.optimizer for variable in update.optimizer.variables]
    return list({id(variable): variable for variable in [*moved, *state, *kept]}.values())


def find_not_compilable(objects: Iterable[Any]) -> str | None:
    """Returns the class of the first layer or other object that does not support compilation, in words; else None."""
    names = (type(thing).__name__ for thing in objects if not getattr(thing, "supports_jit", True))
    return next((f"the class {name!r}" for name in names), None)


def leaves(nest: Any) -> "Iterator[np.ndarray]":
    """Yields the arrays of a nest of dictionaries (in the order of their keys), lists and tuples."""
    if isinstance(nest, dict):
        for name in sorted(nest):
            yield from leaves(nest[name])
    elif isinstance(nest, list | tuple):
        for part in nest:
            yield from leaves(part)
    else:
        yield nest


def shapes(nest: Any) -> tuple[Any, ...]:
    """Returns the shapes and data types of a batch; batches that agree in them share a compiled program."""
    return tuple((leaf.shape, leaf.dtype.str) for leaf in leaves(nest))
