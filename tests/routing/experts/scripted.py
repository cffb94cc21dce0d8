"""A chat-completions server on a real socket that misbehaves as it is told."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], str]


class ScriptedServer:
    """Answers with `mode` of each request in turn; after the last, the last again.

    Modes: ok; ok:TEXT, that answer; silent, no answer ever; drip, a byte now and then; slow, after
    0.2 s; 500; 429:SECONDS; 401, which repeats the key; quota; garbage, no JSON; choiceless;
    closed; cut, within the body; refuses-logprobs, unless they are not asked for; bare, without
    usage and log-probabilities.
    """

    def __init__(self, *modes: str, answer: Answer = lambda body: "{}") -> None:
        self.modes: Sequence[str] = modes or ("ok",)
        self.answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.most_at_once = 0
        self.ended = threading.Event()
        self._at_once = 0
        self._lock = threading.Lock()

    def take(self, body: dict[str, Any], key: str) -> str:
        """The mode of the next request."""
        with self._lock:
            self.bodies.append(body)
            self.keys.append(key)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            return self.modes[min(len(self.bodies), len(self.modes)) - 1]

    def done(self) -> None:
        with self._lock:
            self._at_once -= 1

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve in a thread; the base URL."""
        handler = type("Handler", (_Handler,), {"script": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            self.ended.set()
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    script: ScriptedServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        mode, _, detail = self.script.take(body, key).partition(":")
        try:
            with contextlib.suppress(OSError):
                self._respond(mode, detail, body, key)
        finally:
            self.script.done()

    def _respond(self, mode: str, detail: str, body: dict[str, Any], key: str) -> None:
        if mode == "silent":
            self.script.ended.wait()
        elif mode == "drip":
            self._send_headers(200, 1000)
            while not self.script.ended.wait(0.05):
                self.wfile.write(b" ")
        elif mode in ("closed", "cut"):
            if mode == "cut":
                self._send_headers(200, 1000)
                self.wfile.write(b'{"choices": [')
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif mode in ("500", "429"):
            headers = {"Retry-After": detail} if detail else {}
            self._send(int(mode), b'{"error": {"message": "busy"}}', headers)
        elif mode == "quota":
            error = {"message": "no money left", "code": "insufficient_quota"}
            self._send(429, json.dumps({"error": error}).encode())
        elif mode == "401":
            said = {"error": {"message": "x" * 280 + f"Incorrect API key provided: {key}"}}
            self._send(401, json.dumps(said).encode())
        elif mode == "garbage":
            self._send(200, f"<html>{key}</html>".encode())
        elif mode == "choiceless":
            self._send(200, b'{"choices": []}')
        elif mode == "refuses-logprobs" and "logprobs" in body:
            self._send(400, b'{"error": {"message": "logprobs is not supported"}}')
        else:
            if mode == "slow":
                self.script.ended.wait(0.2)
            text = detail if mode == "ok" and detail else self.script.answer(body)
            self._send(200, json.dumps(completion(text, bare=mode == "bare")).encode())

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self._send_headers(status, len(content), headers)
        self.wfile.write(content)

    def _send_headers(
        self, status: int, length: int, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()


def completion(text: str, bare: bool = False) -> dict[str, Any]:
    """A response of 100 prompt tokens and 10 answer tokens, mean log-probability -0.5."""
    content = [{"token": "a", "logprob": -0.25}, {"token": "b", "logprob": -0.75}]
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant"}}
    choice["message"]["content"] = text  # type: ignore[index]
    if bare:
        return {"choices": [choice]}
    return {
        "id": "1",
        "object": "chat.completion",
        "choices": [{**choice, "logprobs": {"content": content}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }
