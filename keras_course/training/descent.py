"""Trains several runs together: same loss, start and batches, with an update rule and a learning rate for each run.

The parameters of the runs are stacked along a new first axis, and one compiled program takes the steps of all runs.
This works because all update rules are special cases of one formula (``update_rules``).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_course import _backend
from keras_course.errors import CourseError
from keras_course.update_rules import UpdateRule, update

FloatArray = npt.NDArray[np.float64]
Rows = tuple[np.ndarray, ...]
"""A batch for each step, as arrays (steps, batch, ...)."""
Settings = Sequence[tuple[UpdateRule, float]]
"""The update rule and the learning rate of each run."""

DIVERGED_ABOVE = 1e6
"""A run has diverged when its loss exceeds the loss at the start (or 1, if that is more) by this factor."""


@dataclass(frozen=True, kw_only=True)
class Descent:
    """One run of gradient descent, up to its end or to the step where it diverged.

    Args:
        optimizer: The title of the update rule.
        learning_rate: λ.
        batch_size: Samples in a batch; None if each step uses all data, or if there is no data.
        losses: The loss of each step, on its batch and before the update, shape (steps,).
        epoch_losses: The loss on all data, at the start and after each epoch, shape (epochs + 1,). Without data each
            step is an epoch.
        val_losses: The loss on the validation data, at the start and after each epoch; None without validation data.
        path: The flattened parameters at the start and after each step, shape (steps + 1, parameters); None if they
            were not recorded.
        parameters: The parameters after the last epoch, or after the last one before the run diverged.
        diverged: The step where the run diverged, and the remedy; None if it did not diverge.
    """

    optimizer: str
    learning_rate: float
    batch_size: int | None
    losses: FloatArray
    epoch_losses: FloatArray
    val_losses: FloatArray | None
    path: FloatArray | None
    parameters: list[np.ndarray]
    diverged: str | None


@dataclass(frozen=True)
class Problem:
    """The loss that the runs minimize, its start and its data, on which the loss is computed after each epoch."""

    loss: Callable[[list[Any], list[Any], tuple[Any, ...], bool], tuple[Any, list[Any]]]
    """From the parameters, the state, a batch and whether this is training, to the loss and the new state."""
    start: Sequence[np.ndarray]
    state: Sequence[np.ndarray] = ()
    """Further variables of a model, such as the statistics of batch normalization."""
    train: Sequence[Rows] = ((np.zeros((1, 1), "float32"),),)  # one dummy row if there is no data
    valid: Sequence[Rows] = ()


def prepare_descent(
    problem: Problem, settings: Settings, *, paths: bool = False
) -> Callable[[Iterable[Iterable[tuple[Rows, int]]], int | None], list[Descent]]:
    """Prepares to train all runs together; returns a function from the epochs and the batch size to the runs, in order.

    An epoch is a sequence of groups of batches, each with the number of steps to take in it. With ``paths`` the
    parameters after each step are recorded. The function raises a CourseError if the loss at the start is not finite.
    """
    runs = _Runs(problem, settings, paths)

    def descend(epochs: Iterable[Iterable[tuple[Rows, int]]], batch_size: int | None) -> list[Descent]:
        runs.start()
        record = _Record(runs.measure(problem.train), runs.parameters())
        if problem.valid:
            record.validation.append(runs.measure(problem.valid))
        for groups in epochs:
            for rows, count in groups:
                record.note_steps(*runs.take_steps(rows, count))
            record.note_epoch(runs.measure(problem.train), runs.parameters())
            if problem.valid:
                record.validation.append(runs.measure(problem.valid))
            if not record.is_active.any():
                break
        return [
            record.descent(run, rule, rate, batch_size, _split(problem, record.parameters[run], np))
            for run, (rule, rate) in enumerate(settings)
        ]

    return descend


class _Record:
    """The losses and parameters of all runs."""

    def __init__(self, losses: FloatArray, parameters: np.ndarray) -> None:
        if not np.isfinite(losses).all():
            raise CourseError(f"the loss at the start is {losses[0]}; choose another start, or look at the data")
        self.is_active = np.ones(len(losses), bool)
        self._limits = DIVERGED_ABOVE * np.maximum(1.0, np.abs(losses))
        self.parameters = parameters  # (runs, parameters)
        self._losses = [np.zeros((0, len(losses)))]  # each (steps, runs)
        self._points = [parameters[None]]  # each (steps, runs, parameters)
        self._ends, self._measured = [0], [losses]
        self.validation: list[FloatArray] = []  # each (runs,)

    def note_steps(self, losses: np.ndarray, *points: np.ndarray) -> None:
        """Adds the losses (steps, runs) of a group of steps, and their parameters if they are recorded."""
        self._losses.append(losses.astype("float64"))
        self._points += points
        self.is_active &= (self._losses[-1] <= self._limits).all(axis=0)

    def note_epoch(self, losses: FloatArray, parameters: np.ndarray) -> None:
        """Adds the losses (runs,) after an epoch, and keeps the parameters of runs that have not diverged."""
        self._ends.append(sum(map(len, self._losses)))
        self._measured.append(losses)
        self.is_active &= losses <= self._limits
        self.parameters = np.where(self.is_active[:, None], parameters, self.parameters)

    def descent(
        self, run: int, rule: UpdateRule, learning_rate: float, batch_size: int | None, parameters: list[np.ndarray]
    ) -> Descent:
        """Returns one run, up to the step where it diverged."""
        losses = np.concatenate(self._losses)[:, run]
        measured = np.stack(self._measured)[:, run]
        ends = np.array(self._ends)
        seen = [*enumerate(losses), *zip(ends, measured, strict=True)]  # pairs of a step and its loss
        wrong = [(step, loss) for step, loss in seen if not loss <= self._limits[run]]
        stop, too_large = min(wrong, default=(len(losses), 0.0))

        def finite(values: FloatArray, steps: npt.ArrayLike) -> FloatArray:
            """Cuts an array where the run diverged; keeps the first value that is too large if it is finite."""
            values = values[np.asarray(steps) <= stop]
            are_numbers = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            return values[np.logical_and.accumulate(are_numbers)]

        path = np.concatenate(self._points)[:, run].astype("float64") if len(self._points) > 1 else None
        validation = np.stack(self.validation)[:, run] if self.validation else None
        diverged = None
        if wrong:
            diverged = (
                f"training diverged: the loss went from {measured[0]:.4g} to {too_large:.4g} in {stop} steps; "
                f"learning_rate {learning_rate:g} is too large here, try {learning_rate / 10:g}"
            )
        return Descent(
            optimizer=rule.title,
            learning_rate=learning_rate,
            batch_size=batch_size,
            losses=finite(losses, np.arange(len(losses))),
            epoch_losses=finite(measured, ends),
            val_losses=None if validation is None else finite(validation, ends),
            path=None if path is None else finite(path, np.arange(len(path))),
            parameters=parameters,
            diverged=diverged,
        )


def _initial_values(problem: Problem, settings: Settings) -> Any:
    """Returns the initial parameters, velocities and squares (runs, parameters), the state, and the step."""
    parameters = np.concatenate([array.ravel() for array in problem.start])
    parameters, *state = (np.stack([array] * len(settings)) for array in (parameters, *problem.state))
    squares = np.array([[rule.square_start] for rule, _ in settings], "float32") + np.zeros_like(parameters)
    return parameters, np.zeros_like(parameters), squares, state, np.float32(0)


def _over_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function with a first axis of length 1 in all arguments and results, without vectorization."""

    def on_first(*arguments: Any) -> Any:
        results = function(*keras.tree.map_structure(lambda tensor: tensor[0], arguments))
        return keras.tree.map_structure(lambda tensor: ops.expand_dims(tensor, 0), results)

    return on_first


