"""Adapting a model: new rows, nothing else changed, any method on top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

import sparseft
from sparseft.config import ModelConfig
from sparseft.constructs import (
    Adapted,
    Constructs,
    MiningSettings,
    adapt,
    keep_rows,
    mine,
    row_selection,
)
from sparseft.errors import ConfigError, ModelError
from sparseft.methods import names
from sparseft.models import TextClassifier, load
from tests.constructs.helpers import constructs_of, planted
from tests.methods.common import prepare
from tests.tiny import FAMILIES, VOCABULARY, tiny, tiny_config, tiny_tokenizer

TEXTS, LABELS = planted(60)
PLAIN = ["word9 word20 word30", "word2 word1", "word54"]  # no construct


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def constructs(tokenizer: Any) -> Constructs:
    return constructs_of(tokenizer, ["word1 word2", "word20 word21", "word30 word31"])


def features(model: TextClassifier, tokenizer: Any, texts: list[str]) -> Tensor:
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model.features(batch["input_ids"], batch["attention_mask"])


def table_of(model: TextClassifier) -> Tensor:
    return model.backbone.get_input_embeddings().weight  # type: ignore[operator]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", ["mean", "least_squares"])
def test_only_new_rows_come_and_other_texts_keep_their_outputs(
    family: str, rows: Any, tokenizer: Any, constructs: Constructs
) -> None:
    model, reference = tiny(family), tiny(family)
    state = torch.get_rng_state()
    texts = [*TEXTS, "word20 word21 word5"]
    adapted = adapt(model, tokenizer, constructs, texts, rows=rows)
    assert torch.equal(torch.get_rng_state(), state)
    assert adapted.model is model and not model.training
    assert adapted.new_ids == (VOCABULARY, VOCABULARY + 1)
    assert adapted.report["new_tokens"] == 2
    assert table_of(model).shape[0] == VOCABULARY + 2
    old = dict(reference.named_parameters())
    for name, weight in model.named_parameters():
        assert torch.equal(weight[: len(old[name])], old[name]), name
        assert weight.requires_grad and weight.grad is None
    assert torch.equal(
        features(model, adapted.tokenizer, PLAIN), features(reference, tokenizer, PLAIN)
    )
    mean = table_of(reference)[list(adapted.extended.pieces[VOCABULARY])].mean(0)
    assert torch.allclose(table_of(model)[VOCABULARY], mean) == (rows == "mean")
    batch = adapted.tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert (batch["input_ids"] >= VOCABULARY).any()
    assert torch.isfinite(model(batch["input_ids"], batch["attention_mask"]).logits).all()


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("layers", [None, 2])
def test_least_squares_keeps_the_vectors_of_new_texts_better_than_the_mean(
    family: str, layers: int | None, tokenizer: Any, constructs: Constructs
) -> None:
    held_out = [text for text in planted(90, seed=9)[0] if "word1 word2" in text]
    before = features(tiny(family), tokenizer, held_out)

    def distance(rows: Any) -> tuple[float, Adapted]:
        adapted = adapt(
            tiny(family), tokenizer, constructs, TEXTS, rows=rows, contexts=20, layers=layers
        )
        found = features(adapted.model, adapted.tokenizer, held_out)
        return float((found - before).square().mean()), adapted

    mean, _ = distance("mean")
    fitted, adapted = distance("least_squares")
    report = adapted.report
    assert report["contexts"] >= 20
    assert report["error_after"] < 0.8 * report["error_before"]
    if layers is None:
        assert fitted < 0.8 * mean
    again = distance("least_squares")[1]
    assert torch.equal(table_of(again.model), table_of(adapted.model))


def test_the_error_is_the_distance_by_the_variance(tokenizer: Any, constructs: Constructs) -> None:
    model = tiny("bert")
    contexts = [text for text in TEXTS if "word1 word2" in text]
    before = features(model, tokenizer, contexts)
    fitted = adapt(model, tokenizer, constructs, contexts, contexts=100)
    after = features(fitted.model, fitted.tokenizer, contexts)
    scale = (before - before.mean(0)).square().sum()
    expected = (after - before).square().sum() / scale
    assert fitted.report["contexts"] == len(contexts)
    assert fitted.report["error_after"] == pytest.approx(float(expected), rel=1e-3)


def test_a_tied_head_stays_tied_and_an_untied_one_gets_the_means(
    tokenizer: Any, constructs: Constructs
) -> None:
    for tied in (True, False):
        config = tiny_config("llama")
        config.tie_word_embeddings = tied
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
        head = model.lm_head.weight.detach().clone()
        adapted = adapt(model, tokenizer, constructs, TEXTS)
        new = model.lm_head.weight
        assert new.shape[0] == VOCABULARY + 1 == model.config.vocab_size
        assert torch.equal(new[:VOCABULARY], head)
        assert (new.data_ptr() == model.model.embed_tokens.weight.data_ptr()) == tied
        if not tied:
            pieces = list(adapted.extended.pieces[VOCABULARY])
            assert torch.allclose(new[VOCABULARY], head[pieces].mean(0))
        ids = adapted.tokenizer(TEXTS[:2], return_tensors="pt", padding=True)
        assert model(ids["input_ids"]).logits.shape[-1] == VOCABULARY + 1


def test_spare_rows_are_used_before_new_ones_are_made(
    tokenizer: Any, constructs: Constructs
) -> None:
    model = tiny("bert")
    model.backbone.resize_token_embeddings(64, mean_resizing=False)  # type: ignore[operator]
    adapted = adapt(model, tokenizer, constructs, TEXTS, rows="mean")
    assert table_of(model).shape[0] == 64
    pieces = list(adapted.extended.pieces[VOCABULARY])
    assert torch.allclose(table_of(model)[VOCABULARY], table_of(model)[pieces].mean(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_adapted_folder_is_a_model_like_any_other(
    dtype: torch.dtype, tokenizer: Any, constructs: Constructs, tmp_path: Path
) -> None:
    model = tiny("bert")
    model.backbone.to(dtype)
    adapted = adapt(model, tokenizer, constructs, TEXTS)
    assert table_of(model).dtype == dtype
    adapted.tokenizer.save_pretrained(tmp_path)
    model.backbone.save_pretrained(tmp_path)  # type: ignore[operator]
    name = str(dtype).removeprefix("torch.")
    again = load(
        ModelConfig(name="x", source="path", id=str(tmp_path), dtype=name, max_length=32),  # type: ignore[arg-type]
        num_labels=3,
    )
    assert torch.equal(
        features(again.model, again.tokenizer, TEXTS), features(model, adapted.tokenizer, TEXTS)
    )


@pytest.mark.parametrize("name", sorted(names()))
def test_every_method_trains_an_adapted_model(
    name: str, tokenizer: Any, constructs: Constructs
) -> None:
    adapted = adapt(tiny("bert"), tokenizer, constructs, TEXTS, rows="mean")
    options = {"density": 0.1, "folds": 0} if name.startswith("sparse") else {}
    prepared = prepare(adapted.model, name, **options)
    batch = dict(adapted.tokenizer(TEXTS, padding=True, return_tensors="pt"))
    assert (batch["input_ids"] == VOCABULARY).any()
    losses = []
    optimizer = torch.optim.AdamW(prepared.body + prepared.head, lr=1e-2)
    for _ in range(4):
        loss = prepared.model(
            batch["input_ids"], batch["attention_mask"], torch.from_numpy(LABELS)
        ).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]


def test_new_rows_can_be_all_that_is_trained(tokenizer: Any, constructs: Constructs) -> None:
    model, reference = tiny("bert"), tiny("bert")
    adapted = adapt(model, tokenizer, constructs, TEXTS, rows="mean")
    before = table_of(model).detach().clone()
    selection = row_selection(model, adapted.new_ids)
    assert selection.trained == before.shape[1]
    sparseft.sparsify(model, selection)
    batch = adapted.tokenizer(TEXTS, padding=True, return_tensors="pt")
    optimizer = sparseft.optim.SparseAdamW(sparseft.trainable(model), lr=0.05)
    model(batch["input_ids"], batch["attention_mask"], torch.from_numpy(LABELS)).loss.backward()
    optimizer.step()
    after = table_of(model)
    assert torch.equal(after[:VOCABULARY], before[:VOCABULARY])
    assert not torch.equal(after[VOCABULARY], before[VOCABULARY])
    for name, weight in reference.backbone.named_parameters():
        if "word_embeddings" not in name:
            assert torch.equal(model.backbone.get_parameter(name), weight)


def test_new_rows_can_be_kept_by_a_method_that_trains_all(
    tokenizer: Any, constructs: Constructs
) -> None:
    adapted = adapt(tiny("bert"), tokenizer, constructs, TEXTS, rows="mean")
    model = adapted.model
    before = table_of(model).detach().clone()
    hook = keep_rows(model, adapted.new_ids)
    batch = adapted.tokenizer(TEXTS, padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.0)

    def step() -> None:
        optimizer.zero_grad()
        model(batch["input_ids"], batch["attention_mask"], torch.from_numpy(LABELS)).loss.backward()
        optimizer.step()

    step()
    assert torch.equal(table_of(model)[VOCABULARY], before[VOCABULARY])
    assert not torch.equal(table_of(model)[20], before[20])
    hook.remove()
    step()
    assert not torch.equal(table_of(model)[VOCABULARY], before[VOCABULARY])


def test_mined_constructs_go_straight_into_a_model(tokenizer: Any) -> None:
    mined = mine(TEXTS, LABELS, ("pair", "single", "none"), tokenizer, MiningSettings())
    adapted = adapt(tiny("llama"), tokenizer, mined, TEXTS)
    assert list(adapted.extended.names.values()) == ["word1 word2"]


def test_without_a_construct_nothing_changes(tokenizer: Any) -> None:
    model, reference = tiny("bert"), tiny("bert")
    adapted = adapt(model, tokenizer, constructs_of(tokenizer, []), TEXTS)
    assert adapted.new_ids == () and adapted.report["new_tokens"] == 0
    assert torch.equal(table_of(model), table_of(reference))


def test_texts_that_are_too_long_are_no_contexts(tokenizer: Any, constructs: Constructs) -> None:
    adapted = adapt(tiny("bert"), tokenizer, constructs, TEXTS, max_length=3)
    assert adapted.report["contexts"] == 0
    pieces = list(adapted.extended.pieces[VOCABULARY])
    table = table_of(adapted.model)
    assert torch.allclose(table[VOCABULARY], table[pieces].mean(0))


def test_wrong_arguments_are_refused_before_anything_changes(
    tokenizer: Any, constructs: Constructs
) -> None:
    model = tiny("bert")
    for settings in ({"rows": "luck"}, {"contexts": 0}, {"layers": 9}, {"count": 0}):
        with pytest.raises(ConfigError, match=r"expected .* got"):
            adapt(model, tokenizer, constructs, TEXTS, **settings)  # type: ignore[arg-type]
    sparseft.sparsify(model, row_selection(model, [7]))
    with pytest.raises(ModelError, match="before a method changes it"):
        adapt(model, tokenizer, constructs, TEXTS)
    assert table_of(model).shape[0] == VOCABULARY
