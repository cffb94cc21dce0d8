"""A chat-completions upstream on a real socket that misbehaves as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import uvicorn


class Upstream:
    """An ASGI application; answers with `mode` of each request in turn, after the last the last.

    Modes: ok; stream:N, N chunks 20 ms apart where a stream is asked for; slow:SECONDS, then ok;
    500, 400, 401, …: that status, and the key repeated; 429:SECONDS, with Retry-After; malformed:
    no JSON; choiceless; error: status 200 with an error in it; cut: breaks off in the body;
    late-cut: a stream that breaks off in its third event; comment: a stream that begins with
    comments; empty: a stream of [DONE] alone; endless: a stream without end; hung: headers, then
    nothing.
    """

    def __init__(self, name: str, *modes: str) -> None:
        self.name = name
        self.modes = modes or ("ok",)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.left = 0  # requests whose caller went away first
        self._lock = threading.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        content = b""
        while True:
            message = await receive()
            content += message.get("body", b"")
            if not message.get("more_body", False):
                break
        body = json.loads(content)
        with self._lock:
            self.bodies.append(body)
            self.headers.append({k.decode(): v.decode() for k, v in scope["headers"]})
            mode = self.modes[min(len(self.bodies), len(self.modes)) - 1]
        assert scope["path"] == "/v1/chat/completions"
        work = asyncio.create_task(self._respond(mode, body, send))
        gone = asyncio.create_task(receive())
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            self.left += 1
        gone.cancel()
        work.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def _respond(self, mode: str, body: dict[str, Any], send: Any) -> None:
        mode, _, detail = mode.partition(":")
        if mode == "slow":
            await asyncio.sleep(float(detail))
        if mode.isdigit():
            headers = {"retry-after": detail} if detail else {}
            error = {
                "message": f"no, {self.headers[-1].get('authorization')}",
                "code": "their_code",
            }
            said = json.dumps({"error": error}).encode()
            await _send(send, int(mode), said, headers=headers)
        elif mode == "malformed":
            await _send(send, 200, b"<html>no")
        elif mode == "choiceless":
            await _send(send, 200, b'{"choices": []}')
        elif mode == "error":
            await _send(send, 200, b'{"error": {"message": "no"}}')
        elif mode in ("cut", "hung"):
            await _send(send, 200, b'{"choices": [', more=True)
            if mode == "hung":
                await asyncio.Event().wait()
            raise Broken
        elif body.get("stream"):
            await self._stream(mode, int(detail or 3) if mode == "stream" else 3, send)
        else:
            await _send(send, 200, json.dumps(completion(self.name, body)).encode())

    async def _stream(self, mode: str, count: int, send: Any) -> None:
        kind = "text/event-stream"
        if mode == "comment":
            await _send(send, 200, b": hello\n\n: again\r\n\r\n", kind, more=True)
        elif mode == "empty":
            await _send(send, 200, b"data: [DONE]\n\n", kind)
            return
        else:
            await _send(send, 200, b"", kind, more=True)
        number = 0
        while number < count or mode == "endless":
            event = event_of(self.name, number)
            cut = mode == "late-cut" and number == 2
            await _more(send, event[:20] if cut else event)
            if cut:
                raise Broken
            number += 1
            if mode in ("stream", "endless"):
                await asyncio.sleep(0.02)
        await _more(send, b"data: [DONE]\n\n", more=False)


class Broken(Exception):
    """Makes uvicorn close the connection in the middle of a body."""


def completion(text: str, body: dict[str, Any]) -> dict[str, Any]:
    """A response; its id is what the user said."""
    said = body["messages"][-1]["content"]
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {"id": said, "object": "chat.completion", "choices": [choice]}


def event_of(text: str, number: int) -> bytes:
    """A chunk of a stream."""
    choice = {"index": 0, "delta": {"content": f"{text}{number}"}, "finish_reason": None}
    content = {"id": "1", "object": "chat.completion.chunk", "choices": [choice]}
    return f"data: {json.dumps(content)}\n\n".encode()


class Served:
    """An application that is served on a free port by a thread of its own."""

    def __init__(self, app: Any) -> None:
        # With the protocol said, asyncio switches Nagle's algorithm off: 40 ms an answer otherwise.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on",
            backlog=512,
            timeout_keep_alive=1,
        )
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()
        until(lambda: self.server.started or not self._thread.is_alive())
        assert self.server.started
        address = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=address, trust_env=False, timeout=60, verify=False)

    def metric(self, line: str) -> float:
        """The value of a line of the metrics, which must be there once."""
        lines = self.client.get("/metrics").text.splitlines()
        (found,) = [each for each in lines if each.startswith(f"{line} ")]
        return float(found.removeprefix(line))

    def stop(self) -> None:
        """Ask it to end, as SIGTERM does; returns at once."""
        self.client.close()
        self.server.should_exit = True

    def join(self) -> None:
        self.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._socket.close()


def until(ready: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a condition, or fail."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@contextlib.contextmanager
def serving(*apps: Any) -> Iterator[list[Served]]:
    """Applications that run, and end in the reverse order."""
    served: list[Served] = []
    try:
        for app in apps:
            served.append(Served(app))
        yield served
    finally:
        for each in served:
            each.stop()
        for each in reversed(served):
            each.join()


@contextlib.contextmanager
def closing_server() -> Iterator[str]:
    """A server that reads a request and closes the connection; its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(65536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        ended.set()
        with contextlib.suppress(OSError):
            socket.create_connection(server.getsockname(), timeout=1).close()
        until(lambda: not thread.is_alive())


@contextlib.contextmanager
def forgetful_server() -> Iterator[tuple[str, list[int]]]:
    """A server that closes a connection on its second request; its base URL, and what came.

    Of each request there is the number that it had on its connection, from 1.
    """
    came: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        _answer_once(connection, came)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1", came
        server.shutdown(socket.SHUT_RDWR)
        until(lambda: not thread.is_alive())


def _answer_once(connection: socket.socket, came: list[int]) -> None:
    for number in (1, 2):
        content = b""
        while b"}]}" not in content.replace(b" ", b""):
            part = connection.recv(65536)
            if not part:
                return
            content += part
        came.append(number)
        if number == 1:
            body = json.dumps(completion("small", {"messages": [{"content": ""}]})).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)


async def _send(
    send: Any,
    status: int,
    body: bytes,
    kind: str = "application/json",
    headers: dict[str, str] | None = None,
    more: bool = False,
) -> None:
    every = {"content-type": kind, **(headers or {})}
    raw = [(k.encode(), v.encode()) for k, v in every.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await _more(send, body, more)


async def _more(send: Any, body: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
