"""The optimizers of the course as rows of numbers for one update formula.

For a parameter θ with gradient g at step t = 1, 2, ...

    v ← a·v + b·g                                  the velocity, a memory of the gradients
    s ← c·s + d·g²                                 the square, a memory of their sizes
    θ ← θ − λ · k · v / (√(s + ε₁) + ε₂)           the step, with the learning rate λ

where k = √(1 − cᵗ) / (1 − aᵗ) if the rule corrects the bias of v and s, which start at 0, and else 1.
"""

from dataclasses import astuple, dataclass
from typing import Any

from keras_course.errors import CourseError


@dataclass(frozen=True, kw_only=True)
class UpdateRule:
    """The numbers of one optimizer; the defaults are plain gradient descent, θ ← θ − λ·g.

    Args:
        title: The name in figures.
        velocity_decay: a, the share of the velocity that is kept.
        gradient_share: b, the share of the gradient that is added to the velocity.
        square_decay: c, the share of the square that is kept.
        square_share: d, the share of the squared gradient that is added to the square.
        square_start: The square before the first step.
        epsilon_inside: ε₁, added under the root to avoid a division by 0.
        epsilon_outside: ε₂, added to the root to avoid a division by 0.
        corrects_bias: Whether k corrects the bias of the start at 0.

    Example:
        >>> UpdateRule(title="heavy ball", velocity_decay=0.5).numbers()
        (0.5, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    """

    title: str
    velocity_decay: float = 0.0
    gradient_share: float = 1.0
    square_decay: float = 1.0
    square_share: float = 0.0
    square_start: float = 1.0
    epsilon_inside: float = 0.0
    epsilon_outside: float = 0.0
    corrects_bias: bool = False

    def numbers(self) -> tuple[float, ...]:
        """Returns the numbers without the title, as a compiled step takes them."""
        return tuple(map(float, astuple(self)[1:]))


UPDATE_RULES = {
    "sgd": UpdateRule(title="SGD"),
    "momentum": UpdateRule(title="momentum", velocity_decay=0.9),
    "adagrad": UpdateRule(title="Adagrad", square_share=1.0, square_start=0.1, epsilon_inside=1e-7),
    "rmsprop": UpdateRule(title="RMSprop", square_decay=0.9, square_share=0.1, square_start=0.0, epsilon_inside=1e-7),
    "adam": UpdateRule(
        title="Adam",
        velocity_decay=0.9,
        gradient_share=0.1,
        square_decay=0.999,
        square_share=0.001,
        square_start=0.0,
        epsilon_outside=1e-7,
        corrects_bias=True,
    ),
}
"""The five optimizers of the course, with Keras' defaults.

Sources: B. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964 (momentum); J. Duchi et
al., "Adaptive subgradient methods", 2011 (Adagrad); G. Hinton, "Neural networks for machine learning", lecture 6e, 2012
(RMSprop); D. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015.
"""


def find_rule(optimizer: str | UpdateRule) -> UpdateRule:
    """Returns the update rule of a name, or the rule itself; an error names the known rules."""
    if isinstance(optimizer, UpdateRule):
        return optimizer
    if optimizer not in UPDATE_RULES:
        raise CourseError(f"optimizer is {optimizer!r}; give one of {', '.join(UPDATE_RULES)}, or an UpdateRule")
    return UPDATE_RULES[optimizer]


def update(
    parameter: Any, gradient: Any, velocity: Any, square: Any, *, rule: Any, learning_rate: Any, step: Any
) -> Any:
    """Computes one step of the update formula, for NumPy arrays and the tensors of every backend.

    ``rule`` has the eight numbers of ``UpdateRule.numbers``, and ``step`` is a float from 1 up. The result is the new
    parameter, velocity and square.
    """
    a, b, c, d, _, inside, outside, corrects = (rule[i] for i in range(8))
    velocity = a * velocity + b * gradient
    square = c * square + d * gradient * gradient
    # (1 - cᵗ)^½ / (1 - aᵗ) to the power of 0 or 1; a rule with c = 1 would divide 0 by 0, so c and a are blended first
    a, c = corrects * a, corrects * c
    correction = (1.0 - c**step) ** 0.5 / (1.0 - a**step)
    parameter = parameter - learning_rate * correction * velocity / ((square + inside) ** 0.5 + outside)
    return parameter, velocity, square
