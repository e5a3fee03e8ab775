"""Loss surfaces over two parameters, on which gradient descent can be plotted.

A surface is a formula in p and q of sums, products and powers, so that it takes numbers, NumPy arrays and the tensors
of every backend.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A loss surface with the region to plot.

    ``formula`` is ``loss`` at (p, q) as text. ``bounds`` are the least and greatest p, then those of q. From ``start``
    the optimizers take different paths. The ``minima`` are the local ones, the global one first.
    """

    title: str
    formula: str
    loss: Callable[[Any, Any], Any]
    bounds: tuple[float, float, float, float]
    start: tuple[float, float]
    minima: tuple[tuple[float, float], ...]


def _long_valley(p: Any, q: Any) -> Any:
    return (p**2 + 20.0 * q**2) / 2.0


def _curved_valley(p: Any, q: Any) -> Any:
    return (1.0 - p) ** 2 + 10.0 * (q - p**2) ** 2


def _several_minima(p: Any, q: Any) -> Any:
    return ((p**4 - 16.0 * p**2 + 5.0 * p) + (q**4 - 16.0 * q**2 + 5.0 * q)) / 2.0 + 78.33233


LONG_VALLEY = Surface(
    title="long valley",
    formula="(p² + 20 q²) / 2",
    loss=_long_valley,
    bounds=(-10.5, 2.5, -2.2, 2.2),
    start=(-9.0, 1.5),
    minima=((0.0, 0.0),),
)
"""Twenty times steeper across the valley than along it: a step that is stable across it is too short along it."""

CURVED_VALLEY = Surface(
    title="curved valley",
    formula="(1 − p)² + 10 (q − p²)²",
    loss=_curved_valley,
    bounds=(-2.0, 2.0, -1.0, 3.5),
    start=(-1.5, 2.8),
    minima=((1.0, 1.0),),
)
"""A valley along a parabola, whose floor falls slowly to (1, 1).

Source: H. H. Rosenbrock, "An automatic method for finding the greatest or least value of a function", 1960; with a
factor of 10 in place of his 100.
"""

SEVERAL_MINIMA = Surface(
    title="several minima",
    formula="(p⁴ − 16 p² + 5 p + q⁴ − 16 q² + 5 q) / 2 + 78.33",
    loss=_several_minima,
    bounds=(-4.4, 4.4, -4.4, 4.4),
    start=(3.9, -0.6),
    minima=((-2.903534, -2.903534), (2.746803, -2.903534), (-2.903534, 2.746803), (2.746803, 2.746803)),
)
"""Four local minima of three depths; only the one at (-2.9, -2.9) has a loss of 0.

Source: M. Styblinski and T. Tang, "Experiments in nonconvex optimization", 1990; shifted up, so that its lowest point
is 0.
"""

SURFACES = {"long_valley": LONG_VALLEY, "curved_valley": CURVED_VALLEY, "several_minima": SEVERAL_MINIMA}
