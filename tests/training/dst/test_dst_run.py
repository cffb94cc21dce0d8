"""A whole run on a tiny encoder: written, loaded again as an expert, and the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparseft.config import RunConfig
from sparseft.errors import ConfigError, DataError, DeltaError
from sparseft.results import load_result
from sparseft.routing.dialogues import simulate_dialogues, write_jsonl
from sparseft.routing.experts import RecordedExpert
from sparseft.routing.rollout import roll_out
from sparseft.routing.routers import AlwaysSmall
from sparseft.routing.tracker import load_dialogues, load_tracker_expert
from sparseft.routing.turns import dialogues_of
from sparseft.training.dst import execute_dst
from tests.tiny import save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dialogues")
    for name, count, seed in (("train", 6, 1), ("test", 3, 2)):
        write_jsonl(folder / f"{name}.jsonl", simulate_dialogues(count, seed, "pool"))
    return folder


def config(model: Path, dialogues: Path, output: Path, method: str = "sparse") -> RunConfig:
    options: dict[str, Any] = {"density": 0.3, "batches": 2} if method == "sparse" else {}
    return RunConfig.from_mapping(
        {
            "experiment": "test",
            "output": str(output),
            "device": "cpu",
            "model": {"name": "tiny", "source": "path", "id": str(model), "max_length": 60},
            "data": {
                "name": "turns",
                "kind": "turns",
                "root": str(dialogues),
                "train": "train.jsonl",
                "test": "test.jsonl",
            },
            "method": {"name": method, "lr": 3e-3, **options},
            "training": {
                "epochs": 2,
                "batch_size": 4,
                "eval_batch_size": 4,
                "head_warmup_steps": 3,
                "prefix_cache": "memory",
                "measure_flops": False,
                "progress": "off",
            },
            "task": {"name": "dst", "dst": {}},
            "tracking": {"wandb": "off"},
        }
    )


def test_a_run_ends_with_an_expert(model: Path, dialogues: Path, tmp_path: Path) -> None:
    settings = config(model, dialogues, tmp_path)
    outcome = execute_dst(settings)
    result = load_result(outcome.folder / "result.json")
    assert result.cost["head_warmup_seconds"] > 0 and result.cost["cache_bytes"] > 0
    for name in ("jga_strict", "jga_normalised", "turn_accuracy_strict", "slot_f1_normalised"):
        assert 0 <= result.metrics[name] <= 1
    corpus = load_dialogues(settings.data, 0, 100)
    test = dialogues_of(corpus.test)
    expert = load_tracker_expert(outcome.folder)
    assert expert.trained_on == {turn.dialogue for turn in corpus.train}
    recorded = RecordedExpert.from_jsonl(outcome.folder / "predictions.jsonl")
    recorded.check(turn.id for turn in corpus.test)
    steps = roll_out(test, AlwaysSmall(), 0.5, expert, expert)
    again = roll_out(test, AlwaysSmall(), 0.5, recorded, recorded)
    assert [step.state for step in steps] == [step.state for step in again]
    for one, other in zip(steps, again, strict=True):
        assert one.prediction.score == pytest.approx(other.prediction.score, abs=2e-4)
    assert execute_dst(settings).skipped


@pytest.mark.parametrize("method", ["full", "lora"])
def test_other_methods_train_the_same_tracker(
    model: Path, dialogues: Path, tmp_path: Path, method: str
) -> None:
    outcome = execute_dst(config(model, dialogues, tmp_path, method))
    assert outcome.result.selection is None and not (outcome.folder / "delta").exists()


def test_wrong_data_and_folders_are_refused(model: Path, dialogues: Path, tmp_path: Path) -> None:
    settings = config(model, dialogues, tmp_path)
    texts = {**settings.to_mapping(), "data": {"name": "sst2"}}
    with pytest.raises(ConfigError, match="expected dialogues"):
        execute_dst(RunConfig.from_mapping(texts))
    unnamed = {**settings.to_mapping(), "data": {"name": "turns", "kind": "turns"}}
    with pytest.raises(ConfigError, match=r"data\.train"):
        execute_dst(RunConfig.from_mapping(unnamed))
    both = {**settings.to_mapping()["data"], "test": "train.jsonl"}
    with pytest.raises(DataError, match="in one split"):
        execute_dst(RunConfig.from_mapping({**settings.to_mapping(), "data": both}))
    with pytest.raises(DeltaError, match=r"tracker\.json"):
        load_tracker_expert(tmp_path)
