"""Who is asked, with what, and what the answer says about it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from sparseft.errors import ConfigError
from sparseft.routing.proxy import Upstream, proxy_app
from sparseft.routing.routers.simple import Cascade
from tests.routing.proxy.cases import KEY, VARIABLE, Words, routed, text_of

_URL = "http://127.0.0.1:1/v1"


def test_each_request_goes_where_the_router_says() -> None:
    with routed() as pair:
        easy, hard = pair.ask("an easy one", temperature=0), pair.ask("a hard one")
        assert (text_of(easy), text_of(hard)) == ("small", "large")
        assert easy.headers["x-sparseft-route"] == "small"
        assert hard.headers["x-sparseft-route"] == "large"
        assert (easy.headers["x-sparseft-score"], hard.headers["x-sparseft-score"]) == ("0", "1")
        assert easy.headers["x-sparseft-fallback"] == "0"
        assert float(easy.headers["x-sparseft-overhead-ms"]) > 0
        assert pair.small.bodies[0] == {
            "model": "small-model",
            "messages": [{"role": "user", "content": "an easy one"}],
            "temperature": 0,
        }
        assert pair.large.bodies[0]["model"] == "large-model"
        assert pair.count("routed_total", route="small", how="scored") == 1
        assert pair.count("answered_total", route="large", fallback="0") == 1
        assert pair.count("overhead_seconds_count") == 2
        assert pair.router.threads == {"sparseft-router_0"}


@pytest.mark.parametrize("model", ["small", "small-one", "large", "large-one"])
def test_a_named_model_is_asked_without_the_router(model: str) -> None:
    side = model[:5]
    with routed() as pair:
        answer = pair.ask("an easy one", model)
        assert text_of(answer) == side == answer.headers["x-sparseft-route"]
        assert "x-sparseft-score" not in answer.headers
        assert len(pair.router.batches) == 1, "more than the warm-up"
        assert pair.count("routed_total", route=side, how="forced") == 1


def test_nobody_answers_for_a_named_model() -> None:
    with routed(small="500") as pair:
        answer = pair.ask(model="small")
        assert answer.status_code == 502 and not pair.large.bodies
        assert answer.json()["error"]["code"] == "upstreams_failed"
        assert answer.headers["x-sparseft-route"] == "small"


def test_the_state_in_the_metadata_is_for_the_router_alone() -> None:
    with routed() as pair:
        state = {"hotel-area": "north"}
        pair.ask("a room", metadata={"previous_state": json.dumps(state), "user": "7"})
        pair.ask("a room", metadata={"previous_state": state})
        assert pair.router.batches[1:] == [["[state] hotel area north [user] a room"]] * 2
        assert pair.small.bodies[0]["metadata"] == {"user": "7"}
        assert "metadata" not in pair.small.bodies[1]


@pytest.mark.parametrize("text", ["boom", "nan"])
def test_where_the_router_fails_the_large_model_answers(text: str) -> None:
    with routed() as pair:
        answer = pair.ask(text)
        assert text_of(answer) == "large" and "x-sparseft-score" not in answer.headers
        assert pair.count("routed_total", route="large", how="router_failed") == 1
        assert text_of(pair.ask("an easy one")) == "small"


def test_a_router_that_takes_too_long_is_not_waited_for() -> None:
    with routed(router=Words(seconds=0.3), router_seconds=0.05) as pair:
        assert text_of(pair.ask("an easy one")) == "large"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad_json"),
        (b"[]", 400, "bad_json"),
        (b'{"model": "auto"}', 400, "invalid_request"),
        (b'{"messages": []}', 400, "invalid_request"),
        (b'{"messages": ["x"]}', 400, "invalid_request"),
        (b'{"messages": [{"role": "user", "content": 3}]}', 400, "invalid_request"),
        (b'{"messages": [{"role": "user"}], "stream": "yes"}', 400, "invalid_request"),
        (
            b'{"messages": [{"role": "user"}], "metadata": {"previous_state": "x"}}',
            400,
            "invalid_request",
        ),
        (b'{"model": "gpt", "messages": [{"role": "user"}]}', 404, "model_not_found"),
        (b'{"model": 3, "messages": [{"role": "user"}]}', 404, "model_not_found"),
        (b'{"x": "' + b"x" * 3000 + b'"}', 413, "too_large"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_in_the_form_of_openai(
    body: bytes, status: int, code: str
) -> None:
    with routed(max_bytes=2000) as pair:
        headers = {"Content-Type": "application/json"}
        answer = pair.proxy.client.post("/v1/chat/completions", content=body, headers=headers)
        assert answer.status_code == status
        error = answer.json()["error"]
        assert error["code"] == code and error["type"] == "invalid_request_error"
        assert "expected" in error["message"]
        assert not pair.small.bodies and not pair.large.bodies
        assert pair.count("errors_total", kind=code) == 1
        assert pair.count("inside") == 0


def test_the_other_routes() -> None:
    with routed() as pair:
        client = pair.proxy.client
        names = [each["id"] for each in client.get("/v1/models").json()["data"]]
        assert names == ["auto", "small", "large", "small-one", "large-one"]
        health = client.get("/healthz").json()
        assert health == {"status": "ok", "circuits": {"small": "closed", "large": "closed"}}
        paths = client.get("/openapi.json").json()["paths"]
        assert set(paths) == {"/v1/chat/completions", "/v1/models", "/healthz", "/metrics"}
        page = client.get("/docs").text
        assert "/v1/chat/completions" in page and "x-sparseft-route" in page
        assert "<script" not in page
        missing = client.get("/v1/nothing")
        assert missing.status_code == 404 and missing.json()["error"]["code"] == "not_found"
        assert client.get("/v1/chat/completions").status_code == 405


def test_keys_come_from_the_environment_and_go_nowhere_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with routed(large="500", settings={"key_variable": VARIABLE}) as pair:
        headers = {"Authorization": "Bearer sk-client"}
        body = {"messages": [{"role": "user", "content": "hard"}]}
        answer = pair.proxy.client.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.headers["x-sparseft-fallback"] == "1"
        sent = [each["authorization"] for each in (pair.small.headers[0], pair.large.headers[0])]
        assert sent == [f"Bearer {KEY}"] * 2
        every = pair.proxy.client.get("/metrics").text + pair.proxy.client.get("/docs").text
    assert KEY not in caplog.text + every and "sk-client" not in caplog.text


@pytest.mark.parametrize(("forward", "sent"), [(False, None), (True, "Bearer sk-client")])
def test_the_clients_own_key_is_passed_on_only_where_it_is_wanted(
    forward: bool, sent: str | None
) -> None:
    with routed(settings={"forward_authorization": forward}) as pair:
        headers = {"Authorization": "Bearer sk-client", "Cookie": "c=1"}
        body = {"messages": [{"role": "user", "content": "x"}]}
        assert pair.proxy.client.post("/v1/chat/completions", json=body, headers=headers).is_success
        assert pair.small.headers[0].get("authorization") == sent
        assert "cookie" not in pair.small.headers[0]


def test_a_cascade_is_refused() -> None:
    small, large = Upstream("s", _URL, "m"), Upstream("l", _URL, "m")
    with pytest.raises(ConfigError, match=r"'cascade'.*confidence"):
        proxy_app(Cascade(), 0.5, small, large)
    with pytest.raises(ConfigError, match="NaN"):
        proxy_app(Words(), float("nan"), small, large)


@pytest.mark.parametrize(("small", "large"), [("x", "x"), ("auto", "l"), ("large", "l")])
def test_names_that_mean_two_things_are_refused(small: str, large: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        proxy_app(Words(), 0.5, Upstream(small, _URL, "m"), Upstream(large, _URL, "m"))


def test_a_missing_key_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    small = Upstream("s", _URL, "m", key_variable=VARIABLE)
    with pytest.raises(ConfigError, match=VARIABLE):
        proxy_app(Words(), 0.5, small, Upstream("l", _URL, "m"))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"model": ""},
        {"base_url": "127.0.0.1:80"},
        {"base_url": f"http://u:{KEY}@host/v1"},
        {"base_url": "http://host:x/v1"},
        {"key_variable": KEY},
        {"key_variable": VARIABLE, "forward_authorization": True},
        {"timeout": 0.0},
        {"idle_timeout": float("inf")},
    ],
)
def test_settings_out_of_their_range_are_refused(changes: dict[str, Any]) -> None:
    settings = {"name": "s", "base_url": _URL, "model": "m", **changes}
    with pytest.raises(ConfigError, match="expected") as told:
        Upstream(**settings)
    assert KEY not in str(told.value)
