"""LSTM in one loop over the states, with a gradient that is written by hand.

Keras multiplies the inputs by their kernel inside the loop, one word at a time, and a compiler derives a gradient that
adds up those of both kernels one word at a time. Here the loops have only what depends on the state before; all else is
a few large matrix products outside of them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any, TypeAlias

from keras import activations, layers, ops

from keras_course._backend import keras_private
from keras_course._backend.loops import PATCHING

Lstm: TypeAlias = Callable[..., tuple[Any, Any, Any]]
"""A function from inputs (time, batch, features), h, c, kernel, recurrent kernel and bias to all h (time, batch,
units), the last h and the last c."""
Scan: TypeAlias = Callable[..., tuple[Any, Any]]
"""``scan(step, carry, xs, widths, reverse=)`` calls ``carry, ys = step(carry, xs[i])`` for each i; returns the last
carry and the stacked ys. All are tuples of tensors; each of ``ys`` is (batch, width)."""


@contextmanager
def lstm_replaced(function: Lstm, *, wanted: bool) -> Iterator[None]:
    """Lets LSTM layers compute by a function while a program is traced.

    Layers with a mask, dropout inside, 16 bits or other activations stay those of Keras.
    """
    if not wanted:
        yield
        return
    with PATCHING, keras_private.inner_loop_replaced(layers.LSTM, partial(_replace, function, get_ident())):
        yield


def _replace(function: Lstm, thread: int, native: Callable[..., Any]) -> Callable[..., Any]:
    def inner_loop(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        if get_ident() != thread or not _is_supported(layer, sequences, mask, training):
            return native(layer, sequences, initial_state, mask, training=training)
        cell = layer.cell
        x = ops.swapaxes(sequences, 0, 1)
        x = ops.flip(x, 0) if layer.go_backwards else x
        bias = cell.bias.value if cell.use_bias else ops.zeros((4 * cell.units,), x.dtype)
        states, h, c = function(x, *initial_state, cell.kernel.value, cell.recurrent_kernel.value, bias)
        outputs = ops.swapaxes(states, 0, 1) if layer.return_sequences else ops.expand_dims(h, 1)
        return h, outputs, [h, c]

    return inner_loop


def _is_supported(layer: Any, sequences: Any, mask: Any, training: bool) -> bool:
    cell = layer.cell
    drops = training and (cell.dropout or cell.recurrent_dropout)
    usual = cell.activation is activations.tanh and cell.recurrent_activation is activations.sigmoid
    is_plain = type(layer) is layers.LSTM and type(cell) is layers.LSTMCell and not layer.stateful
    has_shape = None not in sequences.shape and sequences.shape[1] > 0
    is_float32 = {"float32"} == {ops.dtype(tensor) for tensor in (sequences, cell.kernel, cell.recurrent_kernel)}
    return mask is None and not drops and usual and is_plain and has_shape and is_float32


def lstm(scan: Scan, x: Any, h: Any, c: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> tuple[Any, Any, Any]:
    """Computes an LSTM by loops of the backend; the arguments after ``scan`` and the result are those of ``Lstm``."""
    units = recurrent_kernel.shape[0]

    @ops.custom_gradient
    def computed(x: Any, h: Any, c: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> Any:
        def forward(carry: Any, inputs: Any) -> tuple[Any, Any]:
            h, c = carry
            z = inputs[0] + h @ recurrent_kernel
            at_input, forget = ops.sigmoid(z[:, :units]), ops.sigmoid(z[:, units : 2 * units])
            candidate, output = ops.tanh(z[:, 2 * units : 3 * units]), ops.sigmoid(z[:, 3 * units :])
            new_c = forget * c + at_input * candidate
            new_h = output * ops.tanh(new_c)
            return (new_h, new_c), (new_h, h, c, new_c, at_input, forget, candidate, output)

        inputs = ops.reshape(_rows(x) @ kernel + bias, (*x.shape[:2], 4 * units))
        (last_h, last_c), (states, *saved) = scan(forward, (h, c), (inputs,), 8 * [units])

        def backward(carry: Any, at_time: Any) -> tuple[Any, Any]:
            dh, dc = carry
            d_state, _, c, new_c, at_input, forget, candidate, output = at_time
            dh = dh + d_state
            squashed = ops.tanh(new_c)
            dc = dc + dh * output * (1 - squashed * squashed)
            dz = ops.concatenate(
                [
                    dc * candidate * at_input * (1 - at_input),
                    dc * c * forget * (1 - forget),
                    dc * at_input * (1 - candidate * candidate),
                    dh * squashed * output * (1 - output),
                ],
                axis=1,
            )
            return (dz @ ops.transpose(recurrent_kernel), dc * forget), (dz,)

        def gradients(*upstream: Any, **_: Any) -> tuple[Any, ...]:
            d_states, dh, dc = upstream if len(upstream) == 3 else upstream[0]  # JAX gives a tuple
            (dh, dc), (dz,) = scan(backward, (dh, dc), (d_states, *saved), [4 * units], reverse=True)
            dz = _rows(dz)
            dx = ops.reshape(dz @ ops.transpose(kernel), x.shape)
            of_kernels = [ops.transpose(_rows(before)) @ dz for before in (x, saved[0])]
            return dx, dh, dc, *of_kernels, ops.sum(dz, axis=0)

        return (states, last_h, last_c), gradients

    return computed(x, h, c, kernel, recurrent_kernel, bias)


def _rows(tensor: Any) -> Any:
    return ops.reshape(tensor, (-1, tensor.shape[-1]))
