"""The service under load: limits while reading, a bounded queue, batches, patience, its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.compliance.serving.cases import Keywords, Service, killed_at_last, serving, until

_HEAD = b"POST /v1/evaluations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def _raw(service: Service) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=20)
    connection.settimeout(20)
    return connection


def _all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_a_body_of_exactly_the_limit_is_read() -> None:
    body = json.dumps({"text": "hello"}).encode()
    with serving(Keywords(), max_bytes=len(body)) as service:
        assert service.post(body).status_code == 200
        answer = service.post(body + b" ")
        assert answer.status_code == 413 and answer.headers["Connection"] == "close"
        chunks = service.client.post("/v1/evaluations", content=iter([body, b" "]))
        assert chunks.status_code == 413
        assert service.post(body).status_code == 200


def test_an_endless_body_is_cut_off() -> None:
    with serving(Keywords(), max_bytes=10_000) as service, _raw(service) as connection:
        connection.sendall(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        sent = 0
        try:
            while sent < 2**30:
                connection.sendall(chunk)
                sent += 65536
        except (ConnectionError, TimeoutError):
            pass
        assert sent < 2**26, "far more was read than the limit and what is discarded"
        assert service.client.get("/healthz").status_code == 200


def test_a_length_that_is_announced_too_large_is_refused_before_it_comes() -> None:
    with serving(Keywords()) as service, _raw(service) as connection:
        started = time.monotonic()
        connection.sendall(_HEAD + b"Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n")
        answer = _all(connection)
        assert answer.startswith(b"HTTP/1.1 413 ") and b"too_large" in answer
        assert time.monotonic() - started < 10


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    with serving(Keywords(), body_seconds=0.3) as service, _raw(service) as connection:
        connection.sendall(_HEAD + b"Content-Length: 100\r\n\r\n{")
        answer = _all(connection)
        assert answer.startswith(b"HTTP/1.1 408 ") and b"body_timeout" in answer


def test_a_client_that_leaves_within_its_body_harms_nobody() -> None:
    with serving(Keywords()) as service:
        with _raw(service) as connection:
            connection.sendall(_HEAD + b"Content-Length: 100\r\n\r\n{")
        until(lambda: service.metric('sparseft_errors_total{kind="client_gone"}') == 1)
        assert service.post({"text": "hello"}).status_code == 200


def test_fifty_in_parallel_each_get_their_own_record() -> None:
    evaluator = Keywords(seconds=0.02)
    with serving(evaluator, batch_size=8) as service, ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(lambda n: service.post({"id": f"c{n}", "text": "word " * n}), range(1, 51))
        )
    assert [answer.status_code for answer in answers] == [200] * 50
    for number, answer in enumerate(answers, 1):
        assert answer.json()["id"] == f"c{number}"
        assert answer.json()["values"]["words"] == number
    sizes = [len(batch) for batch in evaluator.batches]
    assert sum(sizes) == 50 and max(sizes) <= 8
    assert len(sizes) < 50, "what waited was not taken together"
    assert evaluator.threads == {"sparseft-evaluator"}


def test_a_full_queue_refuses_at_once_and_recovers() -> None:
    gate = threading.Event()
    evaluator = Keywords(gate=gate)
    options = {"queue": 4, "max_transcripts": 4, "batch_size": 2}
    with serving(evaluator, **options) as service, ThreadPoolExecutor(8) as pool:
        first = pool.submit(service.post, {"text": "first"})
        until(lambda: evaluator.batches)
        waiting = [pool.submit(service.post, {"text": f"w{n}"}) for n in range(3)]
        until(lambda: service.metric("sparseft_waiting") == 3)
        pair = service.post([{"text": "a"}, {"text": "b"}])  # both or none
        assert pair.status_code == 503 and int(pair.headers["Retry-After"]) >= 1
        waiting.append(pool.submit(service.post, {"text": "last"}))
        until(lambda: service.metric("sparseft_waiting") == 4)
        started = time.monotonic()
        refused = service.post({"text": "too many"})
        assert refused.status_code == 503 and time.monotonic() - started < 5
        assert refused.json()["error"]["kind"] == "overloaded"
        assert service.client.get("/readyz").status_code == 503
        assert service.client.get("/healthz").status_code == 200
        gate.set()
        assert [each.result().status_code for each in (first, *waiting)] == [200] * 5
        assert service.post({"text": "later"}).status_code == 200
        assert service.client.get("/readyz").status_code == 200
    assert sum(map(len, evaluator.batches)) == 6


def test_too_many_bodies_at_once_are_refused() -> None:
    body = b'{"text": "two words"}'
    options = {"queue": 2, "max_transcripts": 2}
    with serving(Keywords(), **options) as service, contextlib.ExitStack() as stack:
        half = [stack.enter_context(_raw(service)) for _ in range(2)]
        for connection in half:
            head = _HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode()
            connection.sendall(head + body[:1])
        until(lambda: service.post({"text": "hello"}).status_code == 503)
        for connection in half:
            connection.sendall(body[1:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert service.post({"text": "hello"}).status_code == 200


def test_a_request_that_takes_too_long_is_given_up_and_leaves_the_queue() -> None:
    gate = threading.Event()
    evaluator = Keywords(gate=gate)
    with serving(evaluator, batch_size=1, wait_seconds=4.0) as service:
        with ThreadPoolExecutor(2) as pool:
            answers = list(
                pool.map(service.post, [{"id": "a", "text": "x"}, {"id": "b", "text": "y"}])
            )
        assert [answer.status_code for answer in answers] == [504, 504]
        assert answers[0].json()["error"]["kind"] == "timeout"
        gate.set()
        assert service.post({"id": "c", "text": "z"}).status_code == 200
    begun = [name for batch in evaluator.batches for name in batch]
    assert len(begun) == 2 and begun[1] == "c", "one was begun, the other taken out"


def test_what_a_client_waited_for_when_it_left_is_not_evaluated() -> None:
    gate = threading.Event()
    evaluator = Keywords(gate=gate)
    with serving(evaluator, batch_size=1) as service, ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.post, {"id": "first", "text": "x"})
        until(lambda: evaluator.batches)
        body = b'{"id": "left", "text": "y"}'
        with _raw(service) as connection:
            connection.sendall(_HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: service.metric("sparseft_waiting") == 1)
        until(lambda: service.metric('sparseft_errors_total{kind="client_gone"}') == 1)
        gate.set()
        assert first.result().status_code == 200
        assert service.post({"id": "next", "text": "z"}).status_code == 200
    assert evaluator.batches == [["first"], ["next"]]


def test_the_end_of_the_service_finishes_what_was_accepted() -> None:
    gate = threading.Event()
    evaluator = Keywords(gate=gate)
    with serving(evaluator, batch_size=2) as service, ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(service.post, {"text": f"w{n}"}) for n in range(6)]
        until(lambda: service.metric("sparseft_waiting") >= 4 and evaluator.batches)
        service.stop()

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", service.port), timeout=1).close()
            except OSError:
                return True
            return False

        until(refused)
        gate.set()
        assert [each.result().status_code for each in answers] == [200] * 6


def _count(address: str, name: str) -> float:
    text = httpx.get(f"{address}/metrics", trust_env=False, timeout=60).text
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


_SERVED = """
import sys, uvicorn
from tests.compliance.serving.cases import Keywords
from sparseft.compliance.serving.service import make_app
uvicorn.run(make_app(Keywords(seconds=3.0), batch_size=1), port=int(sys.argv[1]), log_config=None)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_sigterm_ends_the_process_after_its_requests(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with killed_at_last([sys.executable, "-c", _SERVED, str(port)]) as process:

        def ready() -> bool:
            try:
                return httpx.get(f"{address}/readyz", trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        until(ready, 120)

        def post(text: str) -> httpx.Response:
            call = {"text": text}
            return httpx.post(f"{address}/v1/evaluations", json=call, trust_env=False, timeout=60)

        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(post, text) for text in ("one", "two")]
            # One is evaluated, one waits.
            until(lambda: _count(address, "sparseft_waiting") == 1)
            process.send_signal(signal.SIGTERM)
            assert [answer.result().status_code for answer in answers] == [200, 200]
        process.wait(30)
