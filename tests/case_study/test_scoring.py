"""Recall and probabilities as counted by hand; the scorer answers as the model itself does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparseft.case_study.examples import chosen_rows
from sparseft.case_study.scoring import Scored, Scorer, class_membership, drawn
from sparseft.data import Split
from sparseft.reporting.predictor import Predictor
from tests.case_study.helpers import sparse_tiny
from tests.tiny import tiny, tiny_tokenizer

LABELS = ["a", "b", "c"]


def _scored() -> Scored:
    gold = class_membership(np.array([0, 0, 0, 0, 1, 1]), 3)
    probability = np.array(
        [
            [0.9, 0.1, 0.0],
            [0.5, 0.4, 0.1],
            [0.4, 0.6, 0.0],
            [0.2, 0.0, 0.8],
            [0.1, 0.7, 0.2],
            [0.6, 0.3, 0.1],
        ]
    )
    return Scored(gold, probability, multi_label=False)


def test_measures_are_those_counted_by_hand() -> None:
    scored = _scored()
    assert scored.accuracy == pytest.approx(3 / 6)
    assert scored.rows.tolist() == [4, 2, 0]
    assert scored.recall()[:2].tolist() == [0.5, 0.5] and np.isnan(scored.recall()[2])
    assert scored.recall_of_others().tolist() == [0.5, 0.5, 0.5]
    assert scored.gold_probability()[0] == pytest.approx((0.9 + 0.5 + 0.4 + 0.2) / 4)


def test_several_labels_count_one_by_one() -> None:
    gold = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]], bool)
    probability = np.array([[0.9, 0.2, 0.1], [0.4, 0.8, 0.7], [0.1, 0.1, 0.3]])
    scored = Scored(gold, probability, multi_label=True)
    assert scored.recall()[:2].tolist() == [1.0, 0.5]
    assert scored.recall_of_others()[0] == 0.5  # one of two rows of b, none of c
    assert scored.accuracy == pytest.approx(1 / 3)
    assert scored.certainty() == pytest.approx([0.8, 0.6, 0.7])


def test_the_three_texts_are_the_surest_and_the_least_sure_right_and_the_surest_wrong() -> None:
    assert chosen_rows(_scored()) == [
        ("right and sure", 0),
        ("right and unsure", 1),
        ("wrong", 3),
    ]


def test_a_kind_without_a_row_is_left_out() -> None:
    gold = class_membership(np.array([0, 1]), 2)
    one_right = Scored(gold, np.array([[0.9, 0.1], [0.8, 0.2]]), multi_label=False)
    assert chosen_rows(one_right) == [("right and sure", 0), ("wrong", 1)]
    all_wrong = Scored(gold, np.array([[0.1, 0.9], [0.8, 0.2]]), multi_label=False)
    assert chosen_rows(all_wrong) == [("wrong", 0)]


@pytest.mark.parametrize("sparse", [True, False], ids=["cached prefix", "no prefix"])
def test_the_scorer_answers_as_the_model_does(sparse: bool) -> None:
    model = sparse_tiny() if sparse else tiny("bert")
    model.head.weight.data.mul_(10)  # else every text would get nearly the same answer
    tokenizer = tiny_tokenizer()
    texts = ("word1 word2 word3", "word9", "word4 word5 word6 word7", "word12 word40")
    split = Split(texts, np.array([0, 1, 2, 1]), np.arange(4))
    scorer = Scorer(Predictor(model, tokenizer, LABELS), split, batch_size=2)
    assert (scorer._cache is not None) == sparse
    found = scorer.score()
    for text, row in zip(texts, found.probability, strict=True):
        encoded = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            expected = model(**encoded).logits.softmax(-1)[0]
        assert row == pytest.approx(expected.numpy(), abs=1e-5)
    assert np.ptp(found.probability[:, 0]) > 1e-3
    model.head.bias.data[0] += 1.0
    assert (scorer.score().probability[:, 0] > found.probability[:, 0]).all()


def test_a_drawn_split_keeps_the_shares_of_the_classes() -> None:
    split = Split(tuple("abcdefghij"), np.array([0] * 8 + [1] * 2), np.arange(10))
    found = drawn(split, 5, np.random.default_rng(0))
    assert np.bincount(found.labels).tolist() == [4, 1]
    assert drawn(split, 10, np.random.default_rng(0)) is split
