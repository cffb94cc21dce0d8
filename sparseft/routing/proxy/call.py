"""One upstream: its connections, its key, and one attempt at an answer."""

from __future__ import annotations

import asyncio
import logging

import httpx

from sparseft.routing.experts.keys import read_key
from sparseft.routing.experts.retries import retry_after
from sparseft.routing.proxy.answers import Answer, AttemptFailed, Events, Whole, as_attempt
from sparseft.routing.proxy.events import EventBuffer, first_data, is_chunk, is_completion
from sparseft.routing.proxy.lines import Lines
from sparseft.routing.proxy.upstream import Upstream

__all__ = ["Caller"]

_LOG = logging.getLogger(__name__)

_REFUSED = frozenset(range(300, 400)) | {401, 402, 403, 404, 405}
_IDLE = 256  # connections kept
_SECRET = 12  # characters; a shorter key is a placeholder such as "none", and a word of answers


class Caller:
    """An upstream with its connections.

    Args:
        longest: bytes of a whole answer or of one event.

    Raises:
        ConfigError: its key is not in the environment.
    """

    def __init__(self, upstream: Upstream, longest: int) -> None:
        self.upstream = upstream
        self._longest = longest
        self._key = None if upstream.key_variable is None else read_key(upstream.key_variable)
        self._lines: Lines | None = None

    def open(self) -> None:
        """Make room for connections; they belong to the running event loop."""
        self._lines = Lines(self.upstream.url, _IDLE)

    async def close(self) -> None:
        """Close the connections."""
        if self._lines is not None:
            await self._lines.aclose()
            self._lines = None

    async def ask(
        self, content: bytes, *, stream: bool, request_id: str, authorization: str | None
    ) -> Answer:
        """Send one request.

        Args:
            content: the body.
            stream: whether it asks for a stream.
            authorization: the client's header, passed on only where the upstream's settings say so.

        Raises:
            AttemptFailed: see there.
        """
        if self._lines is None:
            raise RuntimeError("expected an open caller, got a closed one; open it first.")
        settings = self.upstream
        times = httpx.Timeout(
            connect=settings.connect_timeout,
            read=settings.idle_timeout if stream else settings.timeout,
            write=settings.timeout,
            pool=None,
        )
        headers = self._headers(stream, request_id, authorization)
        with as_attempt():
            # httpx's times are of silence; a server that sends a byte now and then is cut here.
            async with asyncio.timeout(settings.timeout):
                request = httpx.Request(
                    "POST",
                    settings.url,
                    content=content,
                    headers=headers,
                    extensions={"timeout": times.as_dict()},
                )
                # The transport itself: a client would keep cookies of one request for the next.
                response = await self._lines.handle_async_request(request)
                kept = False
                try:
                    answer = await self._judged(response, stream)
                    kept = isinstance(answer, Events)
                    return answer
                finally:
                    if not kept:
                        await response.aclose()

    def _headers(self, stream: bool, request_id: str, authorization: str | None) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if stream else "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "sparseft",
            "X-Request-ID": request_id,
        }
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        elif self.upstream.forward_authorization and authorization is not None:
            headers["Authorization"] = authorization
        return headers

    async def _judged(self, response: httpx.Response, stream: bool) -> Answer:
        status = response.status_code
        if status >= 500:
            raise AttemptFailed("server_error", retry_after(response.headers.get("retry-after")))
        if status == 429:
            raise AttemptFailed("rate_limited", retry_after(response.headers.get("retry-after")))
        if status == 408:
            raise AttemptFailed("timeout")
        own_key = not self.upstream.forward_authorization
        if status in _REFUSED and (own_key or status not in (401, 403)):
            _LOG.warning(
                "upstream %s answered %d: check its base_url, model and key",
                self.upstream.name,
                status,
            )
            raise AttemptFailed("refused")
        if status < 400 and stream:
            return await self._events(response)
        content = await self._whole(response)
        if status < 400 and not is_completion(content):
            raise AttemptFailed("malformed")
        if status >= 400 and self._key is not None and len(self._key) >= _SECRET:
            content = content.replace(self._key.encode(), b"<key>")
        return Whole(status, content, response.headers.get("content-type", "application/json"))

    async def _whole(self, response: httpx.Response) -> bytes:
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self._longest:
                raise AttemptFailed("malformed")
            parts.append(part)
        return b"".join(parts)

    async def _events(self, response: httpx.Response) -> Events:
        buffer, ready = EventBuffer(), b""
        parts = response.aiter_bytes()
        async for part in parts:
            ready += buffer.feed(part)
            data = first_data(ready)
            if data is not None:
                if not is_chunk(data):
                    break
                return Events(response, parts, ready, buffer, self._longest)
            if len(ready) + len(buffer.rest) > self._longest:
                break
        raise AttemptFailed("malformed")
