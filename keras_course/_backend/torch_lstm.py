"""Computes LSTM by one kernel of oneDNN while a program is traced on a CPU, where Keras loops over time in Python.

A traced step would have a dozen operations for each word and each direction of the gradient; with the kernel, it takes
half of the time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any, Final

import torch
from keras import activations, layers, ops

from keras_course._backend import keras_private
from keras_course._backend.loops import PATCHING

_LSTM: Final = 2
"""The kind of recurrent network, as PyTorch numbers them for oneDNN."""


@contextmanager
def lstm_by_onednn(*, wanted: bool) -> Iterator[None]:
    """Lets LSTM layers use the kernel.

    Layers with a mask, dropout inside, states that are kept, 16 bits or other activations stay those of Keras.
    """
    if not wanted:
        yield
        return
    with PATCHING, keras_private.inner_loop_replaced(layers.LSTM, partial(_replace, get_ident())):
        yield


def _replace(thread: int, native: Callable[..., Any]) -> Callable[..., Any]:
    def inner_loop(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        if get_ident() != thread or not _is_supported(layer, sequences, mask, training):
            return native(layer, sequences, initial_state, mask, training=training)
        x = sequences.flip(1) if layer.go_backwards else sequences
        weights = [ops.convert_to_tensor(weight) for weight in layer.cell.weights]
        states, h, c = lstm(x, *initial_state, *weights)
        return h, states if layer.return_sequences else h[:, None], [h, c]

    return inner_loop


def _is_supported(layer: Any, sequences: Any, mask: Any, training: bool) -> bool:
    cell = layer.cell
    drops = training and (cell.dropout or cell.recurrent_dropout)
    usual = cell.activation is activations.tanh and cell.recurrent_activation is activations.sigmoid
    is_plain = type(layer) is layers.LSTM and type(cell) is layers.LSTMCell and not layer.stateful
    is_float32 = {sequences.dtype, ops.convert_to_tensor(cell.kernel).dtype} == {torch.float32}
    return mask is None and not drops and usual and is_plain and is_float32 and sequences.numel() > 0


def lstm(
    x: torch.Tensor,
    h: torch.Tensor,
    c: torch.Tensor,
    kernel: torch.Tensor,
    recurrent_kernel: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns all states h (batch, time, units), the last h and the last c, both (batch, units).

    Args:
        x: The inputs (batch, time, features).
        h: The first h (batch, units).
        c: The first c (batch, units).
        kernel: The weights of the inputs (features, 4 * units), gates as Keras has them.
        recurrent_kernel: The weights of the states (units, 4 * units).
        bias: (4 * units,).
    """
    no_bias = torch.zeros_like(kernel[0])  # PyTorch has two
    bias = no_bias if bias is None else bias
    # the kernel reads wrong numbers from memory that is not contiguous, or where batches come first
    tensors = [part.contiguous() for part in (x.transpose(0, 1), kernel.T, recurrent_kernel.T, bias, no_bias, h, c)]
    flags = {"reverse": False, "batch_sizes": [], "mode": _LSTM, "hidden_size": h.shape[1], "num_layers": 1}
    flags |= {"has_biases": True, "bidirectional": False, "batch_first": False, "train": torch.is_grad_enabled()}
    states, last_h, last_c, _ = torch.ops.aten.mkldnn_rnn_layer.default(*tensors, **flags)
    return states.transpose(0, 1), last_h, last_c
