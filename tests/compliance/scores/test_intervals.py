"""Intervals against scipy's, at their ends, and the bootstrap by transcript."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest

from sparseft.compliance.scores import clopper_pearson, wilson
from sparseft.compliance.scores.intervals import Sheet, proportion, two_sided_p
from sparseft.errors import ConfigError

_COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(_COUNTS)
def test_intervals_are_those_of_scipy_and_hold_the_rate(counts: tuple[int, int]) -> None:
    hits, total = counts
    theirs = binomtest(hits, total)
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        low, high = ours(hits, total)
        expected = theirs.proportion_ci(method=method)
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
        assert low <= hits / total <= high


def test_the_ends_are_no_points() -> None:
    assert wilson(0, 53)[0] == 0.0 and 0.06 < wilson(0, 53)[1] < 0.07
    assert wilson(53, 53)[1] == 1.0 and wilson(53, 53)[0] == pytest.approx(0.9324, abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_exact_intervals_of_mean_counts() -> None:
    low, high = clopper_pearson(10.5, 20.0)
    assert low == pytest.approx(beta.ppf(0.025, 10.5, 10.5), abs=1e-9)
    assert high == pytest.approx(beta.ppf(0.975, 11.5, 9.5), abs=1e-9)


def test_more_runs_are_no_more_transcripts() -> None:
    one, three = proportion(45, 50), proportion(135, 150, runs=3)
    assert (one["low"], one["high"]) == (three["low"], three["high"])
    assert proportion(0, 0) == {"value": None, "low": None, "high": None, "count": 0, "total": 0}


@pytest.mark.parametrize("counts", [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="0 <= successes <= total"):
        wilson(*counts)
    with pytest.raises(ConfigError, match="0 <= successes <= total"):
        clopper_pearson(*counts)


def _mean_sheet(values: list[float], cluster: list[int] | None = None) -> Sheet:
    sheet, places = Sheet(), np.array(cluster or range(len(values)))
    sheet.add("sum", np.array(values), places)
    sheet.add("rows", np.ones(len(values)), places)
    return sheet


def test_the_bootstrap_is_seeded_and_near_the_normal_interval() -> None:
    values = np.random.default_rng(3).random(400)
    found = [
        _mean_sheet(list(values)).resample(2000, seed).estimate(lambda s: s["sum"] / s["rows"])
        for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]
    half = 1.96 * values.std() / 20
    assert found[0]["low"] == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found[0]["high"] == pytest.approx(values.mean() + half, abs=0.15 * half)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 5))
def test_the_interval_of_a_mean_holds_it(values: list[float], seed: int) -> None:
    found = _mean_sheet(values).resample(400, seed).estimate(lambda s: s["sum"] / s["rows"])
    assert found["low"] <= found["value"] + 1e-12 and found["value"] <= found["high"] + 1e-12


def test_rows_of_one_transcript_are_drawn_together() -> None:
    # Each transcript four times: as uncertain as each once.
    values = list(np.random.default_rng(0).integers(0, 2, 40).astype(float))
    once = _mean_sheet(values).resample(500, 0).estimate(lambda s: s["sum"] / s["rows"])
    four = (
        _mean_sheet(values * 4, list(range(40)) * 4)
        .resample(500, 0)
        .estimate(lambda s: s["sum"] / s["rows"])
    )
    assert four == pytest.approx(once)


def test_p_is_small_only_for_what_lies_on_one_side() -> None:
    assert two_sided_p(np.full(1999, 0.1)) == 2 / 2000
    assert two_sided_p(np.zeros(1999)) == 1.0
    assert two_sided_p(np.array([1.0, -1.0] * 50)) == 1.0


def test_large_samples_are_drawn_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    def low(rows: int) -> dict[str, float]:
        sheet = _mean_sheet(list(np.arange(rows) / rows))
        return sheet.resample(50, 0).estimate(lambda s: s["sum"] / s["rows"])

    whole = low(30)
    monkeypatch.setattr("sparseft.compliance.scores.intervals._CHUNK_ELEMENTS", 200)
    assert low(30) == pytest.approx(whole)
