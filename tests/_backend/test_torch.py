"""PyTorch alone: what a batch split over processes draws, and what becomes of a traced graph."""

import multiprocessing

import keras
import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from keras_course import randomness
from keras_course._backend import torch as backend

aten = torch.ops.aten


def dropped_in_process(rank, world_size, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    rows = np.ones((8 // world_size, 6), "float32")
    dropped = randomness.Dropout(0.5, seed=0, name="drop")(rows, training=True)
    np.save(f"{folder}/{rank}.npy", keras.ops.convert_to_numpy(dropped))
    torch.distributed.destroy_process_group()


def test_dropout_of_a_split_batch_is_that_of_the_whole(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=dropped_in_process, args=(rank, 2, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    parts = [np.load(tmp_path / f"{rank}.npy") for rank in range(2)]
    key = randomness.stream_key(0, "drop", "dropout")
    np.testing.assert_array_equal(np.concatenate(parts), 2.0 * randomness.keep_mask(key, (8, 6), 0.5))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
@pytest.mark.parametrize(
    "product",
    [
        lambda a, b: a @ b,
        lambda a, b: (b.t() @ a.t()).t(),
        lambda a, b: a @ b.t().contiguous().t(),
        lambda a, b: torch.addmm(torch.arange(5.0), a, b),
        lambda a, b: torch.addmm(torch.ones(7, 5), a, b),
        lambda a, b: torch.addmm(torch.arange(5.0), a, b, beta=0.5, alpha=2.0),
        lambda a, b: (a.double() @ b.double()).float(),
    ],
    ids=["plain", "transposed", "strided", "bias", "matrix bias", "scaled", "double"],
)
def test_products_by_onednn_are_products(product):
    a, b = torch.randn(7, 3), torch.randn(3, 5)
    graph = make_fx(product)(a, b)
    backend._multiply_with_onednn(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    torch.testing.assert_close(graph(a, b), product(a, b), atol=1e-5, rtol=1e-5)


def test_onednn_takes_the_products_of_a_dense_net():
    graph = make_fx(lambda a, b: a @ b)(torch.randn(2, 3), torch.randn(3, 4))
    backend._multiply_with_onednn(graph)
    targets = [node.target for node in graph.graph.nodes]
    assert aten.mm.default not in targets
    assert torch.ops.mkldnn._linear_pointwise.default in targets


def test_constants_are_computed_once_and_arguments_are_not():
    weights = torch.arange(3.0)

    def function(x):
        x.add_(weights * 2)
        return x + torch.arange(3) * 10

    graph = make_fx(function)(torch.zeros(3))
    backend._fold_constants(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    targets = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    assert targets == [aten.add_.Tensor, aten.add.Tensor]
    x = torch.zeros(3)
    torch.testing.assert_close(graph(x), torch.tensor([0.0, 12.0, 24.0]))
    torch.testing.assert_close(x, torch.tensor([0.0, 2.0, 4.0]))
    torch.testing.assert_close(graph(x), torch.tensor([0.0, 14.0, 28.0]))
