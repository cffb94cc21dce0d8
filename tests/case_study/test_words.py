"""Salient words: their weights are the library's, and one accident does not lead."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparseft.case_study.words import WeightedText, salient_words, weighted_texts
from sparseft.data import Split
from sparseft.reporting.predictor import Predictor
from sparseft.saliency import token_saliency
from tests.tiny import tiny, tiny_tokenizer


def test_weights_are_those_of_the_splits_own_labels() -> None:
    model, tokenizer = tiny("bert"), tiny_tokenizer()
    texts = ("word1 word2 word3", "", "word9 word8")
    split = Split(texts, np.array([2, 0, 1]), np.arange(3))
    predictor = Predictor(model, tokenizer, ["a", "b", "c"])
    found = weighted_texts(predictor, split, batch_size=2)
    assert [entry.text for entry in found] == list(texts)
    assert found[0].words == ("word1", "word2", "word3") and found[1].words == ()
    batch = tokenizer(texts[0], return_tensors="pt", return_token_type_ids=False)
    weights = token_saliency(model, {**batch, "labels": torch.tensor([2])})[0]
    assert found[0].weights == pytest.approx(weights[1:-1].tolist(), rel=1e-4)


def _texts(*entries: tuple[str, float]) -> list[WeightedText]:
    return [WeightedText(word, (word,), (weight,)) for word, weight in entries]


def test_a_rare_or_a_lucky_word_does_not_lead() -> None:
    found = _texts(
        ("accident", 50.0),
        *[("lucky", 4.0)] * 3,
        *[("steady", 3.5)] * 20,
        ("steady", 1.0),
        ("other", 1.0),
    )
    labels = np.array([0] * 24 + [1, 1])
    of_class, of_other = salient_words(found, labels, 2, count=5, least_texts=3)
    assert [word.word for word in of_class] == ["steady", "lucky"]
    steady = of_class[0]
    assert steady.weight == pytest.approx((20 * 3.5 + 3) / 23)
    assert (steady.texts, steady.elsewhere) == (20, 1.0)
    assert of_class[1].elsewhere is None
    assert of_other == ()
    first = salient_words(found, labels, 2, count=1, least_texts=1)[0]
    assert first[0].word == "accident"  # what the bound is there for


def test_a_word_counts_once_a_text_whatever_its_case() -> None:
    found = [WeightedText("Who who", ("Who", "who"), (3.0, 1.0))]
    (words,) = salient_words(found, np.array([0]), 1, count=5, least_texts=1)
    assert [(word.word, word.texts, word.weight) for word in words] == [("who", 1, 1.5)]


def test_several_labels_share_a_text() -> None:
    labels = np.array([[1, 1], [0, 1]])
    one, other = salient_words(_texts(("x", 2.0), ("x", 4.0)), labels, 2, count=1, least_texts=1)
    assert (one[0].texts, one[0].elsewhere) == (1, 4.0)
    assert (other[0].texts, other[0].elsewhere) == (2, None)
