"""A whole run of task=routing on made-up answers, and its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparseft.config import DataConfig, ExpertConfig
from sparseft.errors import ConfigError, DataError
from sparseft.reporting.routing import write_routing_page
from sparseft.results import load_result
from sparseft.routing import Query
from sparseft.routing.dialogues import simulate_dialogues
from sparseft.routing.experts.building import default_experts, expert_of
from sparseft.routing.experts.remembered import Remembered
from sparseft.routing.pairs import expert_grades
from sparseft.routing.pools import build_pool
from sparseft.routing.retriever import load_encoder
from sparseft.routing.saved import load_router
from sparseft.training.retriever import RetrieverSettings, finetune_sparse
from sparseft.training.routing import CHOSEN, RoutedRun, execute_routing
from tests.routing.fakes import Table
from tests.training.routing_case import config, write_case


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case(tmp_path_factory.mktemp("routing"))


def test_a_run_compares_saves_and_shows(folder: Path, tmp_path: Path) -> None:
    runs: list[RoutedRun] = []

    def look(run: RoutedRun) -> None:
        runs.append(run)
        assert all(path.is_file() for path in write_routing_page(run))

    outcome = execute_routing(config(folder, tmp_path), look)
    result = load_result(outcome.folder / "result.json")
    metrics = result.metrics
    # The small model's score tells all of its errors, so a router that asks it beats the large.
    assert metrics["jga"] > metrics["jga_large_alone"] > metrics["jga_small_alone"]
    assert metrics["jga_oracle"] >= metrics["jga"] - 1e-9 and 0.1 < metrics["share_large"] < 0.8
    assert metrics["cost_of_large_alone"] < 0.8
    assert result.notes["router"]["router"] in ("cascade", "verifier")
    content = json.loads((outcome.folder / "routing.json").read_text())
    figures = content["routers"]
    assert {CHOSEN, "random", "knn", "cascade"} <= set(figures)
    for each in figures.values():
        first, last = each["points"][0], each["points"][-1]
        assert (first["share"], last["share"]) == pytest.approx((0.0, 1.0))
        assert first["quality"] == pytest.approx(metrics["jga_small_alone"])
        assert last["quality"] == pytest.approx(metrics["jga_large_alone"])
    turns = [json.loads(line) for line in (outcome.folder / "turns.jsonl").read_text().splitlines()]
    assert len(turns) == result.data["rows"]["test"]
    assert sum(turn["right_state"] for turn in turns) / len(turns) == pytest.approx(metrics["jga"])
    page = (outcome.folder / "routing.html").read_text()
    assert "weighted knn" in page and page.count("<svg") == 2 and "small and large" in page
    for name in ("quality-share", "quality-cost"):
        assert (outcome.folder / f"{name}.svg").read_text().startswith("<svg")
    assert execute_routing(config(folder, tmp_path)).skipped and len(runs) == 1


def test_the_saved_router_is_read_again(folder: Path, tmp_path: Path) -> None:
    settings = config(folder, tmp_path, routers=["knn", "weighted_knn"])
    outcome = execute_routing(settings)
    saved = load_router(outcome.folder / "router")
    assert saved.facts["router"] == outcome.result.notes["router"]["router"]
    wanted = saved.large([Query("q", "[user] i want a bike", "q")])
    assert wanted.shape == (1,) and wanted.dtype == bool


def test_a_finetuned_retriever_is_used_and_saved(folder: Path, tmp_path: Path) -> None:
    settings = config(folder, tmp_path, routers=["knn"])
    pool = build_pool(
        [Query(str(k), f"word{k % 2} word{k % 7}", f"g{k}") for k in range(24)],
        [k % 2 == 0 for k in range(24)],
        [True] * 24,
    )
    method = {"name": "sparse", "density": 0.2, "depth": 0.5, "folds": 0}
    how = RetrieverSettings(epochs=1, batch_size=8, lr=1e-2, pairs=20, held_out=0.3, method=method)
    finetune_sparse(settings.model, expert_grades(pool), how, tmp_path / "retriever")
    found = []
    for retriever in (None, str(tmp_path / "retriever")):
        run = config(folder, tmp_path, routers=["knn"], retriever=retriever)
        saved = load_router(execute_routing(run).folder / "router").router
        found.append(saved.embedder.embed(["word1 word2"]))  # type: ignore[attr-defined]
    expected = load_encoder(settings.model, delta=tmp_path / "retriever").embed(["word1 word2"])
    assert np.allclose(found[1], expected, atol=1e-6)
    assert not np.allclose(found[0], found[1], atol=1e-3)


def test_money_counts_where_operations_are_not_known(folder: Path, tmp_path: Path) -> None:
    outcome = execute_routing(
        config(
            folder,
            tmp_path,
            routers=["random"],
            small={"file": "small.jsonl", "prompt_price": 0.1, "answer_price": 0.1},
            large={"file": "large.jsonl", "prompt_price": 1.0, "answer_price": 1.0},
        )
    )
    content = json.loads((outcome.folder / "routing.json").read_text())
    assert content["unit"] == "money"
    assert content["ends"]["large"]["cost"] == pytest.approx(35e-6)
    assert content["saved"]["saved"] and load_router(outcome.folder / "router").facts


def test_an_answer_is_escaped_on_the_page(folder: Path, tmp_path: Path) -> None:
    evil = {"file": "small.jsonl", "parameters": 1e6, "name": "<script>alert(1)</script>"}
    settings = config(folder, tmp_path, routers=["random"], small=evil)
    outcome = execute_routing(settings, write_routing_page)
    assert "<script>" not in (outcome.folder / "routing.html").read_text()


@pytest.mark.parametrize(
    ("routing", "message"),
    [
        ({"routers": ["oracle"]}, "expected routers among"),
        ({"budget": 0.3}, r"task\.routing\.budget"),
        ({"rates": [0.5, 0.2]}, "rising shares"),
        ({"rates": [0.0, 1.5], "budget": 0.0}, "rising shares"),
        ({"large": None}, "no large"),
        ({"small": {"kind": "tracker"}}, "delta of an expert"),
        ({"small": {"file": None}}, "file or system of an expert"),
    ],
)
def test_wrong_settings_are_refused(
    folder: Path, tmp_path: Path, routing: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        execute_routing(config(folder, tmp_path, **routing))
    assert not list(tmp_path.iterdir())


def test_answers_of_other_turns_are_refused(folder: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join((folder / "small.jsonl").read_text().splitlines()[:5]) + "\n")
    with pytest.raises(DataError):
        execute_routing(config(folder, tmp_path / "out", small={"file": str(few)}))
    with pytest.raises(DataError):
        execute_routing(config(folder, tmp_path / "out", small={"file": "missing.jsonl"}))
    with pytest.raises(ConfigError, match=r"data\.test"):
        execute_routing(config(folder, tmp_path / "out", {"test": None}))


def test_the_built_in_answers_fit_the_built_in_dialogues() -> None:
    data = DataConfig("dialogues", "dialogues")
    found = default_experts(data)
    assert found is not None
    turns = simulate_dialogues(100, 3, "test")
    for settings in found:
        expert_of(settings, data).check(turn.id for turn in turns)  # type: ignore[attr-defined]
    assert default_experts(DataConfig("turns", "turns")) is None
    with pytest.raises(ConfigError, match="name one of its systems"):
        expert_of(ExpertConfig(file="answers.parquet"), DataConfig("turns", "turns"))


def test_a_remembered_expert_is_asked_once() -> None:
    from sparseft.routing import Context, Prediction

    table = Table("t", {("d", 0): Prediction({"a": "1"})})
    expert = Remembered(table)
    one, other = Context("d", 0, "", "hi", {}), Context("d", 0, "", "hi", {"a": "2"})
    assert expert.predict([one, one]) == expert.predict([one]) + expert.predict([one])
    expert.predict([other])
    assert table.given == [one, other]
