"""The loops that an expert would write by hand in PyTorch for the LSTM net; ``text.py`` races them against ``fit``.

``eager`` calls the module as it is, ``compiled`` has it compiled by TorchInductor. ``torch.nn.LSTM`` is one kernel of
oneDNN or cuDNN in both, and Adam is PyTorch's one fused kernel.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

BETA_2, EPSILON = 0.999, 1e-7


class Network(nn.Module):
    """Embedding, LSTM and a dense layer on its last state, with the weights of Keras."""

    def __init__(self, weights: list[np.ndarray]) -> None:
        super().__init__()
        table, kernel, recurrent_kernel, bias, dense_kernel, dense_bias = map(torch.from_numpy, weights)
        self.embedding = nn.Embedding.from_pretrained(table.clone(), freeze=False)
        self.lstm = nn.LSTM(kernel.shape[0], recurrent_kernel.shape[0], batch_first=True)
        self.dense = nn.Linear(*dense_kernel.shape)
        with torch.no_grad():
            self.lstm.weight_ih_l0.copy_(kernel.T)
            self.lstm.weight_hh_l0.copy_(recurrent_kernel.T)
            self.lstm.bias_ih_l0.copy_(bias)
            self.lstm.bias_hh_l0.zero_()
            self.dense.weight.copy_(dense_kernel.T)
            self.dense.bias.copy_(dense_bias)
        self.lstm.bias_hh_l0.requires_grad_(False)  # Keras has one bias; with two, Adam would move it twice as far

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns the logits of the next token."""
        states, _ = self.lstm(self.embedding(tokens))
        return self.dense(states[:, -1])


def make_epoch(
    variant: str, x: np.ndarray, y: np.ndarray, weights: list[np.ndarray], batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that trains on the samples in the order it is given, and returns the loss of each step."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokens, labels = torch.from_numpy(x).to(device), torch.from_numpy(y).long().to(device)
    network = Network(weights).to(device)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-3, betas=(0.9, BETA_2), fused=True)
    steps = itertools.count(1)

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(network(x), y)

    if variant == "compiled":
        loss_of = torch.compile(loss_of, dynamic=False)

    def epoch(order: np.ndarray) -> np.ndarray:
        batches = torch.from_numpy(order).to(device).split(batch_size)
        losses = torch.empty(len(batches), device=device)
        for index, batch in enumerate(batches):
            optimizer.zero_grad()
            loss = loss_of(tokens.index_select(0, batch), labels.index_select(0, batch))
            loss.backward()
            # Keras adds epsilon before the bias correction, PyTorch after it; this makes the two the same formula
            optimizer.param_groups[0]["eps"] = EPSILON / math.sqrt(1 - BETA_2 ** next(steps))
            optimizer.step()
            losses[index] = loss.detach()
        return losses.cpu().numpy()  # waits for all that was asked of the device before

    return epoch
