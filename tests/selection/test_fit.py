"""The parts' milliseconds from measured times: never negative, and right where the model is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sparseft.selection.calibration.fit import (
    fit_parts,
    non_negative_least_squares,
    steady_medians,
)

_NUMBERS = st.floats(-5, 5, allow_subnormal=False).map(lambda x: round(x, 3))


@given(matrix=arrays(np.float64, (7, 4), elements=_NUMBERS),
       target=arrays(np.float64, 7, elements=_NUMBERS))  # fmt: skip
def test_the_solution_meets_the_conditions_of_optimality(
    matrix: np.ndarray, target: np.ndarray
) -> None:
    x = non_negative_least_squares(matrix, target)
    assert (x >= 0.0).all()
    # Karush-Kuhn-Tucker: no coordinate wants to grow, and those above 0 want nothing.
    slope = matrix.T @ (target - matrix @ x)
    small = 1e-6 * (1.0 + np.abs(matrix).sum() * np.abs(target).sum())
    assert (slope <= small).all()
    assert np.abs(slope * x).max() <= small * (1.0 + x.max())


def test_parts_are_recovered_and_absent_ones_left_out() -> None:
    truth = {"step": 2.0, "forward": 10.0, "gradient": 15.0, "rows_weights": 7.0}
    generator = np.random.default_rng(0)
    cases = [{name: float(generator.uniform(0, 3)) for name in truth} for _ in range(9)]
    times = [sum(truth[p] * a for p, a in case.items()) for case in cases]
    found = fit_parts(cases, times, (*truth, "blocks"))
    assert found == pytest.approx(truth)
    # What would be negative is 0, not left out.
    cases = [{"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 1.0}, {"a": 3.0, "b": 1.0}]
    assert fit_parts(cases, [1.0, 2.5, 4.0], ("a", "b"))["b"] == 0.0


def test_a_slow_round_does_not_count() -> None:
    truth = np.array([100.0, 40.0, 3.0, 0.2])
    speed = np.array([1.0, 1.1, 4.0, 0.9, 1.05, 2.5, 1.0])
    assert steady_medians(speed[:, None] * truth) == pytest.approx(1.05 * truth)
    # A single hiccup of one case stays its own.
    seconds = np.tile(truth, (5, 1))
    seconds[2, 1] *= 9.0
    assert steady_medians(seconds) == pytest.approx(truth)
