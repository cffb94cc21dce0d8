"""Greedy and its bound against brute force, with and without charges of groups."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.selection import Budget, UnitGroup
from sparseft.selection.budget import Packing, solve
from sparseft.selection.cost import FittedCost, StepCost


@dataclass(frozen=True)
class Problem:
    """Two groups in each of two layers, and their milliseconds."""

    scores: list[list[float]]
    sizes: list[int]
    slopes: list[float]
    touches: list[float]
    capacity: float

    @property
    def groups(self) -> list[UnitGroup]:
        return [
            UnitGroup("row", i // 2, f"group {i}", len(self.scores[i]), size, ())
            for i, size in enumerate(self.sizes)
        ]

    @property
    def cost(self) -> FittedCost:
        # 10 ms to reach layer 1, 30 for layer 0; a full step is 100.
        named = {f"group {i}": s for i, s in enumerate(self.slopes)}
        charges = {f"group {i}": t for i, t in enumerate(self.touches)}
        return FittedCost(100.0, 5.0, (30.0, 30.0, 10.0), named, charges)

    def spent(self, packing: Packing) -> float:
        return sum(
            self.touches[g] * (units.size > 0) + units.size * self.sizes[g] * self.slopes[g]
            for g, units in enumerate(packing.chosen)
        )

    def best(self, lowest: int, capacity: float) -> float:
        """The most that any subset of the units above the cut is worth."""
        units = [
            (g, value)
            for g, scores in enumerate(self.scores)
            if g // 2 >= lowest
            for value in scores
        ]
        best = 0.0
        for taken in itertools.product((False, True), repeat=len(units)):
            chosen = [unit for unit, take in zip(units, taken, strict=True) if take]
            opened = {g for g, _ in chosen}
            spent = sum(self.sizes[g] * self.slopes[g] for g, _ in chosen)
            if spent + sum(self.touches[g] for g in opened) <= capacity:
                best = max(best, sum(value for _, value in chosen))
        return best


def problems(charged: bool) -> st.SearchStrategy[Problem]:
    number = st.floats(0.01, 10.0)
    return st.builds(
        Problem,
        scores=st.lists(st.lists(st.floats(0.01, 5), min_size=1, max_size=3), min_size=4,
                        max_size=4),
        sizes=st.lists(st.integers(1, 5), min_size=4, max_size=4),
        slopes=st.lists(st.floats(0.1, 3), min_size=4, max_size=4),
        touches=st.lists(number if charged else st.just(0.0), min_size=4, max_size=4),
        capacity=st.floats(0.01, 60.0),
    )  # fmt: skip


def _solved(problem: Problem, lowest: int) -> Packing | None:
    budget = Budget(step_time=(problem.cost.fixed(lowest) + problem.capacity) / 100.0)
    try:
        return solve(
            problem.groups, [np.array(s) for s in problem.scores], budget,
            backbone_parameters=1000, cost=problem.cost, lowest_layers=[lowest],
        )  # fmt: skip
    except ValueError:
        return None


@pytest.mark.parametrize("lowest", [0, 1])
@given(problem=problems(charged=False))
def test_greedy_is_at_least_half_of_the_best_and_the_bound_at_least_the_best(
    problem: Problem, lowest: int
) -> None:
    packing, best = _solved(problem, lowest), problem.best(lowest, problem.capacity)
    if packing is None:
        assert best == 0.0
        return
    assert best / 2 - 1e-9 <= packing.sensitivity <= best + 1e-6
    assert packing.bound >= best - 1e-6
    assert problem.spent(packing) <= problem.capacity + 1e-6
    share = (problem.cost.fixed(lowest) + problem.spent(packing)) / 100.0
    assert packing.step_share == pytest.approx(share)
    assert 0.0 <= packing.gap <= 1.0


@pytest.mark.parametrize("lowest", [0, 1])
@given(problem=problems(charged=True))
def test_with_charges_the_budget_is_kept_and_the_bound_holds(problem: Problem, lowest: int) -> None:
    packing, best = _solved(problem, lowest), problem.best(lowest, problem.capacity)
    if packing is None:
        assert best == 0.0  # where one unit fits, one is taken
        return
    assert 0.0 < packing.sensitivity <= best + 1e-6 <= packing.bound + 2e-6
    assert problem.spent(packing) <= problem.capacity + 1e-6


def test_the_gap_closes_where_everything_fits_and_where_units_are_small() -> None:
    group = [UnitGroup("row", 0, "a", 1000, 1, ())]
    values = [np.random.default_rng(0).random(1000)]
    cost = StepCost((1000,), (0,))
    for density in (0.3337, 1.0):
        packing = solve(
            group, values, Budget(density=density), backbone_parameters=1000, cost=cost,
            lowest_layers=[0],
        )  # fmt: skip
        assert packing.gap < 3e-3  # one of 333 units
    assert packing.gap == pytest.approx(0.0, abs=1e-12)


def test_one_large_unit_may_beat_many_of_more_worth_per_weight() -> None:
    groups = [UnitGroup("row", 0, "small", 1, 1, ()), UnitGroup("row", 0, "large", 1, 10, ())]
    packing = solve(
        groups, [np.array([2.0]), np.array([10.0])], Budget(density=0.1),
        backbone_parameters=100, cost=StepCost((100,), (0,)), lowest_layers=[0],
    )  # fmt: skip
    assert packing.sensitivity == 10.0 and [c.size for c in packing.chosen] == [0, 1]
    # Half of the small unit's value fits in its place at most: the bound knows.
    assert packing.bound == pytest.approx(2.0 + 9.0)


def test_a_group_whose_charge_does_not_pay_stays_closed() -> None:
    groups = [UnitGroup("row", 0, name, 4, 1, ()) for name in ("dear", "cheap")]
    scores = [np.full(4, 1.1), np.full(4, 1.0)]
    cost = FittedCost(
        100.0, 0.0, (0.0, 0.0), {"dear": 1.0, "cheap": 1.0}, {"dear": 3.0, "cheap": 0.0}
    )
    packing = solve(
        groups, scores, Budget(step_time=0.04), backbone_parameters=100, cost=cost,
        lowest_layers=[0],
    )  # fmt: skip
    assert [c.size for c in packing.chosen] == [0, 4]
    assert packing.step_share == pytest.approx(0.04)
