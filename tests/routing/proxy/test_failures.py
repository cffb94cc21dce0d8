"""Upstreams that fail: the other one answers, each reason is counted, nothing is lost."""

from __future__ import annotations

import socket
import time

import pytest

from tests.routing.proxy.cases import VARIABLE, Pair, routed, text_of
from tests.routing.proxy.scripted import Upstream, closing_server, forgetful_server

# Mode of the small upstream, and the reason that is counted.
_FAILURES = [
    ("500", "server_error"),
    ("503", "server_error"),
    ("429", "rate_limited"),
    ("429:60", "rate_limited"),
    ("401", "refused"),
    ("404", "refused"),
    ("302", "refused"),
    ("408", "timeout"),
    ("slow:30", "timeout"),
    ("hung", "timeout"),
    ("malformed", "malformed"),
    ("choiceless", "malformed"),
    ("error", "malformed"),
    ("cut", "connection"),
]


def _fell_back(pair: Pair, reason: str, stream: bool) -> None:
    answer = pair.ask("an easy one", stream=stream)
    assert answer.status_code == 200
    if stream:
        assert "large0" in answer.text and answer.text.endswith("data: [DONE]\n\n")
    else:
        assert text_of(answer) == "large"
    assert answer.headers["x-sparseft-route"] == "large"
    assert answer.headers["x-sparseft-fallback"] == "1"
    assert answer.headers["x-sparseft-score"] == "0"
    assert pair.fallbacks("small", reason) == 1
    assert pair.count("attempts_total", route="small", outcome=reason) == 1
    assert pair.count("attempts_total", route="large", outcome="ok") == 1
    assert pair.count("answered_total", route="large", fallback="1") == 1


@pytest.mark.parametrize(("mode", "reason"), _FAILURES)
def test_where_one_fails_the_other_answers(mode: str, reason: str) -> None:
    with routed(small=mode, of_small={"timeout": 0.4}) as pair:
        _fell_back(pair, reason, stream=False)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("500", "server_error"),
        ("slow:30", "timeout"),
        ("malformed", "malformed"),
        ("error", "malformed"),
        ("empty", "malformed"),
        ("hung", "timeout"),
        ("cut", "connection"),
    ],
)
def test_a_stream_that_does_not_begin_is_begun_by_the_other(mode: str, reason: str) -> None:
    with routed(small=mode, of_small={"timeout": 0.4}) as pair:
        _fell_back(pair, reason, stream=True)


def test_a_connection_that_is_closed_or_refused() -> None:
    with closing_server() as url, routed(of_small={"base_url": url}) as pair:
        _fell_back(pair, "connection", stream=False)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        with routed(of_small={"base_url": url}) as pair:
            _fell_back(pair, "connection", stream=True)


def test_an_answer_that_is_too_long_is_left() -> None:
    with routed(small=Upstream("x" * 5000), max_answer_bytes=2000) as pair:
        _fell_back(pair, "malformed", stream=False)


def test_the_large_one_falls_back_as_well() -> None:
    with routed(large="500") as pair:
        answer = pair.ask("hard")
        assert text_of(answer) == "small" and answer.headers["x-sparseft-fallback"] == "1"
        assert pair.fallbacks("large", "server_error") == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_mistake_of_the_client_is_answered_by_the_upstream(status: int) -> None:
    with routed(small=str(status), settings={"key_variable": VARIABLE}) as pair:
        answer = pair.ask("an easy one", stream=True)
        assert answer.status_code == status
        assert answer.json()["error"] == {"code": "their_code", "message": "no, Bearer <key>"}
        assert answer.headers["x-sparseft-fallback"] == "0" and not pair.large.bodies


def test_a_short_rate_limit_is_waited_for() -> None:
    small = Upstream("small", "429:0.2", "ok")
    with routed(small=small) as pair:
        began = time.monotonic()
        answer = pair.ask("an easy one")
        assert text_of(answer) == "small" and time.monotonic() - began >= 0.2
        assert answer.headers["x-sparseft-fallback"] == "0"
        assert pair.count("attempts_total", route="small", outcome="rate_limited") == 1
        assert pair.count("attempts_total", route="small", outcome="ok") == 1
        assert pair.fallbacks("small", "rate_limited") == 0


