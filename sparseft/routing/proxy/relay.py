"""Between a client that may leave and an upstream that may break off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from sparseft.routing.proxy.answers import AttemptFailed, Events
from sparseft.routing.proxy.problems import ProxyProblem, error_content

__all__ = ["ENDS", "EventStream", "unless_left"]

Found = TypeVar("Found")
ENDS = ("done", "broken", "left")


async def unless_left(receive: Receive, work: Coroutine[Any, Any, Found]) -> Found:
    """What `work` gives; it is cancelled where the client leaves.

    Args:
        receive: of a request whose body has been read.

    Raises:
        ProxyProblem: the client left.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ProxyProblem("client_gone", "the client left")
    finally:
        await _ended(task, gone)


class EventStream(StreamingResponse):
    """Passes a stream on; where the client leaves, the upstream's call is ended.

    Once headers are sent nobody else can be asked: a stream that breaks off ends with an event that
    says so, which OpenAI's clients raise, and without [DONE].

    Args:
        headers: of the response.
        ended: called once at the end, with one of `ENDS`.
    """

    def __init__(
        self, events: Events, headers: Mapping[str, str], ended: Callable[[str], None]
    ) -> None:
        # Proxies on the way, nginx for one, collect streams otherwise.
        super().__init__(
            events, headers={**headers, "X-Accel-Buffering": "no"}, media_type="text/event-stream"
        )
        self._events = events
        self._ended = ended
        self._end = "left"  # until all has been handed to the server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all."""
        sending = asyncio.create_task(self._send(send))
        gone = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            try:
                await _ended(sending, gone)
                await self._events.close()
            finally:
                self._ended(self._end)

    async def _send(self, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        end = "done"
        try:
            async for part in self._events:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except AttemptFailed as failure:
            end = "broken"
            message = f"expected the rest of the stream, got none ({failure.reason}); ask again."
            said = json.dumps(error_content("upstreams_failed", message))
            event = f"data: {said}\n\n".encode()
            await send({"type": "http.response.body", "body": event, "more_body": True})
        except OSError:
            return  # what some servers raise on sending to nobody
        # The server may say that the client left as soon as it has the last byte.
        self._end = end
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
