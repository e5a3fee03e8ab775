"""Gradient descent by hand: on any loss, one formula, every step to be seen.

    θ ← θ − λ · ∂loss/∂θ

``gradient_descent`` goes down from one start; ``compare`` (``compare.py``) sends a family of runs, on data too.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_course import _backend
from keras_course.errors import CourseError, DivergenceError, check_positive
from keras_course.training.descent import Descent, Problem, Settings, prepare_descent
from keras_course.update_rules import UpdateRule, find_rule

FloatArray = npt.NDArray[np.float64]
Loss = Callable[..., Any]

_STEPS_A_CALL = 256


def value_and_grad(loss: Loss, parameters: Sequence[npt.ArrayLike]) -> tuple[float, list[np.ndarray]]:
    """Computes a loss and its gradient by the framework's own differentiation.

    Args:
        loss: From the parameters, tensors, to a scalar, in operators and ``keras.ops``.
        parameters: Where, numbers or arrays.

    Returns:
        The loss, and ∂loss/∂θ for each parameter, float32, of its shape.

    Raises:
        CourseError: A parameter is not a finite number.

    Example:
        >>> value, gradients = value_and_grad(lambda m, b: (3 * m + b - 5) ** 2, (-1.0, 5.0))
        >>> value, [float(gradient) for gradient in gradients]
        (9.0, [-18.0, -6.0])
    """
    tensors = [keras.ops.convert_to_tensor(array) for array in as_parameters(parameters)]
    (value, _), gradients = _backend.value_and_grad(lambda tensors: (as_scalar(loss(*tensors)), []))(tensors)
    return float(keras.ops.convert_to_numpy(value)), [keras.ops.convert_to_numpy(gradient) for gradient in gradients]


def finite_differences(loss: Loss, parameters: Sequence[float], *, width: float = 0.005) -> list[float]:
    """Estimates a gradient without any calculus, from what the loss is a little to the left and to the right.

    ∂loss/∂θ ≈ (loss(θ + h) − loss(θ − h)) / 2h

    Args:
        loss: From the parameters to a scalar.
        parameters: Where, as numbers.
        width: h. The default is about the cube root of the last digit of a float32: a smaller one loses more to
            rounding than it wins.

    Returns:
        The estimate for each parameter.

    Raises:
        CourseError: A parameter is not a finite number, or the width is not above 0, or so small or large that a
            float32 cannot be moved by it.

    Example:
        >>> [round(slope, 2) for slope in finite_differences(lambda m, b: (3 * m + b - 5) ** 2, (-1.0, 5.0))]
        [-18.0, -6.0]
    """
    _check_above_zero("width", width, example=0.005)
    here = as_parameters(parameters)
    slopes = []
    for index, parameter in enumerate(here):
        with np.errstate(over="ignore"):
            right, left = parameter + np.float32(width), parameter - np.float32(width)
            distance = float(right - left)
        if not 0 < distance < float("inf"):
            raise CourseError(
                f"width is {width!r}; {parameter} as a float32 cannot be moved by it, give one near 0.005"
            )
        losses = []
        for moved in (right, left):
            tensors = [keras.ops.convert_to_tensor(array) for array in (*here[:index], moved, *here[index + 1 :])]
            losses.append(float(keras.ops.convert_to_numpy(as_scalar(loss(*tensors)))))
        slopes.append((losses[0] - losses[1]) / distance)
    return slopes


def loss_surface(
    loss: Loss, bounds: Sequence[float], *, points: int = 121
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Computes a loss of two parameters on a grid, for a picture of it.

    Args:
        loss: From two parameters, scalar tensors, to a scalar.
        bounds: The least and the greatest first parameter, the least and the greatest second one.
        points: Points along each side.

    Returns:
        The first parameter along the columns (points,), the second along the rows (points,), and the losses
        (points, points).

    Raises:
        CourseError: The bounds are not two rising pairs of finite numbers.

    Example:
        >>> columns, rows, losses = loss_surface(lambda m, b: m + 10 * b, (0, 2, 0, 1), points=3)
        >>> losses.tolist()
        [[0.0, 1.0, 2.0], [5.0, 6.0, 7.0], [10.0, 11.0, 12.0]]
    """
    check_positive(points=points)
    left, right, bottom, top = (float(bound) for bound in bounds)
    if not (np.isfinite([left, right, bottom, top]).all() and left < right and bottom < top):
        raise CourseError(f"bounds are {tuple(bounds)}; give two rising pairs of finite numbers")
    columns, rows = np.linspace(left, right, points), np.linspace(bottom, top, points)
    grid = [keras.ops.convert_to_tensor(axis.ravel().astype("float32")) for axis in np.meshgrid(columns, rows)]
    losses = _backend.vectorise(lambda first, second: as_scalar(loss(first, second)))(*grid)
    return columns, rows, keras.ops.convert_to_numpy(losses).astype("float64").reshape(points, points)


