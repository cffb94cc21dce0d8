"""Predictions equal the model's own, whatever the batch; saliency is that of the library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sparseft.data import Split
from sparseft.errors import ConfigError, DeltaError
from sparseft.reporting.examples import write_examples
from sparseft.reporting.predictor import Prediction, Predictor, load
from sparseft.saliency import token_saliency
from tests.report.delta_folder import LABELS, model_section, save_delta, trained
from tests.tiny import tiny, tiny_tokenizer

TEXTS = [
    "word1 word2 word3",
    "word9",
    "word4 word5 word6 word7 word8 word10 word11",
    "word12 word13",
    "word20 word21 word22 word23",
]


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_loaded_delta_answers_as_the_trained_model_did(family: str, tmp_path: Path) -> None:
    predictor = load(save_delta(tmp_path, family), device="cpu")
    loaded = trained(model_section(tmp_path / "again", family))
    for text, found in zip(TEXTS, predictor.predict(TEXTS), strict=True):
        row = loaded.tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        probabilities = loaded.model(**row).logits.detach().softmax(-1)[0]
        assert found.labels == (LABELS[int(probabilities.argmax())],)
        assert found.probabilities[0] == pytest.approx(float(probabilities.max()), abs=1e-5)
    shown = {round(found.probabilities[0], 3) for found in predictor.predict(TEXTS)}
    assert len(shown) == len(TEXTS)  # else equality would show nothing


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_batch_size_and_order_change_no_answer(family: str) -> None:
    predictor = Predictor(tiny(family), tiny_tokenizer(), LABELS)
    together = predictor.predict(TEXTS, batch_size=5, saliency=True)
    alone = predictor.predict(TEXTS, batch_size=1, saliency=True)
    backwards = predictor.predict(TEXTS[::-1], batch_size=2, saliency=True)[::-1]
    for one, other, third in zip(together, alone, backwards, strict=True):
        assert one.labels == other.labels == third.labels
        assert one.words == other.words == third.words
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert one.saliency == pytest.approx(other.saliency, abs=1e-3)
        assert one.saliency == pytest.approx(third.saliency, abs=1e-3)


def test_saliency_is_that_of_the_predicted_label() -> None:
    model, tokenizer = tiny("bert"), tiny_tokenizer()
    (found,) = Predictor(model, tokenizer, LABELS).predict(TEXTS[:1], saliency=True)
    batch = tokenizer(TEXTS[:1], return_tensors="pt", return_token_type_ids=False)
    labels = torch.tensor([LABELS.index(found.labels[0])])
    weights = token_saliency(model, {**batch, "labels": labels})[0]
    assert found.words == ("word1", "word2", "word3")
    assert found.saliency == pytest.approx(weights[1:-1].tolist(), rel=1e-4)
    order = sorted(range(3), key=lambda place: -found.saliency[place])
    assert [word for word, _ in found.salient(2)] == [found.words[place] for place in order[:2]]


def test_several_labels_are_those_above_one_half() -> None:
    model, tokenizer = tiny("bert", multi_label=True), tiny_tokenizer()
    model.head.bias.data = torch.tensor([5.0, -5.0, 4.0])
    (found,) = Predictor(model, tokenizer, LABELS).predict(TEXTS[:1], saliency=True)
    assert found.labels == (LABELS[0], LABELS[2])
    assert found.probabilities[0] > found.probabilities[1] > 0.9
    model.head.bias.data = torch.full((3,), -5.0)
    assert Predictor(model, tokenizer, LABELS).predict(TEXTS[:1])[0].labels == ()


def test_a_text_without_tokens_gets_no_label_and_the_others_theirs() -> None:
    predictor = Predictor(tiny("llama"), tiny_tokenizer(), LABELS)
    found = predictor.predict(["", TEXTS[0], "  \t"], saliency=True)
    assert found[0] == found[2] == Prediction((), ())
    assert found[1].labels == predictor.predict([TEXTS[0]])[0].labels
    assert predictor.predict([]) == []


def test_long_texts_are_cut_and_the_mode_is_put_back() -> None:
    model = tiny("bert").train()
    predictor = Predictor(model, tiny_tokenizer(), LABELS, max_length=6)
    (found,) = predictor.predict([" ".join(f"word{n}" for n in range(30))], saliency=True)
    assert found.words == ("word0", "word1", "word2", "word3")
    assert model.training


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 label names"):
        Predictor(tiny("bert"), tiny_tokenizer(), ["a"])
    with pytest.raises(ConfigError, match="batch size"):
        Predictor(tiny("bert"), tiny_tokenizer(), LABELS).predict(TEXTS, batch_size=0)


def test_the_runs_folder_will_do_and_others_are_refused(tmp_path: Path) -> None:
    delta = save_delta(tmp_path)
    assert load(delta.parent, "cpu").label_names == tuple(LABELS)
    with pytest.raises(DeltaError, match=r"config\.json"):
        load(tmp_path / "nowhere", "cpu")
    bare = save_delta(tmp_path / "bare", label_names=None)
    with pytest.raises(DeltaError, match="label_names"):
        load(bare, "cpu")


def _split(rows: int, multi_label: bool = False) -> Split:
    rng = np.random.default_rng(0)
    texts = tuple(
        " ".join(f"word{n}" for n in rng.integers(0, 50, rng.integers(1, 9))) for _ in range(rows)
    )
    labels = (
        rng.integers(0, 2, (rows, 3)).astype(np.uint8) if multi_label else rng.integers(0, 3, rows)
    )
    return Split(texts, labels, np.arange(rows))


def test_examples_are_varied_and_hold_some_mistakes(tmp_path: Path) -> None:
    model, tokenizer, split = tiny("bert"), tiny_tokenizer(), _split(60)
    model.head.weight.data.mul_(40)
    path = write_examples(model, tokenizer, split, LABELS, tmp_path / "examples.json", seed=1)
    entries = json.loads(path.read_text())
    assert len(entries) == 8
    assert {entry["label"] for entry in entries} == set(LABELS)
    assert sum(entry["label"] != entry["prediction"] for entry in entries) == 2
    for entry in entries:
        place = split.texts.index(entry["text"])
        assert entry["label"] == LABELS[split.labels[place]]
        assert entry["tokens"] == entry["text"].split()
        assert len(entry["saliency"]) == len(entry["tokens"])
        assert min(entry["saliency"]) >= 0
    again = write_examples(model, tokenizer, split, LABELS, tmp_path / "again.json", seed=1)
    other = write_examples(model, tokenizer, split, LABELS, tmp_path / "other.json", seed=2)
    assert again.read_text() == path.read_text() != other.read_text()


def test_examples_of_few_rows_and_of_several_labels(tmp_path: Path) -> None:
    model, tokenizer = tiny("bert", multi_label=True), tiny_tokenizer()
    path = write_examples(model, tokenizer, _split(3, True), LABELS, tmp_path / "examples.json")
    entries = json.loads(path.read_text())
    assert len(entries) == 3
    named = {*LABELS, "none"}
    assert all(set(entry["label"].split(" + ")) <= named for entry in entries)
