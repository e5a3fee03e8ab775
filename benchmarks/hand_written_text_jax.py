"""The loops that an expert would write by hand in JAX for the LSTM net; ``text.py`` races them against ``fit``.

The words of a sentence are read by ``lax.scan``, or by as many copies of the cell (``unrolled``). ``scan`` compiles a
whole epoch into one program, ``one call a step`` a single step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import hand_written_jax
import jax
import numpy as np
from jax import lax
from jax import numpy as jnp


def make_epoch(
    variant: str, x: np.ndarray, y: np.ndarray, weights: list[np.ndarray], batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that trains on the samples in a given order, and returns the loss of each step."""
    loss = partial(_loss, unroll=x.shape[1] if "unrolled" in variant else 1)
    return hand_written_jax.make_epoch(variant, x, y, weights, batch_size, loss=loss)


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
