"""An endpoint's answers, failures, costs and memory, over real sockets."""

from __future__ import annotations

import builtins
import itertools
import json
import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sparseft.errors import ConfigError
from sparseft.routing import Expert
from sparseft.routing.experts import Budget, EndpointExpert, ResponseCache, RetryPolicy
from tests.routing.experts.cases import QUICK, SLOTS, context, endpoint
from tests.routing.experts.scripted import ScriptedServer

_PRICE = 0.002  # of a scripted call


def _echo(body: dict[str, Any]) -> str:
    """The user's words as the hotel's name, to tell turns apart."""
    return json.dumps({"hotel-name": body["messages"][-1]["content"].split("User: ")[1]})


def test_answers_come_in_order_with_score_tokens_price_and_seconds() -> None:
    script = ScriptedServer("slow", answer=_echo)
    with (
        script.running() as url,
        EndpointExpert(endpoint(url), SLOTS, name="large") as expert,
    ):
        assert isinstance(expert, Expert) and expert.name == "large"
        found = expert.predict([context(n, user=f"hotel {n}") for n in range(9)])
    assert [p.delta for p in found] == [{"hotel-name": f"hotel {n}"} for n in range(9)]
    assert {p.score for p in found} == {-0.5} and {p.problem for p in found} == {""}
    assert {(p.prompt_tokens, p.answer_tokens) for p in found} == {(100, 10)}
    assert all(p.price == pytest.approx(_PRICE) and p.seconds >= 0.2 for p in found)
    assert 1 < script.most_at_once <= 4


def test_the_request_is_what_the_settings_say() -> None:
    script = ScriptedServer()
    options = {"temperature": None, "seed": 3}
    with script.running() as url:
        settings = endpoint(url, options=options, length_field="max_completion_tokens")
        with EndpointExpert(settings, SLOTS) as expert:
            expert.predict([context()])
    (body,) = script.bodies
    body.pop("messages")
    assert body == {"model": "m", "max_completion_tokens": 256, "logprobs": True, "seed": 3}


@pytest.mark.parametrize(
    "failure", ["500", "429", "garbage", "choiceless", "closed", "cut", "silent"]
)
def test_a_failure_that_passes_is_tried_again(failure: str) -> None:
    script = ScriptedServer(failure, 'ok:{"hotel-area": "north"}')
    with script.running() as url, EndpointExpert(endpoint(url, timeout=0.5), SLOTS) as expert:
        (found,) = expert.predict([context()])
    assert found.delta == {"hotel-area": "north"} and not found.problem
    assert len(script.bodies) == 2 and script.bodies[0] == script.bodies[1]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("500", "HTTP 500"),
        ("429", "HTTP 429"),
        ("garbage", "a chat completion in JSON"),
        ("choiceless", "a choice"),
        ("closed", "no connection or a broken one"),
        ("cut", "no connection or a broken one"),
        ("silent", "within 0.3 s"),
        ("drip", "within 0.3 s"),
    ],
)
def test_one_that_stays_is_a_problem_after_all_attempts(failure: str, reason: str) -> None:
    script = ScriptedServer(failure)
    started = time.monotonic()
    with script.running() as url, EndpointExpert(endpoint(url, timeout=0.3), SLOTS) as expert:
        (found,) = expert.predict([context()])
    assert reason in found.problem and found.delta == {} and found.score is None
    assert len(script.bodies) == QUICK.attempts
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("failure", ["401", "quota"])
def test_one_that_does_not_pass_is_not_tried_again(failure: str) -> None:
    script = ScriptedServer(failure)
    with script.running() as url, EndpointExpert(endpoint(url), SLOTS) as expert:
        (found,) = expert.predict([context()])
    assert "HTTP 4" in found.problem and len(found.problem) < 500
    assert len(script.bodies) == 1 and found.price == 0


def test_retry_after_is_honoured_and_capped() -> None:
    policy = RetryPolicy(attempts=3, first=0.0, longest_asked=0.4)
    script = ScriptedServer("429:0.3", "429:3600", "ok")
    with script.running() as url, EndpointExpert(endpoint(url, retries=policy), SLOTS) as expert:
        started = time.monotonic()
        (found,) = expert.predict([context()])
        passed = time.monotonic() - started
    assert not found.problem and 0.7 <= passed < 3


def test_nobody_listening_is_a_problem_that_costs_nothing() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/v1"
        with EndpointExpert(endpoint(url), SLOTS, budget=Budget(money=1.0)) as expert:
            (found,) = expert.predict([context()])
    assert "check base_url" in found.problem and found.price == 0


def test_what_a_server_may_bill_counts_at_its_most() -> None:
    script = ScriptedServer("silent")
    with script.running() as url:
        settings = endpoint(url, timeout=0.2, retries=RetryPolicy(attempts=1))
        budget = Budget()
        with EndpointExpert(settings, SLOTS, budget=budget) as expert:
            (found,) = expert.predict([context()])
    assert found.price == budget.spent > settings.prices.of(0, settings.max_tokens)


