"""A circuit breaker: an upstream that keeps failing gets a rest, then one request tries it."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Breaker"]


class Breaker:
    """Counts an upstream's failures in a row (Nygard, Release It!, 2007).

    Closed, it admits every request; after so many failures in a row it is open and admits none;
    once the rest is over it is half open and admits one at a time, whose end decides. Not safe for
    threads: all belongs to one event loop.

    Args:
        failures: in a row that open it.
        seconds: of rest.
        clock: seconds that only grow.
    """

    def __init__(
        self, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._seconds = seconds
        self._clock = clock
        self._failures = 0
        self._opened: float | None = None
        self._probing = False

    @property
    def state(self) -> str:
        """closed, open or half_open."""
        if self._opened is None:
            return "closed"
        return "half_open" if self._rested() else "open"

    def admits(self) -> bool:
        """Whether to ask now. Who was admitted says how it ended: one of the three below."""
        if self._opened is None:
            return True
        if self._probing or not self._rested():
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """It answered."""
        self._failures, self._opened, self._probing = 0, None, False

    def failed(self) -> None:
        """It did not. Those that were under way when it opened do not prolong its rest."""
        self._failures += 1
        self._probing = False
        if self._failures >= self._limit and (self._opened is None or self._rested()):
            self._opened = self._clock()

    def gave_up(self) -> None:
        """The request ended without an answer for a reason of its own; another may try."""
        self._probing = False

    def _rested(self) -> bool:
        return self._opened is not None and self._clock() - self._opened >= self._seconds
