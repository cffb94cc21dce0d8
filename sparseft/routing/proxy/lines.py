"""Connections to one upstream, each lent to one request at a time.

httpx's own pool looks at all of its connections whenever one is taken or given back, which costs
more than all the rest of a request where 200 are under way; a stack of idle connections costs the
same for any number.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

__all__ = ["Lines"]

# Seconds; servers close idle connections after 5 or so, and a request must not meet that moment.
_KEEP_ALIVE = 2.0
_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEEP_ALIVE)


class Lines(httpx.AsyncBaseTransport):
    """Lends connections, the last one used first. All methods belong to one event loop.

    A proxy that the environment names (HTTPS_PROXY and so on) is gone through, as httpx does.

    Args:
        url: of the upstream.
        idle: connections that are kept.
    """

    def __init__(self, url: str, idle: int) -> None:
        self._limit = idle
        self._idle: list[httpx.AsyncHTTPTransport] = []
        self._proxy = _proxy_of(url)
        # Made once, as it reads all certificates; without TLS there is nothing to verify.
        tls = self._proxy is not None or urlsplit(url).scheme == "https"
        self._secure: ssl.SSLContext | bool = httpx.create_ssl_context() if tls else False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its connection comes back when the response has been read and closed.

        A server may close an idle connection at the moment that it is used again. A request that
        finds it closed before any answer is sent once more, over a new one: asking for a completion
        changes nothing (RFC 9112, section 9.3.1).
        """
        if self._idle:
            try:
                return await self._sent(request, self._idle.pop())
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                pass
        return await self._sent(request, self._new())

    async def aclose(self) -> None:
        """Close the idle ones."""
        while self._idle:
            await self._idle.pop().aclose()

    async def take_back(self, line: httpx.AsyncHTTPTransport, whole: bool) -> None:
        """Keep a connection for the next request, if its last response was read to the end."""
        if whole and len(self._idle) < self._limit:
            self._idle.append(line)
        else:
            await line.aclose()

    async def _sent(self, request: httpx.Request, line: httpx.AsyncHTTPTransport) -> httpx.Response:
        try:
            response = await line.handle_async_request(request)
        except BaseException:
            await line.aclose()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Lent(response.stream, line, self)
        response.request = request
        return response

    def _new(self) -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(
            verify=self._secure, limits=_ONE, proxy=self._proxy, trust_env=False
        )


class _Lent(httpx.AsyncByteStream):
    """A response's bytes, with the connection that they come from."""

    def __init__(
        self, stream: httpx.AsyncByteStream, line: httpx.AsyncHTTPTransport, lines: Lines
    ) -> None:
        self._stream = stream
        self._line = line
        self._lines = lines
        self._whole = False
        self._back = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part
        self._whole = True

    async def aclose(self) -> None:
        if self._back:
            return
        self._back = True
        try:
            await self._stream.aclose()
        except BaseException:
            self._whole = False
            raise
        finally:
            await self._lines.take_back(self._line, self._whole)


def _proxy_of(url: str) -> str | None:
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    found = getproxies()
    return found.get(parts.scheme) or found.get("all")
