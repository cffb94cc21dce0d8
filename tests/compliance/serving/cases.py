"""A schema, an evaluator without a model, and a service on a real socket, for these tests."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from sparseft.compliance import Record, Transcript, apply_rules
from sparseft.compliance.schema import Schema, parse_schema
from sparseft.compliance.serving.service import make_app

SCHEMA = parse_schema(
    """
name: demo
title: 'A "demo" \\ of words'
critical: {field: verdict, alarm: [violation]}
fields:
  words: {kind: integer, description: said, minimum: 0, maximum: 9999999}
  greeted: {kind: boolean, description: <b>hello</b> was said}
  verdict: {kind: enum, description: the outcome, values: [compliant, violation]}
""",
    "demo.yaml",
)


class Keywords:
    """Reads the demo schema by keywords; `boom` fails, `refuse` gives an error record.

    Args:
        seconds: a batch takes.
        gate: an event that a batch waits for.
    """

    def __init__(
        self,
        schema: Schema = SCHEMA,
        seconds: float = 0.0,
        gate: threading.Event | None = None,
    ) -> None:
        self.schema = schema
        self.seconds = seconds
        self.gate = gate
        self.batches: list[list[str]] = []
        self.threads: set[str] = set()

    def evaluate(self, transcripts: Sequence[Transcript]) -> list[Record]:
        self.batches.append([each.id for each in transcripts])
        self.threads.add(threading.current_thread().name)
        if self.gate is not None:
            assert self.gate.wait(30)
        time.sleep(self.seconds)
        return [self._record(each) for each in transcripts]

    def _record(self, transcript: Transcript) -> Record:
        words = transcript.render().split()
        if "boom" in words:
            raise RuntimeError(f"cannot read {' '.join(words)}")
        if "refuse" in words:
            return Record(transcript.id, self.schema.name, {}, error="it was refused")
        said = {
            "words": len(words),
            "greeted": "hello" in words,
            "verdict": "violation" if "forbidden" in words else "compliant",
        }
        record = apply_rules(self.schema, transcript, said)
        review = ("it is odd",) if "odd" in words else ()
        return Record(record.transcript_id, record.schema, record.fields, review)


class Service:
    """An app that is served on a free port by a thread of its own."""

    def __init__(self, app: Any) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on")
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()
        until(lambda: self.server.started)
        self.client = self.new_client()

    def new_client(self) -> httpx.Client:
        limits = httpx.Limits(max_connections=200)
        address = f"http://127.0.0.1:{self.port}"
        return httpx.Client(base_url=address, trust_env=False, timeout=60, limits=limits)

    def post(self, content: Any, **headers: str) -> httpx.Response:
        """A transcript or a list, as JSON; bytes go as they are."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        given = {"Content-Type": "application/json", **headers}
        return self.client.post("/v1/evaluations", content=body, headers=given)

    def metric(self, line: str) -> float:
        """The value of a line of the metrics, which must be there once."""
        lines = self.client.get("/metrics").text.splitlines()
        (found,) = [each for each in lines if each.startswith(f"{line} ")]
        return float(found.removeprefix(line))

    def stop(self) -> None:
        """Ask it to end, as SIGTERM does; returns at once."""
        self.server.should_exit = True

    def join(self) -> None:
        self.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.client.close()
        self._socket.close()


@contextlib.contextmanager
def serving(evaluator: Any, **options: Any) -> Iterator[Service]:
    """A running service."""
    service = Service(make_app(evaluator, **options))
    try:
        yield service
    finally:
        service.join()


@contextlib.contextmanager
def killed_at_last(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive a test, however that ends."""
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


def until(ready: Any, seconds: float = 30.0) -> None:
    """Wait for a condition, or fail."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def write_lines(path: Path, *lines: Any) -> Path:
    """JSON lines; bytes go as they are."""
    content = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"".join(line + b"\n" for line in content))
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of an output, all of them whole."""
    text = path.read_text(encoding="utf-8")
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def quiet() -> None:
    """For scripts that tests start: nothing but the result on the standard output."""
    logging.disable(logging.CRITICAL)
