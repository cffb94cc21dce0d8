"""One thread that evaluates what many requests bring, in small batches, from a bounded queue."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from sparseft.compliance.record import Record
from sparseft.compliance.serving.attempts import Evaluates, describe, evaluate_each
from sparseft.compliance.transcript import Transcript
from sparseft.errors import SparseftError

__all__ = ["Overloaded", "Worker"]

_LOG = logging.getLogger(__name__)


class Overloaded(SparseftError):
    """There is no room for more, or the worker is closed.

    Attributes:
        seconds: after which a new try makes sense.
    """

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True)
class _Job:
    transcript: Transcript
    future: Future[Record] = field(default_factory=Future)


class Worker:
    """Evaluates in a thread of its own, the only one that touches the evaluator.

    What waits is taken together, up to `batch_size`; nobody waits for a batch to become full.

    Args:
        queue: the most transcripts that wait.
        observe: called in the worker's thread with the seconds and the size of every batch.
    """

    def __init__(
        self,
        evaluator: Evaluates,
        *,
        batch_size: int,
        queue: int,
        observe: Callable[[float, int], None] = lambda seconds, size: None,
    ) -> None:
        self._evaluator = evaluator
        self._batch_size = batch_size
        self._limit = queue
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._pace = 1.0  # seconds a transcript, a running mean
        self._thread = threading.Thread(target=self._run, name="sparseft-evaluator", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Transcripts in the queue."""
        return len(self._jobs)

    @property
    def alive(self) -> bool:
        """Whether what is submitted will be evaluated."""
        return self._thread.is_alive() and not self._closing

    def submit(self, transcripts: Sequence[Transcript]) -> list[Future[Record]]:
        """Put transcripts into the queue, all of them or none.

        Returns:
            a future each; cancelled before its turn, it is not evaluated.

        Raises:
            Overloaded: they do not fit into the queue, or the worker is closed.
        """
        jobs = [_Job(transcript) for transcript in transcripts]
        with self._changed:
            self._drop_cancelled()
            if self._closing:
                raise Overloaded("expected a running service, got one that stops; try again.", 5)
            if len(self._jobs) + len(jobs) > self._limit:
                raise Overloaded(
                    f"expected room for {len(jobs)} more in the queue of {self._limit}, got "
                    f"{len(self._jobs)} waiting; try again later.",
                    self.retry_after(),
                )
            self._jobs.extend(jobs)
            self._changed.notify()
        return [job.future for job in jobs]

    def retry_after(self) -> int:
        """Seconds until the queue will be about empty, from 1 to 60."""
        return min(60, max(1, math.ceil(len(self._jobs) * self._pace)))

    def close(self, seconds: float | None = None) -> bool:
        """Take nothing more, evaluate what was taken, and stop.

        Args:
            seconds: to wait for it; None: as long as it takes.

        Returns:
            whether all was evaluated in that time.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _drop_cancelled(self) -> None:
        if any(job.future.cancelled() for job in self._jobs):
            left = [job for job in self._jobs if not job.future.cancelled()]
            self._jobs.clear()
            self._jobs.extend(left)

    def _run(self) -> None:
        while batch := self._take():
            started = time.perf_counter()
            try:
                outcomes = evaluate_each(self._evaluator, [job.transcript for job in batch])
            except BaseException as error:
                # SystemExit, say: the thread ends, and nobody must wait for it.
                _LOG.critical("the evaluator ended its thread: %s", describe(error))
                self._give_up(batch)
                return
            for job, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    job.future.set_exception(outcome)
                else:
                    job.future.set_result(outcome)
            seconds = time.perf_counter() - started
            self._pace += 0.2 * (seconds / len(batch) - self._pace)
            self._observe(seconds, len(batch))

    def _take(self) -> list[_Job]:
        """The next batch; empty where the worker is closed and has done all."""
        with self._changed:
            while True:
                batch: list[_Job] = []
                while self._jobs and len(batch) < self._batch_size:
                    job = self._jobs.popleft()
                    if job.future.set_running_or_notify_cancel():
                        batch.append(job)
                if batch or self._closing:
                    return batch
                self._changed.wait()

    def _give_up(self, batch: Sequence[_Job]) -> None:
        with self._changed:
            self._closing = True
            for job in batch:
                job.future.set_exception(RuntimeError("the evaluator's thread ended"))
            for job in self._jobs:
                job.future.cancel()
            self._jobs.clear()
