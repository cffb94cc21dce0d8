"""Experts that answer while a run goes on, and pairs of recorded systems."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparseft.config import DataConfig, EndpointConfig, ExpertConfig, ModelConfig
from sparseft.errors import ConfigError, DataError
from sparseft.routing import Context
from sparseft.routing.dialogues import named_slots, read_jsonl
from sparseft.routing.experts.building import cost_of_expert, default_experts, expert_of
from sparseft.routing.experts.local import LanguageModelExpert
from sparseft.training.routing import execute_routing
from sparseft.training.routing.loading import load_turns
from tests.routing.experts.scripted import ScriptedServer
from tests.tiny import save_tiny_language_model
from tests.training.routing_case import config, write_case

_MULTIWOZ = DataConfig("multiwoz", "multiwoz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case(tmp_path_factory.mktemp("routing"))


def _knows(folder: Path) -> Callable[[dict[str, Any]], str]:
    """Answers a request with the gold of the turn whose user says what stands at its end."""
    deltas = {" ".join(t.user.split()): dict(t.delta) for t in read_jsonl(folder / "turns.jsonl")}

    def answer(body: dict[str, Any]) -> str:
        said = body["messages"][-1]["content"].rpartition("User: ")[2]
        return json.dumps(deltas[said])

    return answer


def _endpoint(url: str, **options: Any) -> dict[str, Any]:
    asked = {"base_url": url, "model": "m", "key_variable": None, **options}
    prices = {"prompt_price": 1.0, "answer_price": 1.0}
    return {"kind": "endpoint", "name": "far", "endpoint": asked, **prices}


def test_an_endpoint_answers_a_run_and_is_paid_for_once(folder: Path, tmp_path: Path) -> None:
    server = ScriptedServer(answer=_knows(folder))
    few = {"test_rows": 8}
    with server.running() as url:
        large = _endpoint(url, cache=str(tmp_path / "cache"))
        settings = config(folder, tmp_path / "a", few, routers=["random"], large=large)
        metrics = execute_routing(settings).result.metrics
        # Two users of all dialogues say the same of different slots.
        assert metrics["jga_large_alone"] > 0.9 > metrics["jga_small_alone"]
        asked = len(server.bodies)
        turns = load_turns(settings.data)
        assert len({turn.dialogue for turn in turns}) == 8 and asked >= len(turns)
        # What the run cost is known: a call of 100 and 10 tokens at 1 a million.
        content = json.loads(next((tmp_path / "a").rglob("routing.json")).read_text())
        assert content["unit"] == "money" and content["large"] == "far"
        assert content["ends"]["large"]["cost"] == pytest.approx(110e-6)
        again = config(folder, tmp_path / "b", few, routers=["random"], large=large)
        assert execute_routing(again).result.metrics["jga"] == metrics["jga"]
        assert len(server.bodies) == asked


def test_a_budget_that_ends_is_counted_and_one_of_nothing_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    server = ScriptedServer(answer=_knows(folder))
    few = {"test_rows": 8}
    with server.running() as url:
        large = _endpoint(url, max_calls=30, concurrency=1)
        settings = config(folder, tmp_path, few, routers=["random"], large=large)
        notes = execute_routing(settings).result.notes
        assert len(server.bodies) == 30
        turns = len(load_turns(settings.data))
        assert notes["unanswered"]["small"] == 0 < notes["unanswered"]["large"] <= turns
        nothing = _endpoint(url, max_calls=0)
        with pytest.raises(DataError, match=r"only the large one gets right \(far\)"):
            execute_routing(config(folder, tmp_path / "none", few, large=nothing))
    assert not (tmp_path / "none").exists()


def test_experts_are_built_from_their_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny_language_model(tmp_path / "model")
    data = DataConfig("turns", "turns")
    model = ModelConfig("tiny", "path", str(tmp_path / "model"))
    local = expert_of(ExpertConfig("local", "near", model=model), data, slots={"a-b": "a b"})
    assert isinstance(local, LanguageModelExpert) and local.name == "near"
    (answer,) = local.predict([Context("d", 0, "", "hi", {})])
    assert answer.delta == {} and answer.problem
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    far = EndpointConfig("http://localhost:9/v1", "m", key_variable="NO_SUCH_KEY")
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        expert_of(ExpertConfig("endpoint", endpoint=far), data, slots={"a-b": "a b"})
    for kind, needed in (("tracker", "delta"), ("local", "model"), ("endpoint", "endpoint")):
        with pytest.raises(ConfigError, match=f"expected {needed} of an expert of kind {kind}"):
            ExpertConfig(kind)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="set file"):
        expert_of(ExpertConfig(system="llama3-8b.random.plain"), data)


def test_recorded_systems_are_known_by_name() -> None:
    gpt = cost_of_expert(ExpertConfig(system="gpt-3.5.random.plain"), _MULTIWOZ)
    assert gpt.parameters is None and gpt.answer_price == 1.5 and gpt.exemplars == 10
    own = ExpertConfig(system="gpt-3.5.random.plain", prompt_price=2.0)
    assert cost_of_expert(own, _MULTIWOZ).answer_price == 0.0
    found = default_experts(_MULTIWOZ)
    assert found is not None
    small, large = (cost_of_expert(each, _MULTIWOZ) for each in found)
    assert (small.parameters, large.parameters) == (8.03e9, 70.6e9)


def test_costs_must_be_known(folder: Path, tmp_path: Path) -> None:
    settings = config(folder, tmp_path, large={"file": "large.jsonl"})
    with pytest.raises(ConfigError, match="parameters of both experts, or prices"):
        execute_routing(settings)
    with pytest.raises(DataError, match="four dialogues"):
        execute_routing(config(folder, tmp_path, {"test_rows": 3}))
    assert not list(tmp_path.iterdir())


def test_slots_without_a_schema_are_told_by_their_names(folder: Path) -> None:
    slots = named_slots(read_jsonl(folder / "turns.jsonl"))
    assert slots["theatre-play"] == "theatre play" and list(slots) == sorted(slots)
