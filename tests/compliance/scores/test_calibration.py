"""Calibration figures by hand, and independent of order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.compliance.scores import calibration, risk_coverage

_PAIRS = st.lists(
    st.tuples(st.sampled_from([0.1, 0.5, 0.5001, 0.9, 1.0]), st.booleans()),
    min_size=1,
    max_size=60,
)


def _arrays(pairs: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([p for p, _ in pairs]), np.array([r for _, r in pairs])


def test_by_hand() -> None:
    # Twenty values make two bins of ten: 0.6 with 5 right, 0.9 with 10 right.
    confidence = np.array([0.6] * 10 + [0.9] * 10)
    right = np.array([True] * 5 + [False] * 5 + [True] * 10)
    found = calibration(confidence, right)
    assert found is not None
    assert [b["count"] for b in found["bins"]] == [10, 10]
    assert found["ece"] == pytest.approx((0.1 + 0.1) / 2)
    # Squared gaps are 0.01 each; the first bin's accuracy has variance 0.25 / 9, more than that.
    assert found["rmsce"] == pytest.approx(0.0)
    assert found["brier"] == pytest.approx((5 * 0.16 + 5 * 0.36 + 10 * 0.01) / 20)
    assert found["accuracy"] == 0.75 and found["confidence"] == pytest.approx(0.75)


def test_the_debiased_error_is_the_gap_where_there_is_no_noise() -> None:
    found = calibration(np.full(50, 0.8), np.ones(50, dtype=bool))
    assert found is not None
    assert found["ece"] == pytest.approx(0.2) and found["rmsce"] == pytest.approx(0.2)


def test_the_debiased_error_of_calibrated_values_is_smaller_than_ece() -> None:
    draw = np.random.default_rng(0)
    confidence = draw.uniform(0.3, 1.0, 600)
    found = calibration(confidence, draw.random(600) < confidence)
    assert found is not None
    assert len(found["bins"]) == 15 and {b["count"] for b in found["bins"]} == {40}
    assert found["rmsce"] < found["ece"] < 0.1


def test_risk_coverage_by_hand() -> None:
    coverage, risk = risk_coverage(
        np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    )
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0.0, 1 / 2, 1 / 3, 1 / 2])
    found = calibration(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False]))
    assert found is not None
    assert found["aurc"] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert found["aurc_best"] == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)


@given(_PAIRS, st.randoms(use_true_random=False))
def test_no_figure_depends_on_the_order(pairs: list[tuple[float, bool]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = calibration(*_arrays(pairs)), calibration(*_arrays(shuffled))
    assert one is not None and other is not None
    for key in ("ece", "rmsce", "brier", "aurc"):
        if one[key] is None:
            assert other[key] is None
        else:
            assert one[key] == pytest.approx(other[key], abs=1e-9)
    assert np.allclose(one["risk_coverage"], other["risk_coverage"])


@given(_PAIRS)
def test_ranges(pairs: list[tuple[float, bool]]) -> None:
    found = calibration(*_arrays(pairs))
    assert found is not None
    assert 0 <= found["ece"] <= 1 and 0 <= found["brier"] <= 1
    assert found["aurc_best"] <= found["aurc"] + 1e-9
    assert found["risk_coverage"][-1] == pytest.approx([1.0, 1 - found["accuracy"]])
    assert sum(b["count"] for b in found["bins"]) == len(pairs)
    assert all(b["low"] <= b["accuracy"] <= b["high"] for b in found["bins"])


def test_nothing_to_calibrate() -> None:
    assert calibration(np.array([]), np.array([], dtype=bool)) is None


def test_long_curves_are_thinned() -> None:
    draw = np.random.default_rng(1)
    found = calibration(draw.random(5000), draw.random(5000) < 0.5)
    assert found is not None
    assert len(found["risk_coverage"]) == 100
