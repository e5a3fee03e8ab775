"""Requests that share batches, with a model that the tests can pause."""

import asyncio
import threading
import time

import numpy as np
import pytest

from keras_course.deployment.micro_batches import MicroBatches


class Model:
    """Doubles its inputs, waits while ``go_on`` is cleared, and records the sizes of its batches."""

    def __init__(self):
        self.sizes = []
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, pictures):
        self.sizes.append(len(pictures))
        assert self.go_on.wait(20)
        if (pictures < 0).any():
            raise ValueError("a negative picture")
        return 2 * pictures


def pictures(*values):
    return np.array(values, "float32")[:, None]


def run(work, batch_size=4):
    """Runs a test in an event loop with a new model, and returns the sizes of its batches."""
    model = Model()

    async def main():
        batches = MicroBatches(model, batch_size=batch_size)
        try:
            async with asyncio.timeout(20):
                await work(batches, model)
        finally:
            model.go_on.set()
            batches.close()

    asyncio.run(main())
    return model.sizes


async def wait_for_batches(model, count):
    """Waits until the model has started this number of batches."""
    while len(model.sizes) < count:
        await asyncio.sleep(0.001)


def test_an_idle_model_gets_a_request_at_once():
    async def work(batches, model):
        for value in range(3):
            assert (await batches.logits(pictures(value))).tolist() == [[2 * value]]

    assert run(work) == [1, 1, 1]


def test_waiting_requests_share_batches_and_get_their_own_answers():
    async def work(batches, model):
        model.go_on.clear()
        first = asyncio.create_task(batches.logits(pictures(100)))
        await wait_for_batches(model, 1)
        others = [asyncio.create_task(batches.logits(pictures(*range(n, 2 * n)))) for n in (1, 2, 3, 1, 6, 1)]
        await asyncio.sleep(0.01)
        model.go_on.set()
        assert (await first).tolist() == [[200]]
        answers = [answer.ravel().tolist() for answer in await asyncio.gather(*others)]
        assert answers == [[2], [4, 6], [6, 8, 10], [2], [12, 14, 16, 18, 20, 22], [2]]

    # at most four: the request with six is split into two parts, which take turns with the others
    assert run(work) == [1, 4, 3, 2, 4, 1]


def test_an_error_reaches_only_the_requests_of_its_batch():
    async def work(batches, model):
        model.go_on.clear()
        first = asyncio.create_task(batches.logits(pictures(1)))
        await wait_for_batches(model, 1)
        concerned = [asyncio.create_task(batches.logits(pictures(value))) for value in (2, -1)]
        await asyncio.sleep(0.01)
        model.go_on.set()
        assert (await first).tolist() == [[2]]
        for task in concerned:
            with pytest.raises(ValueError, match="negative"):
                await task
        assert (await batches.logits(pictures(3))).tolist() == [[6]]

    assert run(work) == [1, 2, 1]


def test_a_canceled_request_is_not_computed():
    async def work(batches, model):
        model.go_on.clear()
        first = asyncio.create_task(batches.logits(pictures(1)))
        await wait_for_batches(model, 1)
        given_up, other = (asyncio.create_task(batches.logits(pictures(value))) for value in (2, 3))
        await asyncio.sleep(0.01)
        given_up.cancel()
        await asyncio.sleep(0.01)
        first.cancel()  # too late for the model; its answer is dropped
        model.go_on.set()
        assert (await other).tolist() == [[6]]

    assert run(work) == [1, 1]


def test_other_work_runs_on_the_thread_of_the_model():
    async def work(batches, model):
        name = await batches.alone(lambda: threading.current_thread().name)
        assert name.startswith("model")
        await batches.logits(pictures(1))

    assert run(work) == [1]


# --- Large requests ----------------------------------------------------------------------------------------------


def test_a_small_request_runs_between_the_parts_of_large_ones():
    async def work(batches, model):
        model.go_on.clear()
        large = [asyncio.create_task(batches.logits(pictures(*range(start, start + 40)))) for start in (0, 100)]
        await wait_for_batches(model, 1)
        small = asyncio.create_task(batches.logits(pictures(7)))
        await asyncio.sleep(0.01)
        assert len(model.sizes) == 1
        model.go_on.set()
        assert (await small).tolist() == [[14]]
        assert not any(task.done() for task in large)
        for task, start in zip(large, (0, 100), strict=True):
            assert (await task).ravel().tolist() == [2 * value for value in range(start, start + 40)]

    sizes = run(work)
    assert sizes[:2] == [4, 1], "the small request is next"
    assert sum(sizes) == 81


def test_large_requests_take_turns():
    async def work(batches, model):
        model.go_on.clear()
        first, second = (asyncio.create_task(batches.logits(pictures(*range(count)))) for count in (200, 6))
        await wait_for_batches(model, 1)
        model.go_on.set()
        await second
        assert not first.done()
        await first

    run(work)


def test_parts_of_large_requests_are_short_while_small_requests_arrive():
    """A picture and a small request take a millisecond each, so a part should take about two and not fifty."""

    class Slow(Model):
        def __call__(self, pictures):
            self.sizes.append(len(pictures))
            time.sleep(0.001 * len(pictures))
            return 2 * pictures

    async def work(busy):
        model = Slow()
        batches = MicroBatches(model, batch_size=4)
        large = asyncio.create_task(batches.logits(pictures(*range(300))))
        while busy and not large.done():
            await batches.logits(pictures(1))
        await large
        batches.close()
        return np.median(model.sizes)

    assert asyncio.run(work(busy=True)) <= 4
    assert asyncio.run(work(busy=False)) > 8


def test_a_small_request_marked_as_large_takes_turns_with_large_ones():
    async def work(batches, model):
        model.go_on.clear()
        first = asyncio.create_task(batches.logits(pictures(1)))
        await wait_for_batches(model, 1)
        marked = [asyncio.create_task(batches.logits(pictures(value), is_large=True)) for value in (2, 3)]
        others = [asyncio.create_task(batches.logits(pictures(*range(3)))) for _ in range(2)]
        await asyncio.sleep(0.01)
        model.go_on.set()
        await asyncio.gather(first, *marked, *others)

    assert run(work) == [1, 1, 3, 1, 3], "they take turns and are not in one batch"


def test_a_canceled_or_failed_large_request_is_not_continued():
    async def work(batches, model):
        model.go_on.clear()
        given_up = asyncio.create_task(batches.logits(pictures(*range(1000))))
        fails = asyncio.create_task(batches.logits(pictures(*[-1] * 1000)))
        await wait_for_batches(model, 1)
        given_up.cancel()
        await asyncio.sleep(0.01)
        model.go_on.set()
        with pytest.raises(ValueError, match="negative"):
            await fails
        assert (await batches.logits(pictures(3))).tolist() == [[6]]

    sizes = run(work)
    assert sum(sizes) < 1000
    assert len(sizes) == 3
