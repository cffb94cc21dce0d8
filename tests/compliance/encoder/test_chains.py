"""Chains are learned, fitted, read together with what they are given, and written."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from sparseft.compliance.encoder.chains import Chains, Seen, fit_chains, learn_chains
from sparseft.errors import ConfigError

_ALONE = np.zeros(1)


def test_what_follows_in_training_is_believed_where_the_reader_doubts() -> None:
    lists = [[1, 2]] * 50 + [[2]] * 2
    chains = learn_chains(lists, [0] * len(lists), 2, 1)
    unsure = np.log(np.array([[0.05, 0.9, 0.05], [0.9, 0.03, 0.07], [0.6, 0.1, 0.3]]))
    assert Chains.independent(2).of[0].path(unsure).tolist() == [1, 0, 0]
    assert chains.of[0].path(unsure).tolist() == [1, 0, 2]
    assert np.abs(learn_chains([], [], 2, 1).follows).max() == pytest.approx(0)


def test_the_list_tells_what_it_was_given_and_the_other_way_round() -> None:
    lists, given = [[1, 2]] * 30 + [[1, 3]] * 30, [0] * 30 + [1] * 30
    chains = learn_chains(lists, given, 3, 2)
    tags = [[0.1, 0.8, 0.05, 0.05], [0.2, 0.05, 0.35, 0.4]]  # the second item could be either
    unsure = np.log(np.array(tags))
    for prior, item in ((0.9, 2), (0.1, 3)):
        posterior = chains.posterior(unsure, np.log(np.array([prior, 1 - prior])))
        assert chains.of[int(posterior.argmax())].path(unsure).tolist() == [1, item]
    sure = np.log(np.array([[0.1, 0.8, 0.05, 0.05], [0.01, 0.01, 0.01, 0.97]]))
    even = np.log(np.array([0.6, 0.4]))
    posterior = chains.posterior(sure, even)
    assert posterior[1] > 0.8 and posterior.sum() == pytest.approx(1)
    every = [[a, b] for a in (1, 2, 3) for b in (1, 2, 3) if a != b] + [[], [1], [2], [3]]
    assert sum(chains.chance(sure, posterior, each) for each in every) == pytest.approx(1)


def test_a_value_never_seen_falls_back_on_all_of_them() -> None:
    lists = [[1, 2]] * 40
    chains = learn_chains(lists, [0] * 40, 2, 2)
    probable = chains.follows > 0
    np.testing.assert_allclose(
        chains.follows[0][probable[0]], chains.follows[1][probable[1]], atol=0.1
    )
    assert (probable[0] == probable[1]).all() and probable[1][1, 1]


def test_the_fitted_chain_makes_the_true_lists_likelier() -> None:
    rng = np.random.default_rng(0)
    lists = [[1, 2] if each else [2] for each in rng.random(60) < 0.8]
    learned = learn_chains(lists, [0] * 60, 2, 1)
    seen = []
    for items in lists[:30]:
        scores = np.full((6, 3), -1.0)
        scores[:, 0] = 3.0
        for place, item in zip((1, 4) if len(items) == 2 else (4,), items, strict=True):
            scores[place, item] = 2.0  # an overconfident "nothing"
        seen.append(Seen(scores, _ALONE, items, 0))

    def likelihood(chains: Chains) -> float:
        one = np.ones(1)
        return sum(math.log(chains.chance(each.scores, one, each.items)) for each in seen)

    fitted = fit_chains(learned, seen)
    assert likelihood(fitted) > likelihood(Chains.independent(2)) + 10
    assert fitted.boost > 0
    assert fit_chains(learned, []) is learned


def test_chains_are_written_and_read_again() -> None:
    chains = learn_chains([[1, 2], [2, 1, 2]], [0, 1], 2, 2)
    again = Chains.from_json(json.loads(json.dumps(chains.to_json())))
    np.testing.assert_allclose(again.follows, chains.follows, atol=1e-4)
    for broken in ({}, {"follows": [[1, 2]], "heat": 1, "weight": 1, "boost": 0}, None):
        with pytest.raises(ConfigError, match="finetune again"):
            Chains.from_json(broken)  # type: ignore[arg-type]
