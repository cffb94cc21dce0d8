"""Routers: what they want of the large model, and that they see nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from sparseft.errors import ConfigError, DataError
from sparseft.routing import Query, Router
from sparseft.routing.pools import Pool, build_pool
from sparseft.routing.routers import (
    AlwaysLarge,
    AlwaysSmall,
    Cascade,
    Chance,
    Classifier,
    MajorityVote,
    Oracle,
    SimilarityRanking,
    Verifier,
    WeightedVote,
)
from tests.routing.fakes import Bag

_EASY, _HARD = "please book a table", "no not that one the other"


def _pool(hard: int = 10, easy: int = 30) -> Pool:
    texts = [(_HARD, True)] * hard + [(_EASY, False)] * easy
    queries = [Query(str(k), f"{text} {k}", str(k), None, "a") for k, (text, _) in enumerate(texts)]
    large = [is_large for _, is_large in texts]
    return build_pool(queries, [not each for each in large], [True] * len(texts))


_ASKED = [Query("q0", _EASY + " now", "q"), Query("q1", _HARD + " now", "q")]


@pytest.mark.parametrize("make", [MajorityVote, WeightedVote, Classifier, SimilarityRanking])
def test_what_is_like_hard_exemplars_wants_the_large_model(make: type) -> None:
    router = make(_pool(), Bag())
    assert isinstance(router, Router) and not router.needs_confidence
    easy, hard = router.scores(_ASKED)
    assert hard > easy and 0 <= easy <= hard <= 1
    assert router.scores([]).shape == (0,)


def test_the_majority_is_the_share_of_the_k_nearest() -> None:
    easy, hard = MajorityVote(_pool(), Bag(), k=10).scores(_ASKED)
    assert (easy, hard) == (0.0, 1.0)
    pool = _pool(hard=2, easy=2)
    assert MajorityVote(pool, Bag(), k=4).scores(_ASKED).tolist() == [0.5, 0.5]


def test_an_even_vote_does_not_decide_beforehand() -> None:
    far = [Query("q", "zzz", "q")]  # like nothing in the pool
    (even,) = WeightedVote(_pool(), Bag(), k=40, temperature=5.0).scores(far)
    (plain,) = WeightedVote(_pool(), Bag(), k=40, temperature=5.0, even=False).scores(far)
    assert even == pytest.approx(0.5, abs=0.05) and plain == pytest.approx(0.25, abs=0.05)


def test_a_verifier_looks_at_the_answer() -> None:
    queries, right = [], []
    for k in range(40):
        good = k % 3 > 0
        answer = f"area north{k}" if good else f"area guess{k * 7}"
        queries.append(Query(str(k), f"somewhere in north{k}", str(k), None, answer))
        right.append(good)
    router = Verifier(build_pool(queries, right, [True] * 40), Bag())
    assert router.needs_confidence
    copied, made_up = router.scores(
        [
            Query("a", "somewhere in north99", "a", None, "area north99"),
            Query("b", "somewhere in north99", "b", None, "area guess5"),
        ]
    )
    assert made_up > copied
    with pytest.raises(DataError, match="without an answer"):
        Verifier(build_pool(_ASKED, [True, False], [True, True]), Bag())


def test_the_simple_ones() -> None:
    assert AlwaysSmall().scores(_ASKED).tolist() == [0, 0]
    assert AlwaysLarge().scores(_ASKED).tolist() == [1, 1]
    assert Oracle({"q0": False, "q1": True}).scores(_ASKED).tolist() == [0, 1]
    with pytest.raises(DataError, match="q1"):
        Oracle({"q0": False}).scores(_ASKED)
    many = [Query(str(k), "", "") for k in range(4000)]
    drawn = Chance(3).scores(many)
    assert (drawn >= 0.7).mean() == pytest.approx(0.3, abs=0.03)
    assert (drawn == Chance(3).scores(many)).all() and (drawn != Chance(4).scores(many)).any()
    sure = [Query("a", "", "", -0.1), Query("b", "", "", -2.0), Query("c", "", "", None)]
    assert np.argsort(Cascade().scores(sure)).tolist() == [0, 1, 2]


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 or more neighbours"):
        MajorityVote(_pool(), Bag(), k=0)
    with pytest.raises(ConfigError, match="temperature above 0"):
        WeightedVote(_pool(), Bag(), temperature=0)
    with pytest.raises(DataError, match="both sides"):
        Classifier(_pool(hard=0), Bag())
