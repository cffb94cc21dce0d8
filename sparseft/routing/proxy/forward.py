"""One request to the upstream it is meant for, and to the other where that fails."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sparseft.routing.proxy.answers import Answer, AttemptFailed
from sparseft.routing.proxy.breaker import Breaker
from sparseft.routing.proxy.call import Caller
from sparseft.routing.proxy.limits import Limits
from sparseft.routing.proxy.upstream import Side

__all__ = ["OPEN", "Choice", "Forwarded", "Forwarder", "Job", "NoAnswer"]

_LOG = logging.getLogger(__name__)
OPEN = "circuit_open"  # why a request is moved on without an attempt
_OTHER = {"small": "large", "large": "small"}


@dataclass(frozen=True)
class Choice:
    """Who is wanted.

    Attributes:
        side: small or large.
        score: of the router; None where it was not asked, or failed.
        forced: whether the client named the model: nobody else may answer then.
    """

    side: Side
    score: float | None = None
    forced: bool = False


@dataclass(frozen=True)
class Job:
    """What is sent.

    Attributes:
        body: of the client; its model is replaced.
        request_id: passed on.
        authorization: the client's header.
    """

    body: Mapping[str, Any]
    request_id: str
    authorization: str | None = field(default=None, repr=False)

    @property
    def stream(self) -> bool:
        """Whether a stream is asked for."""
        return self.body.get("stream") is True


@dataclass(frozen=True)
class Forwarded:
    """An answer with who gave it."""

    side: Side
    answer: Answer


class NoAnswer(Exception):
    """Nobody answered.

    Attributes:
        failures: (side, failure), in the order of the attempts.
    """

    def __init__(self, failures: list[tuple[Side, AttemptFailed]]) -> None:
        super().__init__("no upstream answered")
        self.failures = failures


class Forwarder:
    """Both upstreams with their breakers.

    The breakers only change the order: an upstream that rests is asked where the other one failed,
    or may not be asked, as a request is worth more than a rest.

    Args:
        callers: by side.
        count_attempt: called with side and outcome of every attempt: ok, or the reason.
        count_fallback: called with the side that is left and the reason, whenever a request moves
            on to the other.
    """

    def __init__(
        self,
        callers: Mapping[Side, Caller],
        limits: Limits,
        *,
        count_attempt: Callable[[Side, str], None],
        count_fallback: Callable[[Side, str], None],
    ) -> None:
        self._callers = callers
        self._limits = limits
        self._count_attempt = count_attempt
        self._count_fallback = count_fallback
        self.breakers = {
            side: Breaker(limits.breaker_failures, limits.breaker_seconds) for side in callers
        }

    async def forward(self, job: Job, choice: Choice, began: Callable[[], None]) -> Forwarded:
        """Ask until there is an answer.

        Args:
            began: called when the first upstream is about to be asked.

        Raises:
            NoAnswer: both failed, or the one that may be asked.
        """
        failures: list[tuple[Side, AttemptFailed]] = []
        sides = self._order(choice)
        contents = {side: self._content(job, side) for side in sides[:1]}
        began()
        for place, side in enumerate(sides):
            if side not in contents:
                contents[side] = self._content(job, side)
            try:
                return Forwarded(side, await self._patient(job, side, contents[side]))
            except AttemptFailed as failure:
                failures.append((side, failure))
                name = self._callers[side].upstream.name
                _LOG.warning("request %s: %s failed: %s", job.request_id, name, failure.reason)
                if place + 1 < len(sides):
                    self._count_fallback(side, failure.reason)
        raise NoAnswer(failures)

    def broke_off(self, side: Side) -> None:
        """Say that a stream of that upstream ended in its middle."""
        self.breakers[side].failed()

    def _order(self, choice: Choice) -> list[Side]:
        wanted, other = choice.side, _OTHER[choice.side]
        if choice.forced:
            self.breakers[wanted].admits()
            return [wanted]
        if not self.breakers[wanted].admits() and self.breakers[other].admits():
            self._count_fallback(wanted, OPEN)
            return [other, wanted]
        return [wanted, other]

    async def _patient(self, job: Job, side: Side, content: bytes) -> Answer:
        """Attempts at one upstream: more than one only where it says that it soon takes more."""
        breaker, retries = self.breakers[side], self._limits.rate_limit_retries
        try:
            while True:
                try:
                    answer = await self._callers[side].ask(
                        content,
                        stream=job.stream,
                        request_id=job.request_id,
                        authorization=job.authorization,
                    )
                except AttemptFailed as failure:
                    self._count_attempt(side, failure.reason)
                    wait = failure.retry_after
                    soon = wait is not None and wait <= self._limits.rate_limit_seconds
                    if failure.reason == "rate_limited" and soon and retries:
                        retries -= 1
                        await asyncio.sleep(wait or 0.0)
                        continue
                    breaker.failed()
                    raise
                self._count_attempt(side, "ok")
                breaker.succeeded()
                return answer
        except asyncio.CancelledError:
            breaker.gave_up()
            raise

    def _content(self, job: Job, side: Side) -> bytes:
        body = {**job.body, "model": self._callers[side].upstream.model}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
