"""The chain against the sum over all tag sequences, written out."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparseft.compliance.encoder.chain import Chain

_ITEMS = 2


def _list_of(tags: tuple[int, ...]) -> tuple[int, ...]:
    before = (0, *tags[:-1])
    return tuple(t for t, b in zip(tags, before, strict=True) if t and t != b)


def _weights(chain: Chain, scores: np.ndarray) -> dict[tuple[int, ...], float]:
    """The weight of every tag sequence, from the definition."""
    heated = scores / chain.heat
    sure = heated - np.log(np.exp(heated).sum(axis=1, keepdims=True))
    found = {}
    for tags in itertools.product(range(_ITEMS + 1), repeat=len(scores)):
        total, last, before = 0.0, 0, 0
        for row, tag in zip(sure, tags, strict=True):
            total += row[tag]
            if tag and tag != before:
                total += chain.weight * chain.follows[last, tag - 1] + chain.boost
                last = tag
            before = tag
        found[tags] = total + chain.weight * chain.follows[last, _ITEMS]
    return found


@st.composite
def _cases(draw: st.DrawFn) -> tuple[Chain, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    length = draw(st.integers(1, 5))
    follows = rng.normal(size=(_ITEMS + 1, _ITEMS + 1))
    chain = Chain(
        follows, draw(st.sampled_from([1.0, 2.0])), draw(st.sampled_from([0.0, 0.7])), 0.4
    )
    return chain, rng.normal(size=(length, _ITEMS + 1)) * 2


@settings(max_examples=40)
@given(_cases())
def test_path_and_likelihood_are_those_of_all_sequences(case: tuple[Chain, np.ndarray]) -> None:
    chain, scores = case
    weights = _weights(chain, scores)
    assert tuple(chain.path(scores)) == max(weights, key=lambda tags: weights[tags])
    whole = math.log(sum(map(math.exp, weights.values())))
    by_list: dict[tuple[int, ...], float] = Counter()
    for tags, weight in weights.items():
        by_list[_list_of(tags)] += math.exp(weight - whole)
    assert sum(by_list.values()) == pytest.approx(1)
    assert chain.log_weight(scores) == pytest.approx(whole)
    for items, share in by_list.items():
        found = math.exp(chain.log_weight_of(scores, items) - whole)
        assert found == pytest.approx(share, abs=1e-12)
    assert chain.log_weight_of(scores, [1] * 9) < -1e8


def test_draws_come_as_often_as_they_are_likely() -> None:
    rng = np.random.default_rng(0)
    chain = Chain(rng.normal(size=(3, 3)), boost=0.5)
    scores = rng.normal(size=(3, 3))
    weights = _weights(chain, scores)
    whole = math.log(sum(map(math.exp, weights.values())))
    drawn = Counter(map(tuple, chain.draws(scores, np.random.default_rng(1), 20_000).tolist()))
    for tags, weight in weights.items():
        share = math.exp(weight - whole)
        assert drawn[tags] / 20_000 == pytest.approx(share, abs=0.012)


def test_a_chain_that_changes_nothing_reads_each_segment_for_itself() -> None:
    scores = np.random.default_rng(3).normal(size=(6, _ITEMS + 1))
    assert (Chain(np.zeros((_ITEMS + 1, _ITEMS + 1))).path(scores) == scores.argmax(axis=1)).all()
    never = np.full((1, 3), -np.inf)
    never[0, 0] = 0.0
    assert Chain(np.zeros((_ITEMS + 1, _ITEMS + 1))).path(never).tolist() == [0]
    assert Chain(np.zeros((_ITEMS + 1, _ITEMS + 1))).path(np.zeros((0, 3))).tolist() == []
