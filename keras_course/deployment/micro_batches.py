"""Pictures of many requests, answered in batches by one model."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np

_Result = TypeVar("_Result")


class _Waiting(NamedTuple):
    pictures: np.ndarray
    answer: "asyncio.Future[np.ndarray]"


class MicroBatches:
    """Lets requests share batches: while the model computes, what comes in waits, and goes as the next batch.

    So nobody waits for others to come: an idle model takes a single picture at once, and a busy one takes ever larger
    batches, up to the limit. The model runs in one thread of its own.

    Args:
        run: From pictures (n, ...) to logits (n, classes).
        batch_size: How many pictures the model is given at once. A request with more goes alone.
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], *, batch_size: int) -> None:
        self._run = run
        self._batch_size = batch_size
        self._waiting: deque[_Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._worker: asyncio.Task[None] | None = None

    async def logits(self, pictures: np.ndarray) -> np.ndarray:
        """Computes the logits of some pictures, together with those of others.

        Args:
            pictures: (n, ...), at least one.

        Returns:
            (n, classes).
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[np.ndarray] = loop.create_future()
        self._waiting.append(_Waiting(pictures, answer))
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        return await answer

    async def alone(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Calls a function in the thread of the model, between two batches.

        Args:
            function: What to call.
            *arguments: What to call it with.

        Returns:
            What it returns.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def close(self) -> None:
        """Ends the thread, once it has done what it was given."""
        self._thread.shutdown()

    async def _work(self) -> None:
        try:
            while batch := self._next_batch():
                try:
                    pictures = [one.pictures for one in batch]
                    together = pictures[0] if len(pictures) == 1 else np.concatenate(pictures)
                    logits = await self.alone(self._run, together)
                except Exception as error:  # whatever it is, those who wait have to hear of it
                    for one in batch:
                        if not one.answer.done():
                            one.answer.set_exception(error)
                    continue
                start = 0
                for one in batch:
                    if not one.answer.done():  # the request may have been given up
                        one.answer.set_result(logits[start : start + len(one.pictures)])
                    start += len(one.pictures)
        finally:
            self._worker = None

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        count = 0
        while self._waiting:
            if self._waiting[0].answer.done():  # given up while it waited
                self._waiting.popleft()
                continue
            count += len(self._waiting[0].pictures)
            if batch and count > self._batch_size:
                break
            batch.append(self._waiting.popleft())
        return batch