def test_a_short_rate_limit_is_not_waited_for_for_ever() -> None:
    with routed(small="429:0.1", rate_limit_retries=2) as pair:
        assert text_of(pair.ask("an easy one")) == "large"
        assert len(pair.small.bodies) == 3
        assert pair.fallbacks("small", "rate_limited") == 1


@pytest.mark.parametrize(
    ("small", "large", "status", "code"),
    [
        ("500", "malformed", 502, "upstreams_failed"),
        ("slow:30", "500", 502, "upstreams_failed"),
        ("slow:30", "slow:30", 504, "upstreams_timed_out"),
    ],
)
def test_where_both_fail_one_error_says_so(small: str, large: str, status: int, code: str) -> None:
    with routed(small, large, settings={"timeout": 0.3}) as pair:
        for stream in (False, True):
            answer = pair.ask("an easy one", stream=stream)
            assert answer.status_code == status
            error = answer.json()["error"]
            assert error["code"] == code and error["type"] == "server_error"
            assert "small-one" in error["message"] and "large-one" in error["message"]
            assert answer.headers["x-sparseft-fallback"] == "1"
        assert pair.count("errors_total", kind=code) == 2
        assert pair.count("inside") == 0


def test_both_at_their_rate_limits_say_when_to_come_back() -> None:
    with routed("429:30", "429:60") as pair:
        answer = pair.ask("an easy one")
        assert answer.status_code == 502 and answer.headers["Retry-After"] == "31"


def test_an_upstream_that_keeps_failing_gets_a_rest_and_is_tried_again() -> None:
    small = Upstream("small", *["500"] * 3, "ok")
    with routed(small=small, breaker_failures=2, breaker_seconds=0.5) as pair:
        for _ in range(5):
            answer = pair.ask("an easy one")
            assert text_of(answer) == "large" and answer.headers["x-sparseft-fallback"] == "1"
        assert len(small.bodies) == 2
        assert pair.fallbacks("small", "server_error") == 2
        assert pair.fallbacks("small", "circuit_open") == 3
        assert pair.count("small_circuit_open") == 1
        time.sleep(0.55)
        assert pair.proxy.client.get("/healthz").json()["circuits"]["small"] == "half_open"
        assert text_of(pair.ask("an easy one")) == "large"  # the trial fails
        assert text_of(pair.ask("an easy one")) == "large"
        assert len(small.bodies) == 3
        time.sleep(0.55)
        for _ in range(2):
            assert text_of(pair.ask("an easy one")) == "small"
        assert pair.count("small_circuit_open") == 0


def test_an_upstream_at_rest_is_asked_where_the_other_fails() -> None:
    small = Upstream("small", "500", "500", "ok")
    large = Upstream("large", "ok", "ok", "500")
    with routed(small, large, breaker_failures=2, breaker_seconds=60) as pair:
        assert [text_of(pair.ask("an easy one")) for _ in range(2)] == ["large"] * 2
        answer = pair.ask("an easy one")
        assert text_of(answer) == "small" and answer.headers["x-sparseft-fallback"] == "0"
        assert pair.fallbacks("small", "circuit_open") == 1
        assert pair.fallbacks("large", "server_error") == 1
        assert pair.count("small_circuit_open") == 0


def test_both_at_rest_are_still_asked() -> None:
    small = Upstream("small", "500", "ok")
    with routed(small, "500", breaker_failures=1, breaker_seconds=60) as pair:
        assert pair.ask("an easy one").status_code == 502
        assert pair.count("large_circuit_open") == 1
        assert text_of(pair.ask("an easy one")) == "small"


def test_an_idle_connection_that_the_upstream_closed_costs_nothing() -> None:
    with routed() as pair:
        assert text_of(pair.ask("an easy one")) == "small"
        time.sleep(1.4)  # the upstream's patience is 1 second, the proxy's own 2
        assert text_of(pair.ask("an easy one")) == "small"
        assert pair.count("attempts_total", route="small", outcome="ok") == 2


def test_a_connection_that_is_closed_when_it_is_used_again_costs_nothing() -> None:
    with forgetful_server() as (url, came), routed(of_small={"base_url": url}) as pair:
        for _ in range(2):
            answer = pair.ask("an easy one", "auto")
            assert text_of(answer) == "small" and answer.headers["x-sparseft-fallback"] == "0"
        assert came == [1, 2, 1]
        assert not pair.large.bodies
