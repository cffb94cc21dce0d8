"""What the proxy takes, how long it waits, and when it gives an upstream a rest."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from sparseft.errors import ConfigError

__all__ = ["Limits"]

_MAY_BE_ZERO = {"queue", "rate_limit_retries", "rate_limit_seconds"}


@dataclass(frozen=True)
class Limits:
    """Limits of one proxy; counts are whole numbers, times are in seconds.

    Attributes:
        max_bytes: of a request's body.
        max_answer_bytes: of an upstream's whole answer, or of one event of a stream.
        concurrency: requests under way at the same time, streams until their end.
        queue: further requests that may wait; more are refused with 503.
        queue_seconds: that a request waits at most; then 503.
        body_seconds: in which a request's body must arrive.
        batch_size: queries that the router is given at once.
        router_seconds: in which a query's score must be there; the large model is asked after that.
        breaker_failures: in a row, after which an upstream is only asked where the other fails.
        breaker_seconds: until it is tried again by one request.
        rate_limit_retries: at the same upstream after a 429 with a short Retry-After.
        rate_limit_seconds: the longest Retry-After that is short.

    Raises:
        ConfigError: one is out of its range.
    """

    max_bytes: int = 2_000_000
    max_answer_bytes: int = 32_000_000
    concurrency: int = 256
    queue: int = 256
    queue_seconds: float = 30.0
    body_seconds: float = 30.0
    batch_size: int = 64
    router_seconds: float = 5.0
    breaker_failures: int = 5
    breaker_seconds: float = 10.0
    rate_limit_retries: int = 1
    rate_limit_seconds: float = 2.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            lowest_is_zero = name in _MAY_BE_ZERO
            if not math.isfinite(value) or value < 0 or (value == 0 and not lowest_is_zero):
                wanted = "0 or more" if lowest_is_zero else "more than 0"
                raise ConfigError(f"expected {name} of {wanted}, got {value}; change it.")