def test_log_probabilities_are_left_out_where_they_are_refused() -> None:
    script = ScriptedServer("refuses-logprobs")
    with script.running() as url, EndpointExpert(endpoint(url), SLOTS) as expert:
        found = expert.predict([context()]) + expert.predict([context(1)])
    assert not any(p.problem for p in found)
    assert ["logprobs" in body for body in script.bodies] == [True, False, False]


def test_without_usage_a_call_counts_at_its_most_and_has_no_score() -> None:
    script = ScriptedServer("bare")
    with script.running() as url, EndpointExpert(endpoint(url), SLOTS) as expert:
        (found,) = expert.predict([context()])
    assert found.score is None and found.prompt_tokens == 0 and found.price > _PRICE


def test_an_unreadable_answer_is_asked_for_once_more_with_what_is_wrong() -> None:
    script = ScriptedServer("ok:north!", 'ok:{"hotel-area": "north"}')
    with script.running() as url, EndpointExpert(endpoint(url), SLOTS) as expert:
        (found,) = expert.predict([context()])
    assert found.delta == {"hotel-area": "north"} and found.price == pytest.approx(2 * _PRICE)
    assert (found.prompt_tokens, found.notes["calls"]) == (200, 2)
    first, second = (body["messages"] for body in script.bodies)
    assert second[:-2] == first and second[-2]["content"] == "north!"
    assert "cannot be read" in second[-1]["content"]


def test_one_that_stays_unreadable_is_a_problem() -> None:
    script = ScriptedServer("ok:north!")
    with script.running() as url, EndpointExpert(endpoint(url), SLOTS) as expert:
        (found,) = expert.predict([context()])
    assert "JSON" in found.problem and found.delta == {} and found.notes["answer"] == "north!"
    assert len(script.bodies) == 2 and found.price == pytest.approx(2 * _PRICE)


def test_an_unknown_slot_is_a_problem_at_once() -> None:
    script = ScriptedServer('ok:{"hotel-colour": "red"}')
    with script.running() as url, EndpointExpert(endpoint(url), SLOTS) as expert:
        (found,) = expert.predict([context()])
    assert "hotel-colour" in found.problem and len(script.bodies) == 1


def test_cached_answers_cost_nothing(tmp_path: Path) -> None:
    script = ScriptedServer(answer=_echo)
    cache, budget = ResponseCache(tmp_path), Budget(calls=3)
    contexts = [context(n, user=f"hotel {n}") for n in range(3)]
    with (
        script.running() as url,
        EndpointExpert(endpoint(url), SLOTS, cache=cache, budget=budget) as expert,
    ):
        first, again = expert.predict(contexts), expert.predict(contexts)
    assert len(script.bodies) == budget.sent == 3
    assert [p.delta for p in again] == [p.delta for p in first]
    assert all((p.price, p.seconds, p.score, p.prompt_tokens) == (0, 0, -0.5, 100) for p in again)
    assert all(p.notes["cached"]["price"] == pytest.approx(_PRICE) for p in again)


def test_another_model_url_prompt_or_option_is_another_answer(tmp_path: Path) -> None:
    script, other = ScriptedServer(), ScriptedServer()
    cache = ResponseCache(tmp_path)
    with script.running() as url, other.running() as elsewhere:
        for settings, slots in (
            (endpoint(url), SLOTS),
            (endpoint(url, model="n"), SLOTS),
            (endpoint(elsewhere), SLOTS),
            (endpoint(url), {**SLOTS, "taxi-leave": "when"}),
            (endpoint(url, options={"seed": 1}), SLOTS),
            (endpoint(url, max_tokens=8), SLOTS),
            # These change how it is asked, not what.
            (endpoint(f"{url}/", timeout=3.0, concurrency=1), SLOTS),
        ):
            with EndpointExpert(settings, slots, cache=cache) as expert:
                assert not expert.predict([context()])[0].problem
    assert (len(script.bodies), len(other.bodies)) == (5, 1)


@pytest.mark.parametrize("damage", [b"", b'{"key": 1}', b"\x00" * 50])
def test_a_damaged_cache_is_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    script = ScriptedServer(answer=_echo)
    with (
        script.running() as url,
        EndpointExpert(endpoint(url), SLOTS, cache=ResponseCache(tmp_path)) as expert,
    ):
        first = expert.predict([context()])
        (path,) = tmp_path.rglob("*.json")
        path.write_bytes(damage)
        with caplog.at_level(logging.WARNING):
            second = expert.predict([context()])
        third = expert.predict([context()])
    assert [p[0].delta for p in (second, third)] == [first[0].delta] * 2
    assert len(script.bodies) == 2 and str(path) in caplog.text


