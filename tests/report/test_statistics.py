"""The paired bootstrap and Holm's correction against cases whose answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.errors import ResultError
from sparseft.reporting.statistics import RowScores, compare_all, holm, mean_and_sd


def _scores(correct: np.ndarray, ids: np.ndarray | None = None) -> RowScores:
    labels = np.zeros(len(correct), dtype=np.int64)
    rows = np.arange(len(correct)) if ids is None else ids
    return RowScores.of(rows, labels, np.where(correct, 0, 1))


def test_holm_of_a_worked_example() -> None:
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(corrected) == ["a", "b", "c", "d"]


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_holm_only_raises_and_keeps_the_order(p_values: list[float]) -> None:
    given_ = {str(i): p for i, p in enumerate(p_values)}
    corrected = holm(given_)
    assert all(given_[k] <= corrected[k] <= 1.0 for k in given_)
    ordered = sorted(given_, key=lambda k: given_[k])
    assert all(corrected[a] <= corrected[b] for a, b in itertools.pairwise(ordered))


def test_the_standard_deviation_is_that_of_a_sample() -> None:
    assert mean_and_sd([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert mean_and_sd([0.5]) == (0.5, None)


def test_accuracy_and_micro_f1_of_rows() -> None:
    single = RowScores.of(np.array([2, 0, 1]), np.array([0, 1, 2]), np.array([0, 1, 1]))
    assert single.ids.tolist() == [0, 1, 2]
    assert single.value == pytest.approx(2 / 3)
    labels = np.array([[1, 1, 0], [0, 0, 1]])
    guesses = np.array([[1, 0, 0], [0, 1, 1]])
    # tp 2, fp 1, fn 1
    assert RowScores.of(np.arange(2), labels, guesses).value == pytest.approx(4 / 6)
    nothing = np.zeros((2, 3))
    assert RowScores.of(np.arange(2), nothing, nothing).value == 0.0


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ResultError, match="one shape"):
        RowScores.of(np.arange(3), np.zeros(3), np.zeros(2))
    with pytest.raises(ResultError, match="one twice"):
        RowScores.of(np.array([1, 1]), np.zeros(2), np.zeros(2))


def test_equal_predictions_are_no_difference() -> None:
    rng = np.random.default_rng(0)
    runs = {s: _scores(rng.random(40) < 0.7) for s in range(3)}
    found = compare_all(runs, {"same": runs}, resamples=500)["same"]
    assert (found.difference, found.low, found.high, found.p, found.seeds) == (0, 0, 0, 1, 3)


def test_a_method_that_is_always_right_has_the_smallest_p() -> None:
    right = {s: _scores(np.ones(30, dtype=bool)) for s in range(3)}
    wrong = {s: _scores(np.zeros(30, dtype=bool)) for s in range(3)}
    found = compare_all(wrong, {"right": right}, resamples=999)["right"]
    assert (found.difference, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.p == pytest.approx(2 / 1000)


def test_one_method_swapped_with_the_reference_mirrors_the_answer() -> None:
    rng = np.random.default_rng(1)
    a = {s: _scores(rng.random(60) < 0.8) for s in range(4)}
    b = {s: _scores(rng.random(60) < 0.7) for s in range(4)}
    forward = compare_all(a, {"b": b}, resamples=800)["b"]
    backward = compare_all(b, {"a": a}, resamples=800)["a"]
    assert forward.difference == pytest.approx(-backward.difference)
    assert (forward.low, forward.high) == pytest.approx((-backward.high, -backward.low))
    assert forward.p == backward.p


def test_seeds_are_resampled_where_rows_say_nothing() -> None:
    # Every row of a seed agrees, so only the draw of seeds varies: sd = population sd / sqrt(S).
    shares = np.array([True, False, True, True, False, False, True, False])
    reference = {s: _scores(np.zeros(20, dtype=bool)) for s in range(len(shares))}
    method = {s: _scores(np.full(20, shares[s])) for s in range(len(shares))}
    found = compare_all(reference, {"m": method}, resamples=20_000)["m"]
    assert found.difference == 0.5
    half_width = 1.96 * shares.std() / np.sqrt(len(shares))
    # A mean of eight yes/no seeds moves in steps of 1/8.
    assert found.low == pytest.approx(0.5 - half_width, abs=0.07)
    assert found.high == pytest.approx(0.5 + half_width, abs=0.07)


def test_rows_are_resampled_where_seeds_say_nothing() -> None:
    # The same answers for every seed: the interval is that of one sample of rows, not of 5 x rows.
    correct = np.arange(400) < 240
    reference = {s: _scores(np.zeros(400, dtype=bool)) for s in range(5)}
    method = {s: _scores(correct) for s in range(5)}
    found = compare_all(reference, {"m": method}, resamples=5000)["m"]
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(0.6 * 0.4 / 400), rel=0.06)


def test_seeds_with_rows_of_their_own_draw_independently() -> None:
    correct = np.arange(400) < 240
    reference = {s: _scores(correct < 0, np.arange(400) + 1000 * s) for s in range(5)}
    method = {s: _scores(correct, np.arange(400) + 1000 * s) for s in range(5)}
    found = compare_all(reference, {"m": method}, resamples=5000)["m"]
    # Independent draws average out over seeds; drawing the seeds again gives (2 - 1/5) of it.
    width = 2 * 1.96 * np.sqrt(0.6 * 0.4 / 400 / 5 * (2 - 1 / 5))
    assert found.high - found.low == pytest.approx(width, rel=0.08)


def test_it_equals_a_plain_loop_over_the_same_kind_of_draws() -> None:
    rng = np.random.default_rng(5)
    a = rng.random((3, 50)) < 0.75
    b = rng.random((3, 50)) < 0.6
    loop = []
    for _ in range(4000):
        seeds, rows = rng.integers(0, 3, 3), rng.integers(0, 50, 50)
        loop.append(np.mean([b[s, rows].mean() - a[s, rows].mean() for s in seeds]))
    found = compare_all(
        {s: _scores(a[s]) for s in range(3)}, {"b": {s: _scores(b[s]) for s in range(3)}}, 4000
    )["b"]
    assert (found.low, found.high) == pytest.approx(np.percentile(loop, [2.5, 97.5]), abs=0.012)


def test_false_alarms_are_rare_under_no_difference() -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(60):
        a = {s: _scores(rng.random(120) < 0.8) for s in range(6)}
        b = {s: _scores(rng.random(120) < 0.8) for s in range(6)}
        alarms += compare_all(a, {"b": b}, resamples=300)["b"].p < 0.05
    assert alarms <= 9


def test_the_answer_of_one_method_does_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(4)
    runs = {m: {s: _scores(rng.random(50) < 0.7) for s in range(3)} for m in "abc"}
    alone = compare_all(runs["a"], {"b": runs["b"]}, resamples=300)["b"]
    among = compare_all(runs["a"], {"c": runs["c"], "b": runs["b"]}, resamples=300)["b"]
    assert (alone.low, alone.high, alone.p) == (among.low, among.high, among.p)
    assert among.p_holm >= alone.p_holm


def test_only_common_seeds_count_and_other_rows_are_refused() -> None:
    rng = np.random.default_rng(6)
    reference = {s: _scores(rng.random(30) < 0.7) for s in (0, 1)}
    partly = {s: _scores(rng.random(30) < 0.7) for s in (1, 2)}
    never = {7: _scores(rng.random(30) < 0.7)}
    found = compare_all(reference, {"partly": partly, "never": never}, resamples=200)
    assert found["partly"].seeds == 1
    assert "never" not in found
    moved = {1: _scores(rng.random(30) < 0.7, np.arange(30) + 1)}
    with pytest.raises(ResultError, match="same rows for seed 1"):
        compare_all(reference, {"moved": moved}, resamples=200)
