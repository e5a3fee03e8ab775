"""PyTorch alone: what a batch split over processes draws, and the files that it writes."""

import multiprocessing
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import torch

from keras_course import randomness
from keras_course._backend import torch as backend
from keras_course.pretrained.tensor_files import read_tensors


def dropped_in_process(rank, world_size, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    rows = np.ones((8 // world_size, 6), "float32")
    dropped = randomness.Dropout(0.5, seed=0, name="drop")(rows, training=True)
    np.save(f"{folder}/{rank}.npy", keras.ops.convert_to_numpy(dropped))
    torch.distributed.barrier()  # whoever goes first would hang up on one that is still connecting
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


@pytest.mark.parametrize("is_archive", [False, True])
def test_files_of_the_framework_itself_are_read(tmp_path, is_archive):
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2).half())
    table = layers.state_dict()
    table["turned"] = table["0.weight"].permute(2, 3, 1, 0)
    path = tmp_path / "weights.pth"
    torch.save(table, path, _use_new_zipfile_serialization=is_archive)
    tensors = read_tensors(path)
    assert tensors.keys() == table.keys()
    for key, value in table.items():
        np.testing.assert_array_equal(tensors[key], value.numpy(), strict=True)


def test_gpus_are_listed_with_their_memory(monkeypatch):
    cpu = {"name": "cpu", "kind": "cpu", "memory_bytes": None}
    names = ["NVIDIA H200", "NVIDIA A2"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda index: SimpleNamespace(name=names[index], total_memory=2**30 + index),
    )
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    gpus = [{"name": name, "kind": "gpu", "memory_bytes": 2**30 + index} for index, name in enumerate(names)]
    assert backend.describe_devices() == [cpu, *gpus]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert backend.describe_devices() == [cpu, {"name": "Apple GPU (mps)", "kind": "gpu", "memory_bytes": None}]
