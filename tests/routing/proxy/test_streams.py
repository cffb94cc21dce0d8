"""Streams: passed on as they arrive, ended with the client, broken off in the open."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from tests.routing.proxy.cases import Pair, request, routed
from tests.routing.proxy.scripted import event_of, until


def _open(pair: Pair, text: str = "an easy one") -> httpx.Request:
    body = request(text, stream=True)
    return pair.proxy.client.build_request("POST", "/v1/chat/completions", json=body)


def test_a_stream_is_passed_on_as_it_is() -> None:
    with routed(small="stream:5") as pair:
        answer = pair.ask("an easy one", stream=True)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-sparseft-route"] == "small"
        assert float(answer.headers["x-sparseft-overhead-ms"]) > 0
        events = b"".join(event_of("small", n) for n in range(5))
        assert answer.content == events + b"data: [DONE]\n\n"
        assert pair.small.bodies[0]["stream"] is True
        until(lambda: pair.count("streams_total", route="small", end="done") == 1)
        assert pair.count("inside") == 0


def test_events_come_while_the_stream_goes_on() -> None:
    with routed(small="stream:50") as pair:
        arrived = []
        response = pair.proxy.client.send(_open(pair), stream=True)
        for _ in response.iter_raw():
            arrived.append(time.monotonic())
        response.close()
        assert len(arrived) > 10, "events were collected"
        assert arrived[-1] - arrived[0] > 0.5


def test_comments_before_the_first_event_are_passed_on() -> None:
    with routed(small="comment") as pair:
        answer = pair.ask("an easy one", stream=True)
        assert answer.content.startswith(b": hello\n\n: again\r\n\r\ndata: {")
        assert answer.headers["x-sparseft-fallback"] == "0"


def test_a_stream_that_breaks_off_ends_with_an_error() -> None:
    with routed(small="late-cut", breaker_failures=1) as pair:
        answer = pair.ask("an easy one", stream=True)
        events = answer.text.split("\n\n")
        assert events[-1] == "" and len(events) == 4
        assert [json.loads(e.removeprefix("data: "))["choices"] for e in events[:2]]
        error = json.loads(events[2].removeprefix("data: "))["error"]
        assert error["code"] == "upstreams_failed"
        assert "[DONE]" not in answer.text
        until(lambda: pair.count("streams_total", route="small", end="broken") == 1)
        assert pair.count("small_circuit_open") == 1


def test_a_stream_that_falls_silent_is_ended() -> None:
    with routed(small="stream:3", settings={"idle_timeout": 0.01}) as pair:  # chunks take 0.02
        answer = pair.ask("an easy one", stream=True)
        assert answer.text.startswith("data: ") and "(timeout)" in answer.text
        until(lambda: pair.count("streams_total", route="small", end="broken") == 1)


def test_a_client_that_leaves_a_stream_ends_the_upstreams_call() -> None:
    with routed(small="endless") as pair:
        response = pair.proxy.client.send(_open(pair), stream=True)
        parts = response.iter_raw()
        next(parts)
        assert pair.count("inside") == 1
        response.close()
        until(lambda: pair.small.left == 1, 5)
        until(lambda: pair.count("streams_total", route="small", end="left") == 1, 5)
        assert pair.count("inside") == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_an_answer_ends_the_upstreams_call(stream: bool) -> None:
    with routed(small="slow:30") as pair:
        with pytest.raises(httpx.ReadTimeout):
            pair.proxy.client.post("/v1/chat/completions", json=request(stream=stream), timeout=0.3)
        until(lambda: pair.small.left == 1, 5)
        until(lambda: pair.count("errors_total", kind="client_gone") == 1, 5)
        assert pair.count("inside") == 0 and not pair.large.bodies
