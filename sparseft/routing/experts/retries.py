"""When to ask again: exponential back-off with jitter, and what the server itself asks for."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from sparseft.errors import ConfigError

__all__ = ["RetryPolicy", "retry_after"]


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and how long to wait in between.

    Waits double, and half of each is drawn, so that callers who failed together do not come back
    together ("equal jitter" of Brooker, Exponential Backoff and Jitter, AWS Architecture Blog
    2015).

    Attributes:
        attempts: of one call, the first included.
        first: seconds, the longest wait after the first failure.
        longest: seconds, to which waits grow.
        longest_asked: seconds of a server's Retry-After that are honoured; more is cut.

    Raises:
        ConfigError: fewer than one attempt, or a wait that is negative or not finite.
    """

    attempts: int = 4
    first: float = 0.5
    longest: float = 30.0
    longest_asked: float = 60.0

    def __post_init__(self) -> None:
        waits = (self.first, self.longest, self.longest_asked)
        if self.attempts < 1 or not all(math.isfinite(wait) and wait >= 0 for wait in waits):
            raise ConfigError(
                f"expected 1 or more attempts and waits of 0 or more seconds, got {self}; change "
                "them."
            )

    def wait(self, failures: int, asked: float | None, rng: random.Random) -> float:
        """Seconds before the next attempt.

        Args:
            failures: so far, from 1.
            asked: what the server asks for, see `retry_after`.
            rng: draws the jitter.
        """
        ceiling = min(self.longest, self.first * 2.0 ** min(failures - 1, 60))
        return max(ceiling * rng.uniform(0.5, 1.0), min(asked or 0.0, self.longest_asked))


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, section 10.2.3): a number or a date.

    Returns:
        0 or more; None where the header is absent or unreadable.
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except ValueError:
            return None
        moment = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None
