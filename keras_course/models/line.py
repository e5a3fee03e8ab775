"""The course's first model: a line, ŷ = mx + b, with its loss, gradient and best fit as formulas.

Source: NVIDIA Deep Learning Institute, "Fundamentals of Deep Learning", part 2.
"""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from keras_course.errors import CourseError

FloatArray = npt.NDArray[np.float64]


def predict_line(m: Any, b: Any, x: Any) -> Any:
    """Computes the line, ŷ = mx + b, for numbers, arrays or tensors.

    Args:
        m: The slope.
        b: The intercept.
        x: Inputs of any shape.

    Returns:
        ŷ, in the shape of x.

    Example:
        >>> predict_line(-1.0, 5.0, np.array([1.0, 2.0])).tolist()
        [4.0, 3.0]
    """
    return m * x + b


def line_loss(m: Any, b: Any, x: Any, y: Any) -> Any:
    """Computes the mean squared error of a line, MSE = 1/n Σ (y − ŷ)², as a tensor that can be differentiated.

    Args:
        m: The slope, a number or a scalar tensor.
        b: The intercept, a number or a scalar tensor.
        x: Inputs (n,).
        y: Targets (n,).

    Returns:
        A scalar tensor.

    Example:
        >>> float(line_loss(-1.0, 5.0, np.array([1.0, 2.0]), np.array([3.0, 5.0])))
        2.5
    """
    x, y = (ops.convert_to_tensor(values, "float32") for values in (x, y))
    return ops.mean((y - predict_line(m, b, x)) ** 2)


def line_gradient(m: float, b: float, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[float, float]:
    """Computes the gradient of the mean squared error by its formula.

    ∂MSE/∂m = 2/n Σ x (mx + b − y) and ∂MSE/∂b = 2/n Σ (mx + b − y). For the course's two points, (1, 3) and (2, 5),
    that is 5m + 3b − 13 and 3m + 2b − 8.

    Args:
        m: The slope.
        b: The intercept.
        x: Inputs (n,).
        y: Targets (n,).

    Returns:
        ∂MSE/∂m and ∂MSE/∂b.

    Raises:
        CourseError: x and y are not lists of equally many finite numbers.

    Example:
        >>> line_gradient(-1.0, 5.0, [1, 2], [3, 5])
        (-3.0, -1.0)
    """
    inputs, targets = check_points(x, y)
    errors = predict_line(m, b, inputs) - targets
    return float(2 * np.mean(inputs * errors)), float(2 * np.mean(errors))


def best_line(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[float, float]:
    """Computes the line of least squares directly, as the point where the gradient is 0.

    m = Σ (x − x̄)(y − ȳ) / Σ (x − x̄)² and b = ȳ − m x̄

    Args:
        x: Inputs (n,), at least two different ones.
        y: Targets (n,).

    Returns:
        m and b.

    Raises:
        CourseError: x and y are not lists of equally many finite numbers, or all x are equal.

    Example:
        >>> best_line([1, 2], [3, 5])
        (2.0, 1.0)
    """
    inputs, targets = check_points(x, y)
    around = inputs - inputs.mean()
    if not around.any():
        raise CourseError(f"x is {inputs[0]:g} everywhere; a line needs at least two different x")
    m = float(around @ (targets - targets.mean()) / (around @ around))
    return m, float(targets.mean() - m * inputs.mean())


def line_model(*, m: float = -1.0, b: float = 5.0, name: str = "line") -> keras.Model:
    """Builds the line as a network: one neuron with one input, a Dense layer of one unit.

    Args:
        m: The initial weight.
        b: The initial bias.
        name: Name of the model.

    Returns:
        A model from x (batch, 1) to ŷ (batch, 1), float32. Its only layer is ``line``, with 2 parameters.

    Example:
        >>> model = line_model(m=-1.0, b=5.0)
        >>> [float(weight.item()) for weight in model.get_weights()]
        [-1.0, 5.0]
    """
    inputs = keras.Input((1,), name="x")
    model = keras.Model(inputs, layers.Dense(1, kernel_initializer="zeros", name="line")(inputs), name=name)
    model.set_weights([np.full((1, 1), m, "float32"), np.full((1,), b, "float32")])
    return model


def check_points(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Returns x and y as float64 arrays (n,); raises a ``CourseError`` unless they are equally many finite numbers."""
    points = {name: np.asarray(values, np.float64) for name, values in (("x", x), ("y", y))}
    for name, values in points.items():
        if values.ndim != 1 or not values.size:
            raise CourseError(f"{name} has shape {values.shape}; give a list of at least one number")
        if not np.isfinite(values).all():
            first = int(np.isfinite(values).argmin())
            raise CourseError(f"{name}[{first}] is {values[first]}; give finite numbers only")
    if len(points["x"]) != len(points["y"]):
        raise CourseError(f"x has {len(points['x'])} values and y has {len(points['y'])}; give one y for each x")
    return points["x"], points["y"]
