"""Comparisons pooled over data sets, against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from sparseft.errors import ResultError
from sparseft.reporting.pooled import compare_pooled
from sparseft.reporting.statistics import RowScores


def _scores(share: float, rows: int, seed: int, ids: np.ndarray | None = None) -> RowScores:
    correct = np.random.default_rng(seed).random(rows) < share
    places = np.arange(rows) if ids is None else ids
    return RowScores.of(places, np.zeros(rows, np.int64), np.where(correct, 0, 1))


def _method(share: float, offset: int) -> dict[str, dict[int, RowScores]]:
    rows = {"small": 50, "large": 400}
    return {
        data: {seed: _scores(share, n, 100 * seed + offset) for seed in range(4)}
        for data, n in rows.items()
    }


def test_data_sets_count_alike_whatever_their_size() -> None:
    reference = _method(0.5, 0)
    other = {"better": _method(0.5, 0)}
    # Only the small data set is better, by one row in five.
    other["better"]["small"] = {
        seed: RowScores(s.ids, np.maximum(s.numerator, s.ids % 5 == 0), s.denominator)
        for seed, s in reference["small"].items()
    }
    gain = np.mean(
        [other["better"]["small"][s].value - reference["small"][s].value for s in range(4)]
    )
    found = compare_pooled(reference, other, resamples=500)["better"]
    assert found.difference == pytest.approx(gain / 2)
    assert found.low <= found.difference <= found.high and found.low > 0
    assert found.seeds == 8


def test_equal_methods_are_equal_and_a_clear_gap_is_found() -> None:
    reference = _method(0.5, 0)
    found = compare_pooled(reference, {"same": reference, "worse": _method(0.2, 1)}, resamples=999)
    assert (found["same"].difference, found["same"].p) == (0.0, 1.0)
    assert found["worse"].high < -0.15 and found["worse"].p_holm <= 0.01
    again = compare_pooled(reference, {"worse": _method(0.2, 1)}, resamples=999)
    assert again["worse"].low == found["worse"].low  # no matter who else is compared


def test_only_what_both_have_counts() -> None:
    reference = _method(0.5, 0)
    partial = {"large": {2: _method(0.5, 3)["large"][2]}, "unknown": {}}
    found = compare_pooled(reference, {"partial": partial, "none": {}}, resamples=99)
    assert set(found) == {"partial"} and found["partial"].seeds == 1
    expected = partial["large"][2].value - reference["large"][2].value
    assert found["partial"].difference == pytest.approx(expected)


def test_different_test_rows_are_refused() -> None:
    reference = _method(0.5, 0)
    other = {"large": {0: _scores(0.5, 400, 1, np.arange(400) + 7)}}
    with pytest.raises(ResultError, match="same rows of large, seed 0"):
        compare_pooled(reference, {"moved": other}, resamples=9)
