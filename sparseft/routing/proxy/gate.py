"""How many requests are under way, how many wait, and when there is no room for more."""

from __future__ import annotations

import asyncio
import math
import time

__all__ = ["Full", "Gate", "Ticket"]


class Full(Exception):
    """There is no room.

    Attributes:
        seconds: after which a new try makes sense.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__("no room")
        self.seconds = seconds


class Ticket:
    """One request's place; to be given back, whatever happens."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._since: float | None = None
        self._back = False

    async def start(self, seconds: float) -> float:
        """Wait for a turn, first come first served.

        Returns:
            seconds that it took.

        Raises:
            Full: it took longer than `seconds`.
        """
        began = time.perf_counter()
        try:
            async with asyncio.timeout(seconds):
                await self._gate.turns.acquire()
        except TimeoutError as error:
            raise Full(self._gate.retry_after()) from error
        self._since = time.perf_counter()
        return self._since - began

    def give_back(self) -> None:
        """Make room; more than once is once."""
        if self._back:
            return
        self._back = True
        self._gate.inside -= 1
        if self._since is not None:
            self._gate.turns.release()
            self._gate.learn(time.perf_counter() - self._since)


class Gate:
    """Lets a number of requests in, and a further number wait.

    Args:
        concurrency: requests under way.
        queue: that wait beside them.
    """

    def __init__(self, concurrency: int, queue: int) -> None:
        self._concurrency = concurrency
        self._room = concurrency + queue
        self._pace = 1.0  # seconds of a request, a running mean
        self.turns = asyncio.Semaphore(concurrency)
        self.inside = 0

    def enter(self) -> Ticket:
        """A place for one request.

        Raises:
            Full: there is none.
        """
        if self.inside >= self._room:
            raise Full(self.retry_after())
        self.inside += 1
        return Ticket(self)

    def retry_after(self) -> int:
        """Seconds until those inside will be about done, from 1 to 60."""
        return min(60, max(1, math.ceil(self.inside * self._pace / self._concurrency)))

    def learn(self, seconds: float) -> None:
        """Remember how long a request took."""
        self._pace += 0.2 * (seconds - self._pace)
