"""Pools: who speaks for whom, what is refused, and what is kept on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparseft.errors import DataError
from sparseft.routing import Query
from sparseft.routing.pools import build_pool, load_pool

_QUERIES = [Query(str(k), f"text {k}", f"group {k // 2}", -0.5, "answer") for k in range(6)]
_SMALL = [True, True, False, False, True, False]
_LARGE = [True, False, True, False, True, True]


def test_both_right_speaks_for_the_small_and_neither_is_dropped() -> None:
    pool = build_pool(_QUERIES, _SMALL, _LARGE, provenance={"data": "made up"})
    assert [e.query.id for e in pool.exemplars] == ["0", "1", "2", "4", "5"]
    assert pool.large.tolist() == [False, False, True, False, True]
    facts = {"queries": 6, "groups": 3, "small": 3, "large": 2, "dropped": 1, "data": "made up"}
    assert pool.provenance == facts


def test_a_balanced_pool_has_as_many_of_either_side() -> None:
    pool = build_pool(_QUERIES, _SMALL, _LARGE).balanced(seed=1)
    assert pool.large.sum() == 2 and len(pool) == 4
    assert pool.exemplars == build_pool(_QUERIES, _SMALL, _LARGE).balanced(seed=1).exemplars
    assert pool.provenance["balanced"] == {"seed": 1, "each": 2}


def test_a_pool_is_written_and_read_again(tmp_path: Path) -> None:
    pool = build_pool(_QUERIES, _SMALL, _LARGE, states=[{"a-b": str(k)} for k in range(6)])
    pool.save(tmp_path / "pool.json")
    assert load_pool(tmp_path / "pool.json") == pool


def test_bad_pools_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither model was trained on"):
        build_pool(_QUERIES, _SMALL, _LARGE, trained_on=["group 1"])
    with pytest.raises(DataError, match="got none of 6"):
        build_pool(_QUERIES, [False] * 6, [False] * 6)
    with pytest.raises(DataError, match="align them"):
        build_pool(_QUERIES, [True], [True])
    for text in ("[]", "{}", '{"format": "x"}', "no json"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError):
            load_pool(tmp_path / "bad.json")
    with pytest.raises(DataError):
        load_pool(tmp_path / "none.json")
