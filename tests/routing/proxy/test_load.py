"""The proxy under load: nothing is lost, what is full says so, what is counted is right."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.routing.proxy.cases import Pair, Words, request, routed, text_of
from tests.routing.proxy.overhead import measure, sentences
from tests.routing.proxy.scripted import until

_REQUESTS = 200


def _ask_all(pair: Pair, texts: list[str], stream: bool) -> list[httpx.Response]:
    async def run() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        url = f"http://127.0.0.1:{pair.proxy.port}/v1/chat/completions"
        async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as client:
            bodies = [request(text, stream=stream) for text in texts]
            return await asyncio.gather(*(client.post(url, json=body) for body in bodies))

    return asyncio.run(run())


def _timeout(mode: str) -> dict[str, float]:
    # All of this runs in one process: only who is slow on purpose may be late.
    return {"timeout": 0.5 if mode.startswith("slow") else 60.0}


@pytest.mark.parametrize("breaker", [True, False], ids=["breaker", "no-breaker"])
@pytest.mark.parametrize(
    ("mode", "reason"),
    [("500", "server_error"), ("slow:30", "timeout"), ("malformed", "malformed")],
)
def test_no_request_is_lost_where_an_upstream_fails(mode: str, reason: str, breaker: bool) -> None:
    texts = [f"{('easy', 'hard')[n % 2]} {n}" for n in range(_REQUESTS)]
    limits = {"concurrency": 100, "queue": 200, "breaker_failures": 5 if breaker else 10_000}
    with routed(small=mode, of_small=_timeout(mode), **limits) as pair:
        answers = _ask_all(pair, texts, stream=False)
        assert [answer.status_code for answer in answers] == [200] * _REQUESTS
        assert [answer.json()["id"] for answer in answers] == texts, "each has its own answer"
        assert {text_of(answer) for answer in answers} == {"large"}
        flags = [answer.headers["x-sparseft-fallback"] for answer in answers]
        assert flags == ["1", "0"] * (_REQUESTS // 2)
        failed = pair.fallbacks("small", reason)
        skipped = pair.fallbacks("small", "circuit_open")
        assert failed + skipped == _REQUESTS / 2
        assert failed == pair.count("attempts_total", route="small", outcome=reason)
        assert skipped > 0 if breaker else skipped == 0
        assert pair.count("attempts_total", route="large", outcome="ok") == _REQUESTS
        assert pair.count("answered_total", route="large", fallback="1") == _REQUESTS / 2
        assert pair.count("overhead_seconds_count") == _REQUESTS
        assert pair.count("inside") == 0
        assert sum(map(len, pair.router.batches)) == _REQUESTS + 1
        assert len(pair.router.batches) < _REQUESTS / 2, "what waited was not scored together"


@pytest.mark.parametrize("mode", ["500", "slow:30", "empty"])
def test_no_stream_is_lost_where_an_upstream_fails(mode: str) -> None:
    texts = [f"{('easy', 'hard')[n % 2]} {n}" for n in range(100)]
    with routed(small=mode, of_small=_timeout(mode)) as pair:
        answers = _ask_all(pair, texts, stream=True)
        assert [answer.status_code for answer in answers] == [200] * 100
        for answer in answers:
            events = answer.text.split("\n\n")
            assert len(events) == 5 and events[3:] == ["data: [DONE]", ""]
            said = [json.loads(event.removeprefix("data: ")) for event in events[:3]]
            assert [e["choices"][0]["delta"]["content"] for e in said] == [
                "large0",
                "large1",
                "large2",
            ]
        assert [a.headers["x-sparseft-fallback"] for a in answers] == ["1", "0"] * 50
        until(lambda: pair.count("streams_total", route="large", end="done") == 100)
        assert pair.count("inside") == 0


def test_what_is_full_says_so_and_recovers() -> None:
    gate = threading.Event()
    with (
        routed(router=Words(gate=gate), concurrency=2, queue=2, router_seconds=30) as pair,
        ThreadPoolExecutor(4) as pool,
    ):
        inside = [pool.submit(pair.ask, f"easy {n}") for n in range(4)]
        until(lambda: pair.count("inside") == 4)
        refused = pair.ask("too many")
        assert refused.status_code == 503 and int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["error"]["code"] == "overloaded"
        gate.set()
        assert [text_of(each.result()) for each in inside] == ["small"] * 4
        assert text_of(pair.ask("later")) == "small"
        assert pair.count("queue_seconds_count") == 5


def test_who_waits_too_long_is_told() -> None:
    gate = threading.Event()
    limits = {"concurrency": 1, "queue": 1, "queue_seconds": 0.2, "router_seconds": 30}
    with routed(router=Words(gate=gate), **limits) as pair, ThreadPoolExecutor(1) as pool:
        first = pool.submit(pair.ask, "easy")
        until(lambda: pair.count("inside") == 1)
        assert pair.ask("second").status_code == 503
        gate.set()
        assert text_of(first.result()) == "small"
        assert pair.count("inside") == 0


def test_a_stream_keeps_its_place_until_its_end() -> None:
    with routed(small="endless", concurrency=1, queue=0) as pair:
        body = request(stream=True)
        asked = pair.proxy.client.build_request("POST", "/v1/chat/completions", json=body)
        response = pair.proxy.client.send(asked, stream=True)
        parts = response.iter_raw()
        next(parts)
        assert pair.ask("hard").status_code == 503
        response.close()
        until(lambda: pair.count("inside") == 0, 5)
        assert text_of(pair.ask("hard")) == "large"


def test_the_overhead_is_small() -> None:
    with routed() as pair:
        url = f"http://127.0.0.1:{pair.proxy.port}"
        found = measure(url, sentences(100, seed=1), concurrency=4)
        assert (found.requests, found.lost) == (100, 0)
        # Client, proxy and upstreams share one process here; `overhead.py` has the figures.
        assert found.p95 < 100
