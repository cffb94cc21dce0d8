"""What an upstream gave: a whole answer, a stream that began well, or a reason why not."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

import httpx

from sparseft.compliance.serving.attempts import describe
from sparseft.routing.proxy.events import EventBuffer

__all__ = ["REASONS", "Answer", "AttemptFailed", "Events", "Whole", "as_attempt"]

_LOG = logging.getLogger(__name__)

# Why an attempt failed; metrics count by these words.
REASONS: Mapping[str, str] = {
    "connection": "no connection, or a broken one",
    "timeout": "no answer in time",
    "server_error": "a status of 500 or more",
    "rate_limited": "status 429",
    "refused": "a status that speaks against the proxy's settings: 3xx, 401 to 405",
    "malformed": "no chat completion, or a stream whose first event is none",
    "unexpected": "an error in the proxy; its log has more",
}


class AttemptFailed(Exception):
    """An upstream gave no answer that can be passed on.

    Attributes:
        reason: one of `REASONS`.
        retry_after: seconds that the upstream asks for, if it does.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = wait


@dataclass(frozen=True)
class Whole:
    """An answer that is there.

    Attributes:
        status: 2xx, or a 4xx that tells the client of a mistake in its request.
        content: the body as the upstream sent it.
        kind: its Content-Type.
    """

    status: int
    content: bytes
    kind: str


class Events:
    """A stream whose first event is there and good."""

    def __init__(
        self,
        response: httpx.Response,
        parts: AsyncIterator[bytes],
        first: bytes,
        buffer: EventBuffer,
        longest: int,
    ) -> None:
        self._response = response
        self._parts = parts
        self._first = first
        self._buffer = buffer
        self._longest = longest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Bytes as they arrive, cut after whole events: half of one is of no use to the client.

        Raises:
            AttemptFailed: the stream broke off.
        """
        yield self._first
        with as_attempt():
            async for part in self._parts:
                if ready := self._buffer.feed(part):
                    yield ready
                if len(self._buffer.rest) > self._longest:
                    raise AttemptFailed("malformed")
        if self._buffer.rest:
            yield self._buffer.rest

    async def close(self) -> None:
        """End the upstream's call."""
        await self._response.aclose()


Answer = Whole | Events


@contextlib.contextmanager
def as_attempt() -> Iterator[None]:
    """Whatever goes wrong with an upstream, as a reason."""
    try:
        yield
    except AttemptFailed:
        raise
    except (TimeoutError, httpx.TimeoutException) as error:
        raise AttemptFailed("timeout") from error
    except httpx.DecodingError as error:
        raise AttemptFailed("malformed") from error
    except (httpx.TransportError, OSError) as error:
        raise AttemptFailed("connection") from error
    except Exception as error:
        # The request still has the other upstream.
        _LOG.error("an upstream's call failed: %s", describe(error))
        raise AttemptFailed("unexpected") from error
