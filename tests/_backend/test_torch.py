"""PyTorch alone: what a batch split over processes draws."""

import multiprocessing

import keras
import numpy as np
import torch

from keras_course import randomness


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