def _split(problem: Problem, parameters: Any, xp: Any) -> list[Any]:
    """Splits the flattened parameters of one run into arrays of their original shapes."""
    ends = np.cumsum([array.size for array in problem.start])
    return [
        xp.reshape(parameters[end - array.size : end], array.shape)
        for array, end in zip(problem.start, ends.tolist(), strict=True)
    ]


class _Runs:
    """The runs as Keras variables (runs, ...), updated by the compiled training loop."""

    def __init__(self, problem: Problem, settings: Settings, paths: bool) -> None:
        self._begin = _initial_values(problem, settings)
        self._variables = keras.tree.map_structure(
            lambda array: keras.Variable(array, dtype=array.dtype, trainable=False), self._begin
        )
        over_runs = _backend.vectorize if len(settings) > 1 else _over_one
        rules = ops.convert_to_tensor(np.array([rule.numbers() for rule, _ in settings], "float32"))  # (runs, 8)
        rates = ops.convert_to_tensor(np.array([rate for _, rate in settings], "float32"))
        self._count = len(settings)

        def step(row: Any) -> Any:
            *runs, number = self._values()
            number = number + 1.0

            def move(parameters: Any, velocity: Any, square: Any, state: Any, rule: Any, rate: Any) -> Any:
                (loss, state), gradients = _backend.value_and_grad(lambda split: problem.loss(split, state, row, True))(
                    _split(problem, parameters, ops)
                )
                gradient = ops.concatenate([ops.reshape(part, (-1,)) for part in gradients])
                moved = update(parameters, gradient, velocity, square, rule=rule, learning_rate=rate, step=number)
                return *moved, state, loss

            *runs, losses = over_runs(move)(*runs, rules, rates)
            keras.tree.map_structure(lambda variable, value: variable.assign(value), self._variables, (*runs, number))
            return ops.sum(losses), {"losses": losses, "points": runs[0]}

        def evaluate(row: Any) -> Any:
            def loss(parameters: Any, state: Any) -> Any:
                return problem.loss(_split(problem, parameters, ops), state, row, False)[0]

            parameters, _, _, state, _ = self._values()
            losses = over_runs(loss)(parameters, state)
            return ops.sum(losses), {"losses": losses}

        shapes = {"losses": (self._count,)} | ({"points": self._begin[0].shape} if paths else {})
        variables = keras.tree.flatten(self._variables)
        self._steps = _backend.training_loop([_backend.Update(step, logs=shapes)], variables)
        measurement = _backend.Update(evaluate, logs={"losses": (self._count,)})
        self._evaluation = _backend.training_loop([measurement], variables)

    def start(self) -> None:
        """Sets all runs to their initial values."""
        keras.tree.map_structure(lambda variable, value: variable.assign(value), self._variables, self._begin)

    def parameters(self) -> np.ndarray:
        """Returns the parameters (runs, parameters)."""
        return keras.ops.convert_to_numpy(self._variables[0].value)

    def take_steps(self, rows: Rows, count: int) -> list[np.ndarray]:
        """Takes steps; returns the losses (steps, runs) and, if recorded, the parameters (steps, runs, parameters)."""
        self._steps.load()
        numbers = np.asarray(self._steps.run(rows, count))[:count, 1:]
        self._steps.sync()
        losses, points = numbers[:, : self._count], numbers[:, self._count :]
        return [losses, points.reshape(count, self._count, -1)] if points.size else [losses]

    def measure(self, groups: Sequence[Rows]) -> FloatArray:
        """Computes the mean loss of each run over batches, which may differ in size."""
        samples = [len(rows[0]) * len(rows[0][0]) for rows in groups]
        means = []
        for rows in groups:
            self._evaluation.load()
            losses = np.asarray(self._evaluation.run(rows, len(rows[0])))[: len(rows[0]), 1:]
            self._evaluation.sync()
            means.append(losses.astype("float64").mean(axis=0))
        return np.average(means, axis=0, weights=samples)

    def _values(self) -> Any:
        return keras.tree.map_structure(ops.convert_to_tensor, self._variables)
