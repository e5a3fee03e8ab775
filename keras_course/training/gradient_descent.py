"""Gradient descent on any loss function, with every step recorded.

    θ ← θ − λ · ∂loss/∂θ

``gradient_descent`` is one run from one start; ``compare`` (``compare.py``) trains a family of runs, also on data.
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
    """Computes a loss and its gradient by automatic differentiation.

    Args:
        loss: A function from the parameters, tensors, to a scalar, in operators and ``keras.ops``.
        parameters: The point, numbers or arrays.

    Returns:
        The loss, and ∂loss/∂θ for each parameter, float32, in the shape of the parameter.

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
    """Estimates a gradient by central finite differences.

    ∂loss/∂θ ≈ (loss(θ + h) − loss(θ − h)) / 2h

    Args:
        loss: A function from the parameters to a scalar.
        parameters: The point, as numbers.
        width: h. The default is about the cube root of the precision of a float32; with a smaller one the rounding
            error grows faster than the approximation error falls.

    Returns:
        The estimate for each parameter.

    Raises:
        CourseError: A parameter is not a finite number, or the width is not above 0, or it is too small or too large to
            change a float32.

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
    """Computes a loss of two parameters on a grid, for a plot.

    Args:
        loss: A function from two parameters, scalar tensors, to a scalar.
        bounds: Minimum and maximum of the first parameter, then of the second.
        points: Number of points along each side.

    Returns:
        The first parameter along the columns (points,), the second along the rows (points,), and the losses
        (points, points).

    Raises:
        CourseError: The bounds are not two increasing pairs of finite numbers.

    Example:
        >>> columns, rows, losses = loss_surface(lambda m, b: m + 10 * b, (0, 2, 0, 1), points=3)
        >>> losses.tolist()
        [[0.0, 1.0, 2.0], [5.0, 6.0, 7.0], [10.0, 11.0, 12.0]]
    """
    check_positive(points=points)
    left, right, bottom, top = (float(bound) for bound in bounds)
    if not (np.isfinite([left, right, bottom, top]).all() and left < right and bottom < top):
        raise CourseError(f"bounds are {tuple(bounds)}; give two increasing pairs of finite numbers")
    columns, rows = np.linspace(left, right, points), np.linspace(bottom, top, points)
    grid = [keras.ops.convert_to_tensor(axis.ravel().astype("float32")) for axis in np.meshgrid(columns, rows)]
    losses = _backend.vectorize(lambda first, second: as_scalar(loss(first, second)))(*grid)
    return columns, rows, keras.ops.convert_to_numpy(losses).astype("float64").reshape(points, points)


def gradient_descent(
    loss: Loss,
    start: Sequence[npt.ArrayLike],
    *,
    learning_rate: float = 0.1,
    steps: int = 100,
    optimizer: str | UpdateRule = "sgd",
) -> Descent:
    """Minimizes a loss by gradient descent, and records every step.

    Args:
        loss: A function from the parameters, tensors, to a scalar, in operators and ``keras.ops``. Convert arrays in it
            by ``keras.ops.convert_to_tensor``.
        start: The initial parameters, numbers or arrays.
        learning_rate: λ, above 0.
        steps: Number of steps.
        optimizer: A name in ``update_rules.UPDATE_RULES``, or a custom rule; the default is plain gradient descent.

    Returns:
        The run, with its path.

    Raises:
        DivergenceError: The loss is no longer finite, or a million times larger than at the start; ``found`` is the
            run up to that step.
        CourseError: The start is not finite, or a number is out of range.

    Example:
        >>> descent = gradient_descent(lambda m, b: (m - 3) ** 2 + (b - 1) ** 2, (0.0, 0.0), learning_rate=0.5, steps=1)
        >>> descent.path.tolist(), descent.epoch_losses.tolist()
        ([[0.0, 0.0], [3.0, 1.0]], [10.0, 0.0])
    """
    check_positive(steps=steps)
    check_learning_rate(learning_rate)
    (found,) = descend_without_data(loss, start, [(find_rule(optimizer), learning_rate)], steps=steps)
    if found.diverged:
        raise DivergenceError(found.diverged, found)
    return found


def descend_without_data(
    loss: Loss, start: Sequence[npt.ArrayLike], settings: Settings, *, steps: int
) -> list[Descent]:
    """Minimizes a loss that needs no data, and records the path; returns a run for each setting, in their order.

    Each step counts as an epoch. Raises a CourseError if the start, or the loss at the start, is not finite.
    """
    problem = Problem(lambda parameters, state, *_: (as_scalar(loss(*parameters)), state), as_parameters(start))
    groups = [min(_STEPS_A_CALL, steps - first) for first in range(0, steps, _STEPS_A_CALL)]
    no_data = (np.zeros((_STEPS_A_CALL, 1), "float32"),)  # the loop needs a row for each step
    runs = prepare_descent(problem, settings, paths=True)([[(no_data, count)] for count in groups], None)
    return [
        replace(run, epoch_losses=run.losses if run.diverged else np.append(run.losses, run.epoch_losses[-1]))
        for run in runs
    ]


def as_parameters(values: Sequence[npt.ArrayLike]) -> list[np.ndarray]:
    """Converts parameters, numbers or arrays, to float32 arrays; raises a CourseError if one is not finite."""
    parameters = [np.asarray(value, "float32") for value in values]
    if not parameters or not all(np.isfinite(array).all() for array in parameters):
        raise CourseError(f"start is {tuple(values)}; give at least one number, and finite ones only")
    return parameters


def as_scalar(loss: Any) -> Any:
    """Converts the result of a loss function to a float32 scalar; raises a CourseError if it is not a scalar."""
    if getattr(loss, "shape", ()) != ():
        raise CourseError(f"the loss has shape {tuple(loss.shape)}; give one number, for instance with keras.ops.mean")
    return keras.ops.cast(loss, "float32")


def check_learning_rate(value: float) -> None:
    """Raises a CourseError if a learning rate is not a finite number above 0."""
    _check_above_zero("learning_rate", value, example=0.1)


def _check_above_zero(name: str, value: float, *, example: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < float("inf"):
        raise CourseError(f"{name} is {value!r}; give a finite number above 0, such as {example}")
