"""The router off the event loop: what waits is scored together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sparseft.compliance.serving.attempts import describe
from sparseft.errors import SparseftError
from sparseft.routing.router import Query, Router

__all__ = ["RouterFailed", "Scorer"]

_LOG = logging.getLogger(__name__)
_WARM_UP = Query("warm-up/0", "[user] Good morning.", "warm-up")


class RouterFailed(SparseftError):
    """The router gave no score for a query."""


class Scorer:
    """Scores queries in one thread, the only one that touches the router.

    Nobody waits for a batch to become full: it is what came while the one before was scored. A
    query whose waiter was cancelled is left out. All methods belong to one event loop.

    Args:
        batch_size: queries that the router is given at once.
        observe: called with the seconds and the size of every batch.
    """

    def __init__(
        self,
        router: Router,
        *,
        batch_size: int,
        observe: Callable[[float, int], None] = lambda seconds, size: None,
    ) -> None:
        self._router = router
        self._batch_size = batch_size
        self._observe = observe
        self._jobs: deque[tuple[Query, asyncio.Future[float]]] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "sparseft-router")

    async def warm_up(self) -> None:
        """Score one query, so that a router that cannot is found now, and the first is not slow.

        Raises:
            RouterFailed: it cannot.
        """
        try:
            await self.score(_WARM_UP)
        except RouterFailed as error:
            raise RouterFailed(
                f"expected a router that scores any text, got {error.__cause__ or error}; take "
                "another router."
            ) from error

    async def score(self, query: Query) -> float:
        """How much the query wants the large model.

        Raises:
            RouterFailed: the router raised, or gave no number; other queries of the batch are well.
        """
        found: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._jobs.append((query, found))
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain())
        return await found

    def close(self) -> None:
        """End the thread after the batch that it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._take():
            queries = [query for query, _ in batch]
            began = time.perf_counter()
            try:
                scores = await loop.run_in_executor(self._thread, self._scores, queries)
            except BaseException:
                for _, found in batch:
                    found.cancel()
                raise
            self._observe(time.perf_counter() - began, len(batch))
            for (_, found), score in zip(batch, scores, strict=True):
                if found.done():
                    continue
                if isinstance(score, float):
                    found.set_result(score)
                else:
                    failed = RouterFailed("expected a score, got none; see the log.")
                    failed.__cause__ = score
                    found.set_exception(failed)

    def _take(self) -> list[tuple[Query, asyncio.Future[float]]]:
        batch: list[tuple[Query, asyncio.Future[float]]] = []
        while self._jobs and len(batch) < self._batch_size:
            job = self._jobs.popleft()
            if not job[1].done():
                batch.append(job)
        return batch

    def _scores(self, queries: Sequence[Query]) -> list[float | Exception]:
        """Together, or where that fails one by one."""
        try:
            scores = np.asarray(self._router.scores(queries), dtype=np.float64)
            if scores.shape != (len(queries),) or np.isnan(scores).any():
                raise ValueError(f"scores [{len(queries)}] expected, got {scores.shape} or a NaN")
            return [float(score) for score in scores]
        except Exception as error:
            _LOG.warning("the router failed on %d queries: %s", len(queries), describe(error))
            if len(queries) == 1:
                return [error]
        return [score for query in queries for score in self._scores([query])]
