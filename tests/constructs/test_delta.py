"""Deltas of runs with new tokens: predict, on and off, swap, damage, and another base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertForMaskedLM, LlamaForCausalLM

import sparseft
from sparseft import models
from sparseft.constructs import adapt, fingerprint, tokenizer_of
from sparseft.data import load_data
from sparseft.errors import DeltaError, ModelError, SelectionError
from sparseft.predict import main as predict
from sparseft.reporting.predictor import load as load_predictor
from sparseft.sparse import read_delta
from sparseft.sparse.added import add_rows, added_rows, grown_tables, remove_rows
from sparseft.sparse.fingerprint import base_hash
from sparseft.training import TrainedRun, execute
from tests.constructs.helpers import constructs_of, planted
from tests.constructs.runs import TOKENS, config_of, write_task
from tests.tiny import VOCABULARY, tiny_config, tiny_tokenizer


@pytest.mark.parametrize("family", ["bert", "llama", "modernbert"])
def test_predict_needs_nothing_but_the_delta(
    family: str, task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if family != "bert":
        task = write_task(tmp_path / "task", family)
    seen: list[TrainedRun] = []
    outcome = execute(config_of(task, tmp_path), look=seen.append)
    predictor = load_predictor(outcome.folder, "cpu")
    assert fingerprint(predictor.tokenizer) == fingerprint(seen[0].loaded.tokenizer)
    data = load_data(config_of(task, tmp_path).data, 0)
    with np.load(outcome.folder / "predictions.npz") as kept:
        label_names = outcome.result.data["label_names"]
        expected = [label_names[n] for n in kept["test_predictions"]]
    assert [p.labels[0] for p in predictor.predict(data.test.texts)] == expected
    assert predict([str(outcome.folder), "word9 word1 word2 word30", "--tokens", "3"]) == 0
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert "word1 word2" in {entry["token"] for entry in record["tokens"]}


def bits(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def features(model: Any, tokenizer: Any, texts: list[str]) -> Tensor:
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model.features(batch["input_ids"], batch["attention_mask"])


def test_a_delta_with_tokens_comes_and_goes_bit_for_bit(task: Path, tmp_path: Path) -> None:
    config = config_of(task, tmp_path)
    delta = execute(config).folder / "delta"
    loaded = models.load(config.model, 3)
    model, original = loaded.model, bits(loaded.model)
    texts = ["word1 word2 word9", "word5 word6"]
    base = features(model, loaded.tokenizer, texts)
    sparseft.load_delta(model, delta)
    tokenizer = tokenizer_of(delta, loaded.tokenizer)
    trained = features(model, tokenizer, texts)
    # The embedding's own rows are among the trained ones, so both ways matter.
    assert any(s.structure == "embedding" for s in sparseft.sparse.selection_of(model).modules)
    with sparseft.disabled(model):
        assert torch.equal(features(model, loaded.tokenizer, texts), base)
    assert torch.equal(features(model, tokenizer, texts), trained)
    again = sparseft.save_delta(model, tmp_path / "again")
    assert (again / "delta.safetensors").read_bytes() == (delta / "delta.safetensors").read_bytes()
    sparseft.unload(model)
    head = ("head.weight", "head.bias")
    assert same(
        {n: t for n, t in bits(model).items() if n not in head},
        {n: t for n, t in original.items() if n not in head},
    )
    assert model.backbone.config.vocab_size == VOCABULARY
    sparseft.load_delta(model, delta)
    sparseft.merge(model)
    assert torch.equal(features(model, tokenizer, texts), trained)
    assert type(model.backbone.get_input_embeddings()) is torch.nn.Embedding
    with pytest.raises(SelectionError):
        sparseft.sparse.selection_of(model)


def test_deltas_with_and_without_tokens_are_swapped(task: Path, tmp_path: Path) -> None:
    config = config_of(task, tmp_path)
    with_tokens = execute(config).folder / "delta"
    without = execute(config_of(task, tmp_path, constructs={})).folder / "delta"
    means = {**TOKENS, "init": "mean"}
    mean = execute(config_of(task, tmp_path, constructs=means)).folder / "delta"
    expected = {
        path: bits(sparseft.load_delta(models.load(config.model, 3).model, path))
        for path in (with_tokens, without, mean)
    }
    assert not same(expected[with_tokens], expected[mean])
    model = sparseft.load_delta(models.load(config.model, 3).model, without)
    for path in (with_tokens, mean, without, mean, with_tokens, without):
        assert same(bits(sparseft.swap(model, path)), expected[path])


def test_another_base_is_refused_and_stays_whole(task: Path, tmp_path: Path) -> None:
    config = config_of(task, tmp_path)
    delta = execute(config).folder / "delta"
    for change in ("a weight", "an old row", "more rows"):
        model = models.load(config.model, 3).model
        with torch.no_grad():
            if change == "a weight":
                next(p for n, p in model.named_parameters() if "layer" in n).view(-1)[0] += 1
            elif change == "an old row":
                model.backbone.get_input_embeddings().weight[7, 3] += 1e-3
            else:
                model.backbone.resize_token_embeddings(VOCABULARY + 9, mean_resizing=False)
        before = bits(model)
        with pytest.raises(DeltaError, match="expected the base model with hash"):
            sparseft.load_delta(model, delta)
        assert same(bits(model), before)
    other = models.load(config.model, 3)
    other.tokenizer.add_tokens(["anotherword"])
    with pytest.raises(ModelError, match="load that of the base model"):
        tokenizer_of(delta, other.tokenizer)


def test_a_model_that_has_the_rows_takes_the_delta_too(task: Path, tmp_path: Path) -> None:
    config = config_of(task, tmp_path)
    delta = execute(config).folder / "delta"
    merged = models.load(config.model, 3).model
    added = read_delta(delta).added
    assert added is not None
    add_rows(merged, added, of_delta=False)
    adapted = bits(merged)
    assert base_hash(merged, ("head",)) == read_delta(delta).selection.base_hash
    sparseft.load_delta(merged, delta)
    # The rows are the user's own: they stay.
    sparseft.unload(merged)
    head = ("head.weight", "head.bias")
    assert all(torch.equal(bits(merged)[n], t) for n, t in adapted.items() if n not in head)


@pytest.mark.parametrize("damage", ["changed", "gone", "unnamed", "path"])
def test_a_damaged_tokens_file_is_refused(damage: str, task: Path, tmp_path: Path) -> None:
    folder = execute(config_of(task, tmp_path)).folder
    file, config = folder / "delta" / "tokens.json", folder / "delta" / "config.json"
    content = json.loads(config.read_text())
    if damage == "changed":
        file.write_text(file.read_text().replace("word2", "word7"))
    elif damage == "gone":
        file.unlink()
    elif damage == "unnamed":
        del content["beside"]
    else:
        content["beside"] = {"../config.json": "0"}
    config.write_text(json.dumps(content))
    with pytest.raises(DeltaError, match=r"tokens\.json|names of files"):
        load_predictor(folder, "cpu")


def _language_model(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "masked":  # its output matrix is tied, its output bias is not
        return BertForMaskedLM(tiny_config("bert")).eval()
    config = tiny_config("llama")
    config.tie_word_embeddings = kind == "tied"
    model = LlamaForCausalLM(config).eval()
    if kind == "spare":
        model.resize_token_embeddings(VOCABULARY + 4, mean_resizing=False)
    return model


@pytest.mark.parametrize("kind", ["tied", "untied", "spare", "masked"])
def test_rows_of_a_language_model_come_and_go(kind: str) -> None:
    tokenizer, texts = tiny_tokenizer(), planted(30)[0]
    constructs = constructs_of(tokenizer, ["word1 word2"])
    adapted = _language_model(kind)
    adapt(adapted, tokenizer, constructs, texts, rows="mean")
    stored = added_rows(adapted)
    assert stored is not None and stored.ids.tolist() == [VOCABULARY]
    model = _language_model(kind)
    before = bits(model)
    would = base_hash(model, (), grown_tables(model, stored))
    add_rows(model, stored)
    assert same(bits(model), bits(adapted)) and base_hash(model, ()) == would
    size = max(len(before[next(iter(stored.rows))]), VOCABULARY + 1)
    assert model.get_output_embeddings().out_features == size == model.config.vocab_size
    with pytest.raises(ModelError, match="load the model again"):
        adapt(model, tokenizer, constructs, texts, rows="mean")
    remove_rows(model)
    assert same(bits(model), before) and added_rows(model) is None
    remove_rows(model)
    assert same(bits(model), before)
