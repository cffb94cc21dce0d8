"""Scores against scipy, sklearn and the formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, hypergeom
from sklearn.metrics import mutual_info_score

from sparseft.constructs.scores import (
    bh_q_values,
    fisher_p_values,
    log_odds_z,
    mutual_information,
)


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """y, k, n, total of a possible table."""
    total = draw(st.integers(1, 3000))
    k, n = draw(st.integers(0, total)), draw(st.integers(0, total))
    y = draw(st.integers(max(0, k + n - total), min(k, n)))
    return y, k, n, total


@given(tables())
def test_the_exact_test_is_the_hypergeometric_tail(table: tuple[int, int, int, int]) -> None:
    y, k, n, total = table
    found = fisher_p_values(_ints(y), _ints(k), _ints(n), total)[0]
    if y * total <= k * n:
        assert found == 1.0
    else:
        expected = max(float(hypergeom.sf(y - 1, total, n, k)), 1e-300)
        assert found == pytest.approx(expected, rel=1e-7)


def test_tables_of_different_totals_are_computed_together() -> None:
    y, k, n, total = _ints(3, 3, 3), _ints(3, 4, 3), _ints(5, 5, 5), _ints(10, 20, 30)
    together = fisher_p_values(y, k, n, total)
    alone = [fisher_p_values(y[[i]], k[[i]], n[[i]], int(total[i]))[0] for i in range(3)]
    assert together.tolist() == alone
    assert together[0] == pytest.approx(10 / 120)  # C(5, 3) / C(10, 3)


def test_a_p_value_below_the_doubles_is_not_zero() -> None:
    p = fisher_p_values(_ints(5000), _ints(5000), _ints(5000), 100_000)
    assert 0 < p[0] <= 1e-299


@given(st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=30), st.integers(0, 50))
def test_q_values_are_those_of_benjamini_and_hochberg(p: list[float], others: int) -> None:
    found = bh_q_values(np.array(p), len(p) + others)
    expected = false_discovery_control([*p, *[1.0] * others], method="bh")[: len(p)]
    assert found == pytest.approx(expected)


def test_the_log_odds_are_those_of_the_paper() -> None:
    # Eq. 15, 20 and 22 of Monroe et al., with a prior of 100 texts, 21.5 / 101 of them with it.
    y, k, n, total = 15, 21, 40, 100
    a = 100 * 21.5 / 101
    b = 100 - a
    delta = math.log((15 + a) / (25 + b)) - math.log((6 + a) / (54 + b))
    variance = 1 / (15 + a) + 1 / (25 + b) + 1 / (6 + a) + 1 / (54 + b)
    found = log_odds_z(_ints(y), _ints(k), _ints(n), total, 1.0)[0]
    assert found == pytest.approx(delta / math.sqrt(variance))


def test_more_evidence_and_purer_evidence_score_higher() -> None:
    y, k = _ints(10, 10, 20), _ints(10, 15, 20)
    z = log_odds_z(y, k, _ints(40, 40, 40), 1232, 1.0)
    assert z[2] > z[0] > z[1] > 0
    assert log_odds_z(_ints(1), _ints(30), _ints(40), 100, 1.0)[0] < 0


@given(tables())
def test_mutual_information_is_that_of_the_two_labels(table: tuple[int, int, int, int]) -> None:
    y, k, n, total = table
    inside = np.repeat([1, 1, 0, 0], [y, n - y, k - y, total - n - k + y])
    holds = np.repeat([1, 0, 1, 0], [y, n - y, k - y, total - n - k + y])
    expected = mutual_info_score(inside, holds) / math.log(2)
    found = mutual_information(_ints(y), _ints(k), _ints(n), total)[0]
    assert found == pytest.approx(expected, abs=1e-9)
