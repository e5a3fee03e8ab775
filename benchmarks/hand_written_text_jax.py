"""The loops that an expert would write by hand in JAX for the LSTM net; ``text.py`` races them against ``fit``.

The words of a sentence are read by ``lax.scan``, or by as many copies of the cell (``unrolled``). ``scan`` compiles a
whole epoch into one program, ``one call a step`` a single step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

LEARNING_RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-7


def make_epoch(
    variant: str, x: np.ndarray, y: np.ndarray, weights: list[np.ndarray], batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that trains on the samples in the order it is given, and returns the loss of each step."""
    tokens, labels = jnp.asarray(x), jnp.asarray(y)
    parameters = [jnp.asarray(array) for array in weights]
    zeros = partial(jax.tree.map, jnp.zeros_like)
    state = (parameters, zeros(parameters), zeros(parameters), jnp.zeros((), "int32"))
    step = partial(_step, unroll=x.shape[1] if "unrolled" in variant else 1)

    if "one call a step" in variant:
        one_step = jax.jit(lambda state, x, y, batch: step(state, x[batch], y[batch]), donate_argnums=0)

        def epoch(order: np.ndarray) -> np.ndarray:
            nonlocal state
            losses = []
            for start in range(0, len(order), batch_size):
                state, loss = one_step(state, tokens, labels, order[start : start + batch_size])
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
        state, losses = jax.block_until_ready(scan(state, tokens, labels, order))
        return np.asarray(losses)

    return epoch_in_one_call


def _loss(parameters: list[jax.Array], x: jax.Array, y: jax.Array, unroll: int) -> jax.Array:
    table, kernel, recurrent_kernel, bias, dense_kernel, dense_bias = parameters
    inputs = table[x.T] @ kernel + bias  # (time, batch, 4 * units)

    def cell(state: Any, inputs: jax.Array) -> tuple[Any, None]:
        h, c = state
        i, f, g, o = jnp.split(inputs + h @ recurrent_kernel, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((x.shape[0], recurrent_kernel.shape[0]))
    (h, _), _ = lax.scan(cell, (zeros, zeros), inputs, unroll=unroll)
    log_probabilities = jax.nn.log_softmax(h @ dense_kernel + dense_bias)
    return -jnp.mean(jnp.take_along_axis(log_probabilities, y[:, None], axis=1))


def _step(state: Any, x: jax.Array, y: jax.Array, unroll: int) -> tuple[Any, jax.Array]:
    """One step of Adam, with epsilon where Keras has it."""
    parameters, momentums, velocities, count = state
    count += 1
    loss, gradients = jax.value_and_grad(_loss)(parameters, x, y, unroll)
    momentums = jax.tree.map(lambda m, g: m + (g - m) * (1 - BETA_1), momentums, gradients)
    velocities = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - BETA_2), velocities, gradients)
    rate = LEARNING_RATE * jnp.sqrt(1 - BETA_2**count) / (1 - BETA_1**count)
    parameters = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPSILON), parameters, momentums, velocities)
    return (parameters, momentums, velocities, count), loss