def test_an_entry_of_another_shape_is_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script, cache = ScriptedServer(), ResponseCache(tmp_path)
    with script.running() as url, EndpointExpert(endpoint(url), SLOTS, cache=cache) as expert:
        expert.predict([context()])
        (path,) = tmp_path.rglob("*.json")
        cache.put(path.stem, {"completion": {"text": 3}, "price": 0.0, "seconds": 0.0})
        with caplog.at_level(logging.WARNING):
            assert not expert.predict([context()])[0].problem
    assert len(script.bodies) == 2 and "damaged" in caplog.text


def test_a_budget_of_calls_that_ends_in_a_batch_keeps_what_was_paid_for(tmp_path: Path) -> None:
    script = ScriptedServer(answer=_echo)
    cache, budget = ResponseCache(tmp_path), Budget(calls=4)
    contexts = [context(n, user=f"hotel {n}") for n in range(10)]
    with (
        script.running() as url,
        EndpointExpert(endpoint(url), SLOTS, cache=cache, budget=budget) as expert,
    ):
        found = expert.predict(contexts)
        again = expert.predict(contexts)
    for batch in (found, again):
        assert sum(not p.problem for p in batch) == 4 == len(script.bodies)
        assert all(p.problem.startswith("budget exhausted") for p in batch if p.problem)
    assert [p.delta for p in found] == [p.delta for p in again]
    assert sum(p.price for p in found) == pytest.approx(4 * _PRICE)
    assert len(list(tmp_path.rglob("*.json"))) == 4


def test_a_budget_of_money_holds_for_two_experts_together() -> None:
    script = ScriptedServer("slow", answer=_echo)
    with script.running() as url:
        settings = endpoint(url, max_tokens=20)
        bound = settings.bound([{"role": "user", "content": "x" * 2000}])
        budget = Budget(money=bound + 3 * _PRICE)
        with (
            EndpointExpert(settings, SLOTS, budget=budget) as one,
            EndpointExpert(settings, SLOTS, budget=budget) as other,
            ThreadPoolExecutor(2) as pool,
        ):
            contexts = [context(n) for n in range(20)]
            both = pool.map(lambda expert: expert.predict(contexts), (one, other))
            found = [prediction for batch in both for prediction in batch]
    paid = [p for p in found if not p.problem]
    assert 3 < len(paid) == len(script.bodies) < 40
    assert budget.spent == pytest.approx(sum(p.price for p in paid))
    assert budget.spent <= bound + 3 * _PRICE
    assert all(p.problem.startswith("budget exhausted") for p in found if p.problem)


def test_retries_are_calls_of_the_budget() -> None:
    script = ScriptedServer("500")
    with (
        script.running() as url,
        EndpointExpert(endpoint(url), SLOTS, budget=Budget(calls=2)) as expert,
    ):
        (found,) = expert.predict([context()])
    assert len(script.bodies) == 2
    assert found.problem.startswith("budget exhausted") and "HTTP 500" in found.problem


def test_a_budget_that_ends_before_the_second_question_keeps_the_first_price() -> None:
    script = ScriptedServer("ok:north!")
    with (
        script.running() as url,
        EndpointExpert(endpoint(url), SLOTS, budget=Budget(calls=1)) as expert,
    ):
        (found,) = expert.predict([context()])
    assert found.problem.startswith("budget exhausted")
    assert found.price == pytest.approx(_PRICE) and found.notes["unreadable"] == "north!"


def test_one_failure_does_not_end_the_others() -> None:
    modes = [mode for _, mode in zip(range(12), itertools.cycle(["ok", "401", "garbage"]))]
    script = ScriptedServer(*modes, "ok", answer=_echo)
    with script.running() as url, EndpointExpert(endpoint(url), SLOTS) as expert:
        found = expert.predict([context(n, user=f"hotel {n}") for n in range(9)])
    assert len(found) == 9 and {bool(p.problem) for p in found} == {True, False}
    for number, prediction in enumerate(found):
        assert prediction.problem or prediction.delta == {"hotel-name": f"hotel {number}"}


def test_no_context_is_no_call() -> None:
    script = ScriptedServer()
    with script.running() as url, EndpointExpert(endpoint(url), SLOTS) as expert:
        assert expert.predict([]) == [] and not script.bodies


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "openai":
            raise ImportError("No module named 'openai'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"sparseft\[route\]"):
        EndpointExpert(endpoint("http://127.0.0.1:9/v1"), SLOTS)


@pytest.mark.parametrize(
    "bad",
    [
        {"timeout": 0.0},
        {"timeout": float("nan")},
        {"concurrency": 0},
        {"max_tokens": 0},
        {"model": ""},
        {"options": {"stream": True}},
        {"options": {"n": 2}},
    ],
)
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        endpoint("http://127.0.0.1:9/v1", **bad)
