"""The training loops that an expert would write by hand in PyTorch; ``training.py`` compares them with ``fit``.

In ``compiled``, TorchInductor compiles forward and backward pass, on a GPU with CUDA graphs; ``eager`` is not compiled.
Both use PyTorch's fused Adam.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

BETA_2, EPSILON = 0.999, 1e-7


def make_epoch(
    variant: str, x: np.ndarray, y: np.ndarray, weights: list[np.ndarray], batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that trains on the samples in a given order, and returns the loss of each step."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pictures, labels = torch.from_numpy(x).flatten(1).to(device), torch.from_numpy(y).long().to(device)
    network = _network(weights).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.9, BETA_2), fused=True)
    steps = itertools.count(1)

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(network(x.float() * (1 / 255)), y)

    if variant == "compiled":
        # not dynamic: the smaller last batch of an epoch has its own program and does not slow down the others
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        loss_of = torch.compile(loss_of, mode=mode, dynamic=False)

    def epoch(order: np.ndarray) -> np.ndarray:
        batches = torch.from_numpy(order).to(device).split(batch_size)
        losses = torch.empty(len(batches), device=device)
        for index, batch in enumerate(batches):
            optimizer.zero_grad()
            loss = loss_of(pictures.index_select(0, batch), labels.index_select(0, batch))
            loss.backward()
            # Keras adds epsilon before the bias correction, PyTorch after it; this makes the two the same formula
            optimizer.param_groups[0]["eps"] = EPSILON / math.sqrt(1 - BETA_2 ** next(steps))
            optimizer.step()
            losses[index] = loss.detach()
        return losses.cpu().numpy()  # waits for all previous work of the device

    return epoch


def _network(weights: list[np.ndarray]) -> nn.Sequential:
    """Returns the network with these weights: kernels (inputs, outputs) and biases, alternating."""
    layers: list[nn.Module] = []
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        linear = nn.utils.skip_init(nn.Linear, *kernel.shape)
        linear.load_state_dict({"weight": torch.from_numpy(kernel).T, "bias": torch.from_numpy(bias)})
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
