"""Requests that share batches, with a model that can be stopped and let go."""

import asyncio
import threading
import time

import numpy as np
import pytest

from keras_course.deployment.micro_batches import MicroBatches


class Model:
    """Doubles what it is given, waits where it is told to, and remembers the sizes of its batches."""

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
    """Runs a test in an event loop, with a model of its own; returns the sizes of the batches."""
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


async def started(model, count):
    """Waits until the model has begun so many batches."""
    while len(model.sizes) < count:
        await asyncio.sleep(0.001)


def test_an_idle_model_is_given_what_comes_at_once():
    async def work(batches, model):
        for value in range(3):
            assert (await batches.logits(pictures(value))).tolist() == [[2 * value]]

    assert run(work) == [1, 1, 1]


def test_what_comes_meanwhile_goes_together_and_each_gets_its_own():
    async def work(batches, model):
        model.go_on.clear()
        first = asyncio.create_task(batches.logits(pictures(100)))
        await started(model, 1)
        others = [asyncio.create_task(batches.logits(pictures(*range(n, 2 * n)))) for n in (1, 2, 3, 1, 6, 1)]
        await asyncio.sleep(0.01)
        model.go_on.set()
        assert (await first).tolist() == [[200]]
        answers = [answer.ravel().tolist() for answer in await asyncio.gather(*others)]
        assert answers == [[2], [4, 6], [6, 8, 10], [2], [12, 14, 16, 18, 20, 22], [2]]

    # never more than four: the six go in two parts, in turns with the batches of the others
    assert run(work) == [1, 4, 3, 2, 4, 1]


def test_an_error_is_told_to_those_it_concerns_and_the_next_are_answered():
    async def work(batches, model):
        model.go_on.clear()
        first = asyncio.create_task(batches.logits(pictures(1)))
        await started(model, 1)
        concerned = [asyncio.create_task(batches.logits(pictures(value))) for value in (2, -1)]
        await asyncio.sleep(0.01)
        model.go_on.set()
        assert (await first).tolist() == [[2]]
        for task in concerned:
            with pytest.raises(ValueError, match="negative"):
                await task
        assert (await batches.logits(pictures(3))).tolist() == [[6]]

    assert run(work) == [1, 2, 1]


def test_what_was_given_up_is_not_computed():
    async def work(batches, model):
        model.go_on.clear()
        first = asyncio.create_task(batches.logits(pictures(1)))
        await started(model, 1)
        given_up, other = (asyncio.create_task(batches.logits(pictures(value))) for value in (2, 3))
        await asyncio.sleep(0.01)
        given_up.cancel()
        await asyncio.sleep(0.01)
        first.cancel()  # too late for the model; its answer goes nowhere
        model.go_on.set()
        assert (await other).tolist() == [[6]]

    assert run(work) == [1, 1]


def test_other_work_comes_between_two_batches():
    async def work(batches, model):
        name = await batches.alone(lambda: threading.current_thread().name)
        assert name.startswith("model")
        await batches.logits(pictures(1))

    assert run(work) == [1]


# --- Large requests ----------------------------------------------------------------------------------------------


def test_a_small_request_comes_between_the_parts_of_large_ones():
    async def work(batches, model):
        model.go_on.clear()
        large = [asyncio.create_task(batches.logits(pictures(*range(start, start + 40)))) for start in (0, 100)]
        await started(model, 1)
        small = asyncio.create_task(batches.logits(pictures(7)))
        await asyncio.sleep(0.01)
        assert len(model.sizes) == 1
        model.go_on.set()
        assert (await small).tolist() == [[14]]
        assert not any(task.done() for task in large)
        for task, start in zip(large, (0, 100), strict=True):
            assert (await task).ravel().tolist() == [2 * value for value in range(start, start + 40)]

    sizes = run(work)
    assert sizes[:2] == [4, 1], "the small one goes next, whatever else waits"
    assert sum(sizes) == 81


def test_large_requests_take_turns():
    async def work(batches, model):
        model.go_on.clear()
        first, second = (asyncio.create_task(batches.logits(pictures(*range(count)))) for count in (200, 6))
        await started(model, 1)
        model.go_on.set()
        await second
        assert not first.done()
        await first

    run(work)


def test_where_small_requests_come_the_parts_of_large_ones_are_short():
    """A picture takes a millisecond, and so does a small request: a part takes about two, not fifty."""

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


def test_a_small_request_marked_as_large_waits_with_the_large_ones():
    async def work(batches, model):
        model.go_on.clear()
        first = asyncio.create_task(batches.logits(pictures(1)))
        await started(model, 1)
        marked = [asyncio.create_task(batches.logits(pictures(value), is_large=True)) for value in (2, 3)]
        others = [asyncio.create_task(batches.logits(pictures(*range(3)))) for _ in range(2)]
        await asyncio.sleep(0.01)
        model.go_on.set()
        await asyncio.gather(first, *marked, *others)

    assert run(work) == [1, 1, 3, 1, 3], "in turns, and not in one batch with the others"


def test_a_large_request_that_is_given_up_or_fails_is_not_computed_any_further():
    async def work(batches, model):
        model.go_on.clear()
        given_up = asyncio.create_task(batches.logits(pictures(*range(1000))))
        fails = asyncio.create_task(batches.logits(pictures(*[-1] * 1000)))
        await started(model, 1)
        given_up.cancel()
        await asyncio.sleep(0.01)
        model.go_on.set()
        with pytest.raises(ValueError, match="negative"):
            await fails
        assert (await batches.logits(pictures(3))).tolist() == [[6]]

    sizes = run(work)
    assert sum(sizes) < 1000
    assert len(sizes) == 3
