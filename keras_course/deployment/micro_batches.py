"""Combines the pictures of many requests into batches for one model."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np

_Result = TypeVar("_Result")

_SECONDS_OF_PART: Final = 0.05
"""The time for a part of a large request, if there has been no small request lately."""
_FEWEST_SECONDS: Final = 0.002
"""The shortest time for a part of a large request."""
_SECONDS_OF_QUIET: Final = 0.25
"""A small request has come lately if it came within this time."""
_FIRST_PART: Final = 4
"""The number of pictures in the first part, before their time is known."""


def joined(arrays: list[np.ndarray]) -> np.ndarray:
    """Concatenates arrays; a single one is not copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


@dataclass(eq=False)
class _Waiting:
    pictures: np.ndarray
    answer: "asyncio.Future[np.ndarray]"
    logits: list[np.ndarray] = field(default_factory=list)
    computed: int = 0


class MicroBatches:
    """Combines requests into batches: requests that arrive while the model computes become the next batch.

    No request waits for a batch to fill. An idle model takes a single picture at once; a busy one takes larger batches,
    up to the limit. The model computes one batch at a time: ``run`` in a separate thread or, if given, ``run_async``.

    A request with more pictures than a batch is computed in parts, which alternate with batches of small requests.
    While there are small requests, a part takes about twice as long as their batch, so that they never wait long.
    Large requests take turns.
    """

    def __init__(
        self,
        run: Callable[[np.ndarray], np.ndarray],
        *,
        batch_size: int,
        run_async: Callable[[np.ndarray], Awaitable[np.ndarray]] | None = None,
    ) -> None:
        self._run = run
        self._run_async = run_async
        self._batch_size = batch_size
        self._turn = asyncio.Lock()
        self._small: deque[_Waiting] = deque()
        self._large: deque[_Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._worker: asyncio.Task[None] | None = None
        self._seconds_of_batch = 0.0
        self._last_batch = -np.inf
        self._seconds_of_picture = 0.0

    async def logits(self, pictures: np.ndarray, *, is_large: bool = False) -> np.ndarray:
        """Returns the logits (n, classes) of pictures (n, ...); ``is_large`` treats even few as a large request."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[np.ndarray] = loop.create_future()
        queue = self._large if is_large or len(pictures) > self._batch_size else self._small
        queue.append(_Waiting(pictures, answer))
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        return await answer

    async def alone(self, function: Callable[..., _Result], *arguments: Any) -> _Result:
        """Calls a function in the thread of the model, between two batches, and returns its result."""
        async with self._turn:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _compute(self, pictures: np.ndarray) -> np.ndarray:
        if self._run_async is None:
            return await self.alone(self._run, pictures)
        async with self._turn:
            return await self._run_async(pictures)

    def close(self) -> None:
        """Ends the thread after its current work."""
        self._thread.shutdown()

    async def _work(self) -> None:
        try:
            while self._small or self._large:
                if batch := self._next_batch():
                    started = time.perf_counter()
                    await self._answer(batch)
                    self._last_batch = time.perf_counter()
                    self._seconds_of_batch = self._last_batch - started
                if large := self._next_large():
                    await self._compute_part(large)
        finally:
            self._worker = None

    async def _answer(self, batch: list[_Waiting]) -> None:
        """Computes the pictures of small requests in one batch."""
        try:
            logits = await self._compute(joined([one.pictures for one in batch]))
        except Exception as error:  # passed on to the requests, whatever it is
            for one in batch:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        start = 0
        for one in batch:
            if not one.answer.done():  # the request may have been canceled
                one.answer.set_result(logits[start : start + len(one.pictures)])
            start += len(one.pictures)

    async def _compute_part(self, large: _Waiting) -> None:
        """Computes some more pictures of a large request, and puts it behind the other large ones."""
        part = large.pictures[large.computed : large.computed + self._pictures_in_part()]
        started = time.perf_counter()
        try:
            large.logits.append(await self._compute(part))
        except Exception as error:
            if not large.answer.done():
                large.answer.set_exception(error)
            return
        self._seconds_of_picture = (time.perf_counter() - started) / len(part)
        large.computed += len(part)
        if large.computed < len(large.pictures):
            self._large.append(large)
        elif not large.answer.done():
            large.answer.set_result(joined(large.logits))

    def _pictures_in_part(self) -> int:
        if not self._seconds_of_picture:
            return _FIRST_PART
        is_quiet = time.perf_counter() - self._last_batch > _SECONDS_OF_QUIET
        seconds = _SECONDS_OF_PART if is_quiet else max(_FEWEST_SECONDS, 2 * self._seconds_of_batch)
        count = max(1, int(seconds / self._seconds_of_picture))
        # Keras pads batches to a power of two
        return count if count > self._batch_size else 1 << (count.bit_length() - 1)

    def _next_large(self) -> _Waiting | None:
        while self._large:
            if not (large := self._large.popleft()).answer.done():  # else it was canceled while it waited
                return large
        return None

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        count = 0
        while self._small:
            if self._small[0].answer.done():  # canceled while it waited
                self._small.popleft()
                continue
            count += len(self._small[0].pictures)
            if batch and count > self._batch_size:
                break
            batch.append(self._small.popleft())
        return batch