def gradient_descent(
    loss: Loss,
    start: Sequence[npt.ArrayLike],
    *,
    learning_rate: float = 0.1,
    steps: int = 100,
    optimizer: str | UpdateRule = "sgd",
) -> Descent:
    """Goes down a loss from a start, step by step, and keeps the path.

    Args:
        loss: From the parameters, tensors, to a scalar, in operators and ``keras.ops``. Arrays in it shall be tensors,
            too (``keras.ops.convert_to_tensor``).
        start: The first parameters, numbers or arrays.
        learning_rate: λ, above 0.
        steps: How many steps to take.
        optimizer: A name in ``update_rules.UPDATE_RULES``, or a rule of your own; plain descent when left out.

    Returns:
        The run, with its path.

    Raises:
        DivergenceError: The loss is no longer finite, or more than a million times what it was; ``found`` is the run
            up to there.
        CourseError: The start is not finite, or a number makes no sense.

    Example:
        >>> descent = gradient_descent(lambda m, b: (m - 3) ** 2 + (b - 1) ** 2, (0.0, 0.0), learning_rate=0.5, steps=1)
        >>> descent.path.tolist(), descent.epoch_losses.tolist()
        ([[0.0, 0.0], [3.0, 1.0]], [10.0, 0.0])
    """
    check_positive(steps=steps)
    check_learning_rate(learning_rate)
    (found,) = descend_freely(loss, start, [(find_rule(optimizer), learning_rate)], steps=steps)
    if found.diverged:
        raise DivergenceError(found.diverged, found)
    return found


def descend_freely(loss: Loss, start: Sequence[npt.ArrayLike], settings: Settings, *, steps: int) -> list[Descent]:
    """Sends several runs down a loss that needs no data, and keeps their paths.

    Args:
        loss: From the parameters, tensors, to a scalar.
        start: The first parameters of all runs.
        settings: The update rule and the learning rate of each run.
        steps: How many steps to take.

    Returns:
        The runs in the order of the settings; a step is an epoch of theirs.

    Raises:
        CourseError: The start, or the loss there, is not finite.

    Example:
        >>> sgd = find_rule("sgd")
        >>> for run in descend_freely(lambda m: m**2, [1.0], [(sgd, 0.25), (sgd, 0.5)], steps=2):
        ...     run.path.ravel().tolist()
        [1.0, 0.5, 0.25]
        [1.0, 0.0, 0.0]
    """
    problem = Problem(
        loss=lambda parameters, state, row, training: (as_scalar(loss(*parameters)), state),
        start=as_parameters(start),
    )
    groups = [min(_STEPS_A_CALL, steps - first) for first in range(0, steps, _STEPS_A_CALL)]
    nothing = (np.zeros((_STEPS_A_CALL, 1), "float32"),)  # a row a step, where there is no data
    runs = prepare_descent(problem, settings, paths=True)([[(nothing, count)] for count in groups], None)
    return [
        replace(run, epoch_losses=run.losses if run.diverged else np.append(run.losses, run.epoch_losses[-1]))
        for run in runs
    ]


def as_parameters(values: Sequence[npt.ArrayLike]) -> list[np.ndarray]:
    """Takes numbers or arrays as parameters.

    Args:
        values: One for each parameter.

    Returns:
        A float32 array for each.

    Raises:
        CourseError: There is none, or one is not finite.

    Example:
        >>> as_parameters((1.0, float("nan")))
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: start is (1.0, nan); give at least one number, and finite ones only
    """
    parameters = [np.asarray(value, "float32") for value in values]
    if not parameters or not all(np.isfinite(array).all() for array in parameters):
        raise CourseError(f"start is {tuple(values)}; give at least one number, and finite ones only")
    return parameters


def as_scalar(loss: Any) -> Any:
    """Takes what a loss function returned as one float32 number.

    Args:
        loss: A tensor or a number.

    Returns:
        A scalar tensor.

    Raises:
        CourseError: It is more than one number.
    """
    if getattr(loss, "shape", ()) != ():
        raise CourseError(f"the loss has shape {tuple(loss.shape)}; give one number, for instance with keras.ops.mean")
    return keras.ops.cast(loss, "float32")


def check_learning_rate(value: float) -> None:
    """Checks that a learning rate is a finite number above 0.

    Args:
        value: The number.

    Raises:
        CourseError: It is not.

    Example:
        >>> check_learning_rate(-0.1)
        Traceback (most recent call last):
        ...
        keras_course.errors.CourseError: learning_rate is -0.1; give a finite number above 0, such as 0.1
    """
    _check_above_zero("learning_rate", value, example=0.1)


def _check_above_zero(name: str, value: float, *, example: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < float("inf"):
        raise CourseError(f"{name} is {value!r}; give a finite number above 0, such as {example}")
