"""Splits, held-out scores and thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.errors import ConfigError, DataError
from sparseft.routing import Query, dialogues_of
from sparseft.routing.pools import Pool, build_pool
from sparseft.routing.scores import Ends, Measured, aiq, interval, points_of, resample
from sparseft.routing.study import halves, held_out_scores, thresholds
from tests.routing.fakes import dialogue


def test_every_dialogue_is_tested_once() -> None:
    found = dialogues_of([turn for k in range(7) for turn in dialogue(f"d{k}", [{}])])
    one, two = halves(found, seed=3)
    assert set(one.pool) == set(two.test) and set(one.test) == set(two.pool)
    assert set(one.pool).isdisjoint(one.test) and len(one.pool) + len(one.test) == 7
    assert list(halves(found, seed=3)[0].pool) == list(one.pool)
    with pytest.raises(DataError, match="two dialogues"):
        halves({"d": []}, 0)


def test_held_out_scores_come_from_pools_without_the_dialogue() -> None:
    queries = [Query(str(k), "", f"g{k // 3}") for k in range(30)]
    pool = build_pool(queries, [k % 2 == 0 for k in range(30)], [True] * 30)

    class Knows:
        name, needs_confidence = "knows", False

        def __init__(self, own: Pool) -> None:
            self.groups = {exemplar.query.group for exemplar in own.exemplars}

        def scores(self, asked: list[Query]) -> np.ndarray:
            return np.array([float(query.group in self.groups) for query in asked])

    assert held_out_scores(pool, Knows, queries, seed=0).tolist() == [0.0] * 30  # type: ignore[arg-type]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.floats(0, 1))
def test_a_threshold_gives_its_share_as_nearly_as_ties_allow(
    values: list[float], rate: float
) -> None:
    scores = np.array(values)
    (threshold,) = thresholds(scores, [rate])
    share = (scores >= threshold).mean()
    best = min(abs((scores >= t).mean() - rate) for t in (*scores, np.inf))
    assert abs(share - rate) <= best + 1 / len(scores)


def test_the_ends_send_none_and_all() -> None:
    low, high = thresholds(np.array([0.3, 0.3, 0.9]), [0.0, 1.0])
    assert low == float("inf") and high == float("-inf")
    with pytest.raises(ConfigError, match="from 0 to 1"):
        thresholds(np.zeros(2), [1.5])


def test_an_interval_draws_whole_dialogues() -> None:
    groups = [f"g{k // 5}" for k in range(100)]
    weights = resample(groups, 200, seed=0)
    assert (weights.reshape(200, 20, 5) == weights.reshape(200, 20, 5)[:, :, :1]).all()
    rng = np.random.default_rng(0)
    small = Measured(rng.random((1, 100)) < 0.5, np.zeros((1, 100), bool), np.ones((1, 100)))
    large = Measured(rng.random((1, 100)) < 0.8, np.ones((1, 100), bool), np.full((1, 100), 5.0))
    both = Measured(
        np.vstack([small.right, large.right]),
        np.vstack([small.large, large.large]),
        np.vstack([small.cost, large.cost]),
    )
    ends = Ends(points_of(small)[0], points_of(large)[0])
    low, high = interval([both], small, large, lambda p, e: aiq(p[0], e), weights)
    assert low < aiq(points_of(both), ends) < high
