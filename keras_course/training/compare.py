"""Compares runs that differ in learning rate, batch size or optimizer, in one call."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, product
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_course import _backend
from keras_course.errors import CourseError, check_positive
from keras_course.training.descent import Descent, Problem, Rows, Settings, prepare_descent
from keras_course.training.gradient_descent import as_parameters, as_scalar, check_learning_rate, descend_without_data
from keras_course.training.inputs import Batches, Data, check_data, check_labels
from keras_course.training.objectives import find_loss
from keras_course.update_rules import UpdateRule, find_rule

_EVALUATION_BATCH = 1024


def compare(
    objective: Callable[..., Any] | keras.Model,
    data: Data | None = None,
    valid: Data | None = None,
    *,
    start: Sequence[npt.ArrayLike] | None = None,
    optimizer: str | UpdateRule | Sequence[str | UpdateRule] = "sgd",
    learning_rate: float | Sequence[float] = 0.1,
    batch_size: int | Sequence[int | None] | None = None,
    epochs: int = 100,
    seed: int = 0,
    loss: keras.Loss | str = "mean_squared_error",
    paths: bool = False,
    vectorized: bool = True,
) -> dict[str, Descent]:
    """Trains a family of runs that differ only in the arguments given as lists.

    All runs start from the same parameters. Runs with the same batch size see the same batches, in the order of ``fit``
    with the same seed. All runs of a batch size are one compiled program; if the backend cannot vectorize a model, they
    run one after the other.

    Args:
        objective: A function from the parameters, and with data also from a batch x and y, to a scalar; or a built
            Keras model, whose weights are the parameters. The model itself is not changed.
        data: Samples (n, ...) and labels (n, ...); None for a function of the parameters alone.
        valid: Validation samples and labels, on which the loss is computed after each epoch.
        start: The initial parameters, numbers or arrays; the default is the weights of the model.
        optimizer: Names in ``update_rules.UPDATE_RULES``, or custom rules: one or a list.
        learning_rate: λ, above 0: one or a list.
        batch_size: Samples in a batch, None for all of them: one or a list.
        epochs: Number of epochs; without data, number of steps.
        seed: Seed of the order of the samples.
        loss: The loss of a model, a Keras loss or its name.
        paths: Whether to keep the parameters after each step. Without data they are always kept.
        vectorized: False takes one run after the other, which needs less memory.

    Returns:
        The runs by the settings in which they differ, such as ``"learning rate 0.1"`` or ``"Adam, batch size 8"``, in
        the order of the lists. A run that diverges ends at that step and says so; the other runs continue.

    Raises:
        CourseError: Data and objective do not fit, or a number is out of range.

    Example:
        >>> family = compare(lambda m: m**2, start=[1.0], learning_rate=[0.25, 0.5, 50.0], epochs=4)
        >>> [(name, run.epoch_losses[:3].tolist()) for name, run in family.items()]
        [('learning rate 0.25', [1.0, 0.25, 0.0625]),
         ('learning rate 0.5', [1.0, 0.0, 0.0]),
         ('learning rate 50', [1.0, 9801.0, 96059...])]
        >>> print(family["learning rate 50"].diverged)
        training diverged: the loss went from 1 to 9.606e+07 in 2 steps; learning_rate 50 is too large here, try 5
    """
    rules = [find_rule(name) for name in _as_list(optimizer)]
    rates, sizes = _as_list(learning_rate), _as_list(batch_size)
    for values in (rules, rates, sizes):
        if not values or len(set(values)) < len(values):
            raise CourseError(f"the runs are to differ in {values}; give at least one, and none twice")
    for rate in rates:
        check_learning_rate(rate)
    for size in sizes:
        check_positive(batch_size=1 if size is None else size)
    check_positive(epochs=epochs)

    if data is None:
        if isinstance(objective, keras.Model) or start is None or sizes != [None] or valid is not None:
            raise CourseError("without data, give a function of the parameters, its start, and no batch_size or valid")

        def train(settings: Settings) -> list[list[Descent]]:
            return [[run] for run in descend_without_data(objective, start, settings, steps=epochs)]

    else:
        parts = {"data": data} if valid is None else {"data": data, "valid": valid}
        parts = {name: _as_arrays(part, objective) for name, part in parts.items()}
        problem = _problem(objective, parts, start, find_loss(loss))

        def train(settings: Settings) -> list[list[Descent]]:
            descend = prepare_descent(problem, settings, paths=paths)
            columns = [descend(_epochs(parts["data"], size, epochs, seed), size) for size in sizes]
            return [list(row) for row in zip(*columns, strict=True)]

    families = (rules, rates, sizes)
    names = [_name(choice, families) for choice in product(*families)]
    return dict(zip(names, chain(*_train_all(train, list(product(rules, rates)), vectorized)), strict=True))


def _train_all(
    train: Callable[[Settings], list[list[Descent]]], settings: Settings, vectorized: bool
) -> list[list[Descent]]:
    """Trains all runs together if the backend can, else one by one; returns the runs of each setting by batch size."""
    if vectorized and len(settings) > 1:
        try:
            return train(settings)
        except CourseError:
            raise
        except Exception:
            # PyTorch cannot vectorize a convolution of Keras, TensorFlow no recurrent layer, and each raises other
            # errors for this. An error with another cause is raised again below.
            pass
    return [row for setting in settings for row in train([setting])]


def _epochs(data: Data, batch_size: int | None, epochs: int, seed: int) -> Iterator[Iterator[tuple[Rows, int]]]:
    """Yields for each epoch its batches, in groups that one compiled call processes."""
    batches = Batches(*data, batch_size=batch_size or len(data[0]), seed=seed)
    for epoch in range(epochs):
        yield (((group["x"], group["y"]), count) for group, count in batches.groups(epoch, lambda: 1e9))


def _problem(
    objective: Callable[..., Any] | keras.Model, data: dict[str, Data], start: Sequence[Any] | None, loss: keras.Loss
) -> Problem:
    measured = map(_cut, data.values())
    if not isinstance(objective, keras.Model):
        if start is None:
            raise CourseError("start is left out; give the first parameters of the function")
        for name, (x, y) in data.items():
            check_labels(x, y, name)

        def loss_of(parameters: list[Any], state: list[Any], row: tuple[Any, ...], training: bool) -> Any:
            return as_scalar(objective(*parameters, *row)), state

        return Problem(loss_of, as_parameters(start), [], *measured)
    for name, labeled in data.items():
        check_data(objective, labeled, loss, name)

    def model_loss(parameters: list[Any], state: list[Any], row: tuple[Any, ...], training: bool) -> Any:
        x, y = row
        outputs, state, penalties = objective.stateless_call(
            parameters, state, x, return_losses=True, **_backend.mode(objective, training=training)
        )
        value = loss(y, keras.ops.cast(outputs, "float32"))
        return value + sum(penalties) if training else value, state

    trainable, others = (
        [keras.ops.convert_to_numpy(variable) for variable in variables]
        for variables in (objective.trainable_variables, objective.non_trainable_variables)
    )
    return Problem(model_loss, trainable if start is None else as_parameters(start), others, *measured)


def _cut(data: Data) -> list[Rows]:
    """Cuts data into equal batches for evaluation and the rest: arrays (batches, samples, ...)."""
    length = len(data[0])
    whole = length // _EVALUATION_BATCH
    middle = whole * _EVALUATION_BATCH
    parts = []
    if whole:
        parts.append(tuple(array[:middle].reshape(whole, -1, *array.shape[1:]) for array in data))
    if middle < length:
        parts.append(tuple(array[None, middle:] for array in data))
    return parts


def _as_arrays(data: Data, objective: Any) -> Data:
    """Converts lists to arrays, and floating-point numbers to float32, which all backends treat alike."""
    x, y = (np.asarray(array) for array in data)
    # a model may need class numbers or pixels as they are
    kind = np.floating if isinstance(objective, keras.Model) else np.number
    x, y = (array.astype("float32") if np.issubdtype(array.dtype, kind) else array for array in (x, y))
    return x, y


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else [value]


def _name(choice: tuple[UpdateRule, float, int | None], families: tuple[list[Any], ...]) -> str:
    """Returns the settings in which a run differs from the others."""
    rule, rate, size = choice
    parts = (rule.title, f"learning rate {rate:g}", "full batch" if size is None else f"batch size {size}")
    varied = [part for part, values in zip(parts, families, strict=True) if len(values) > 1]
    return ", ".join(varied or parts[:1])
