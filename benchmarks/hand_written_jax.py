"""The training loop that an expert would write by hand in JAX; ``training.py`` compares it with ``fit``.

``scan`` compiles a whole epoch into one program; ``one call a step`` compiles a single step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

LEARNING_RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-7


Loss = Callable[[list[jax.Array], jax.Array, jax.Array], jax.Array]


def _loss(parameters: list[jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    kernel1, bias1, kernel2, bias2, kernel3, bias3 = parameters
    hidden = jax.nn.relu(x.astype("float32") * (1 / 255) @ kernel1 + bias1)
    hidden = jax.nn.relu(hidden @ kernel2 + bias2)
    log_probabilities = jax.nn.log_softmax(hidden @ kernel3 + bias3)
    return -jnp.mean(jnp.take_along_axis(log_probabilities, y[:, None], axis=1))


def make_epoch(
    variant: str, x: np.ndarray, y: np.ndarray, weights: list[np.ndarray], batch_size: int, *, loss: Loss = _loss
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that trains on the samples in a given order, and returns the loss of each step."""
    step = partial(_adam, loss)
    samples, labels = jnp.asarray(x.reshape(len(x), -1)), jnp.asarray(y)
    parameters = [jnp.asarray(array) for array in weights]
    zeros = partial(jax.tree.map, jnp.zeros_like)
    state = (parameters, zeros(parameters), zeros(parameters), jnp.zeros((), "int32"))

    if "one call a step" in variant:
        one_step = jax.jit(lambda state, x, y, batch: step(state, x[batch], y[batch]), donate_argnums=0)

        def epoch(order: np.ndarray) -> np.ndarray:
            nonlocal state
            losses = []
            for start in range(0, len(order), batch_size):
                state, loss = one_step(state, samples, labels, order[start : start + batch_size])
                losses.append(loss)
            return np.asarray(jax.block_until_ready((state, jnp.stack(losses)))[1])

        return epoch

    @partial(jax.jit, donate_argnums=0)
    def scan(state: Any, x: jax.Array, y: jax.Array, order: jax.Array) -> tuple[Any, jax.Array]:
        whole = len(order) // batch_size * batch_size
        batches, rest = order[:whole].reshape(-1, batch_size), order[whole:]
        state, losses = lax.scan(lambda state, batch: step(state, x[batch], y[batch]), state, batches)
        if len(rest):
            state, loss = step(state, x[rest], y[rest])
            losses = jnp.append(losses, loss)
        return state, losses

    def epoch_in_one_call(order: np.ndarray) -> np.ndarray:
        nonlocal state
        state, losses = jax.block_until_ready(scan(state, samples, labels, order))
        return np.asarray(losses)

    return epoch_in_one_call


def _adam(loss_of: Loss, state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, jax.Array]:
    """Takes one step of Adam, with epsilon as in Keras."""
    parameters, momentums, velocities, count = state
    count += 1
    loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
    momentums = jax.tree.map(lambda m, g: m + (g - m) * (1 - BETA_1), momentums, gradients)
    velocities = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - BETA_2), velocities, gradients)
    rate = LEARNING_RATE * jnp.sqrt(1 - BETA_2**count) / (1 - BETA_1**count)
    parameters = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPSILON), parameters, momentums, velocities)
    return (parameters, momentums, velocities, count), loss
