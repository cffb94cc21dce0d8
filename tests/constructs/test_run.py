"""Constructs in a run: what is written, every method, predict, and going on from a checkpoint."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sparseft import models
from sparseft.config import RunConfig
from sparseft.constructs import Constructs, length_saving
from sparseft.errors import ConfigError
from sparseft.methods import names
from sparseft.results import config_hash
from sparseft.sparse import read_delta
from sparseft.training import TrainedRun, execute, pipeline
from tests.constructs.helpers import planted
from tests.constructs.runs import TOKENS, config_of
from tests.tiny import VOCABULARY


def test_a_run_writes_its_constructs_and_counts_them(task: Path, tmp_path: Path) -> None:
    seen: list[TrainedRun] = []
    config = config_of(task, tmp_path, save="none")
    outcome = execute(config, look=seen.append)
    (run,) = seen
    found = Constructs.load(outcome.folder / "constructs.json")
    assert "word1 word2" in {construct.text for construct in found}
    assert (outcome.folder / "card.md").read_text().startswith("# Constructs of words")
    train, test = planted(60, 0)[0], planted(18, 2)[0]
    assert found.counts["texts"] == len(train)
    alone = sum("word1 word2" in text for text in train)
    assert next(c for c in found if c.text == "word1 word2").frequency == alone
    notes, cost = outcome.result.notes["constructs"], outcome.result.cost
    assert notes["mined"] == len(found) and notes["tokens"] == 1 and notes["init"] == "fitted"
    assert notes["error_after"] <= notes["error_before"]
    assert cost["constructs_seconds"] == notes["seconds"] > 0
    plain = models.load(config.model, 3).tokenizer
    saving = length_saving(plain, run.loaded.tokenizer, test, 32)
    assert notes["length_saving"]["test"]["after"] == saving.after < saving.before
    assert notes["length_saving"]["test"]["share"] == saving.share
    assert (
        notes["length_saving"]["train"]["before"] - alone
        == (notes["length_saving"]["train"]["after"])
    )
    spent = cost["constructs_seconds"] + cost["head_warmup_seconds"] + cost["analysis_seconds"]
    assert outcome.result.seconds_to_best > spent
    texts = ["word9 word30", "word2 word1", "word1  word2", "word20 word1 word3"]
    before, after = plain(texts)["input_ids"], run.loaded.tokenizer(texts)["input_ids"]
    assert [before[0], before[1], before[3]] == [after[0], after[1], after[3]]


def test_mining_alone_changes_no_bit_of_the_training(task: Path, tmp_path: Path) -> None:
    plain = execute(config_of(task, tmp_path / "a", "full", {}, save="all"))
    mined = execute(config_of(task, tmp_path / "b", "full", {"mine": True}, save="all"))
    for name in ("state.safetensors", "predictions.npz"):
        assert (plain.folder / name).read_bytes() == (mined.folder / name).read_bytes()
    assert not (plain.folder / "constructs.json").exists()
    assert plain.result.cost["constructs_seconds"] == 0 and "constructs" not in plain.result.notes
    assert mined.result.notes["constructs"]["tokens"] == 0
    assert not (mined.folder / "tokens.json").exists()


def test_off_leaves_the_hash_of_older_records(task: Path, tmp_path: Path) -> None:
    mapping = config_of(task, tmp_path, constructs={}).to_mapping()
    older = {key: value for key, value in mapping.items() if key != "constructs"}
    assert config_hash(mapping) == config_hash(older)
    on = config_of(task, tmp_path, constructs={"mine": True}).to_mapping()
    assert config_hash(on) != config_hash(older)


@pytest.mark.parametrize("method", names())
def test_every_method_trains_with_new_tokens(method: str, task: Path, tmp_path: Path) -> None:
    seen: dict[str, Tensor] = {}

    def look(run: TrainedRun) -> None:
        weights = dict(run.prepared.model.named_parameters())
        (name,) = (n for n in weights if "word_embeddings.weight" in n)
        seen["table"] = weights[name].detach().clone()
        seen["trained"] = torch.tensor(weights[name].requires_grad)

    outcome = execute(config_of(task, tmp_path, method, save="all"), look=look)
    assert len(seen["table"]) == VOCABULARY + 1
    assert outcome.result.notes["constructs"]["tokens"] == 1
    if method.startswith("sparse"):
        assert read_delta(outcome.folder / "delta").added is not None
        return
    state = load_file(outcome.folder / "state.safetensors")
    assert json.loads((outcome.folder / "tokens.json").read_text())["first"] == VOCABULARY
    rows = {n: t for n, t in state.items() if n.startswith("added.") and n != "added.ids"}
    assert state["added.ids"].tolist() == [VOCABULARY]
    assert torch.equal(next(iter(rows.values())), seen["table"][-1:])
    # Only where the method trains the whole embedding; elsewhere it stays as it was initialised.
    assert bool(seen["trained"]) == (method == "full")


def test_rows_of_a_method_without_embeddings_stay_as_they_were_fitted(
    task: Path, tmp_path: Path
) -> None:
    rows = {}
    for method in ("lora", "probe", "full"):
        outcome = execute(config_of(task, tmp_path, method, save="all"))
        state = load_file(outcome.folder / "state.safetensors")
        (rows[method],) = (t for n, t in state.items() if n.startswith("added.back"))
    assert torch.equal(rows["lora"], rows["probe"])
    assert not torch.equal(rows["full"], rows["probe"])


@pytest.mark.parametrize("method", ["sparse", "full", "lora"])
def test_a_stopped_run_goes_on_to_the_same_bits(
    method: str, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = execute(config_of(task, tmp_path / "whole", method, save="all", epochs=2))
    config = config_of(task, tmp_path / "stopped", method, save="all", epochs=2, checkpoint_every=5)
    store = pipeline.CheckpointStore
    saved = store.save

    def stop(self: Any, state: dict[str, Any], selection: Any = None) -> None:
        saved(self, state, selection)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        execute(config)
    monkeypatch.setattr(store, "save", saved)
    # Nothing is mined or fitted a second time, so no machine can make other rows of it.
    from sparseft.training import constructs as stage

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("mined again")

    monkeypatch.setattr(stage, "mine", never)
    monkeypatch.setattr(stage, "adapt", never)
    resumed = execute(config)
    assert resumed.resumed
    name = "delta/delta.safetensors" if method == "sparse" else "state.safetensors"
    for file in (name, "predictions.npz", "constructs.json", "card.md"):
        assert (resumed.folder / file).read_bytes() == (whole.folder / file).read_bytes()
    first, second = (dict(o.result.notes["constructs"]) for o in (whole, resumed))
    first.pop("seconds"), second.pop("seconds")
    assert first == second


def test_few_and_strange_texts_give_a_run_without_tokens(task: Path, tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        # One text a class, of one token; empty ones are dropped by the loader.
        rows = [["text", "label"], ["word1", "a"], ["word2", "b"], ["", "a"]]
        if split != "train":
            rows = [["text", "label"], ["word3 word9", "a"], ["[SEP] word4", "b"]]
        with (tmp_path / f"{split}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
    config = config_of(task, tmp_path / "out", "sparse", {**TOKENS, "min_support": 1})
    config = replace(config, data=replace(config.data, root=str(tmp_path)))
    outcome = execute(config)
    assert outcome.result.notes["constructs"]["mined"] == 0
    assert outcome.result.notes["constructs"]["tokens"] == 0
    assert not (outcome.folder / "delta" / "tokens.json").exists()
    assert Constructs.load(outcome.folder / "constructs.json").items == ()


@pytest.mark.parametrize(
    ("constructs", "message"),
    [
        ({"tokens": 5}, "constructs.mine"),
        ({"mine": True, "tokens": -1}, "constructs.tokens"),
        ({"mine": True, "q": 0.0}, "constructs.q"),
        ({"mine": True, "min_stability": 1.5}, "constructs.min_stability"),
        ({"mine": True, "longest": 0}, "constructs.longest"),
        ({"mine": True, "init": "luck"}, "constructs.init"),
        ({"mined": True}, "constructs.mined"),
    ],
)
def test_wrong_settings_are_named(
    constructs: dict[str, Any], message: str, task: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(task, tmp_path, constructs=constructs)


def _weighted(task: Path, output: Path, constructs: Any, saliency: str) -> RunConfig:
    config = config_of(task, output, constructs=constructs, save="none")
    method = {**config.method, "saliency": saliency, "units": ["neuron"], "density": 0.05}
    return replace(config, method={**method, "score": "agreement", "folds": 2})


def test_the_analysis_can_weigh_tokens_by_the_constructs_of_the_run(
    task: Path, tmp_path: Path
) -> None:
    chosen = {}
    for saliency in ("uniform", "constructs"):
        seen: list[TrainedRun] = []
        mined = {"mine": True, "resamples": 10}
        execute(_weighted(task, tmp_path / saliency, mined, saliency), look=seen.append)
        selection = seen[0].prepared.selection
        assert selection is not None and selection.info["saliency"] == saliency
        chosen[saliency] = [choice.scores.tolist() for choice in selection.choices]
    assert chosen["uniform"] != chosen["constructs"]


def test_construct_weights_need_constructs_that_are_not_tokens(task: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"saliency=constructs, got none; add constructs=mine"):
        execute(_weighted(task, tmp_path, {"mine": False}, "constructs"))
    with pytest.raises(ConfigError, match=r"expected constructs.tokens=0 .* set constructs=mine"):
        execute(_weighted(task, tmp_path, TOKENS, "constructs"))
