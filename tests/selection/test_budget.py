"""The knapsack: budgets are kept, the best units win, depth is a choice."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.errors import SelectionError
from sparseft.selection import Budget, UnitGroup
from sparseft.selection.budget import lowest_layer_of_depth, solve
from sparseft.selection.cost import StepCost

COST = StepCost(linear=(100, 100, 100, 100), attention=(0, 0, 0, 0))


def _groups(sizes: list[int], counts: list[int]) -> list[UnitGroup]:
    return [
        UnitGroup("row", layer, f"layer {layer}", count, size, ())
        for layer, (size, count) in enumerate(zip(sizes, counts, strict=True))
    ]


def test_costs_follow_the_formula() -> None:
    # R = [(1 + a) + lambda (1 + 2a) + rho / eta] / [3 (1 + a)], a = A / 2P.
    cost = StepCost(linear=(100,) * 4, attention=(50,) * 4, efficiency=0.5)
    a, rho, eta = 50 / 200, 0.1, 0.5
    for lowest, share in ((0, 1.0), (2, 0.5), (3, 0.25)):
        expected = ((1 + a) + share * (1 + 2 * a) + rho / eta) / (3 * (1 + a))
        assert cost.share(lowest, rho * 400) == pytest.approx(expected)


@given(
    scores=st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=4, max_size=4),
    density=st.floats(0.05, 1.0),
)
def test_density_is_never_exceeded_and_greedy_is_right_for_equal_sizes(
    scores: list[list[float]], density: float
) -> None:
    groups = _groups([10] * 4, [4] * 4)
    values = [np.array(s) for s in scores]
    capacity = int(density * 400 // 10)
    if capacity == 0:
        return
    packing = solve(
        groups, values, Budget(density=density), backbone_parameters=400, cost=COST,
        lowest_layers=[0],
    )  # fmt: skip
    assert packing.trained == min(capacity, 16) * 10 <= density * 400
    best = sum(sorted(itertools.chain(*scores), reverse=True)[:capacity])
    assert packing.sensitivity == pytest.approx(best)


def test_leftover_capacity_takes_smaller_units() -> None:
    groups = _groups([30, 10, 1, 1], [2, 2, 2, 2])
    values = [np.array([90.0, 60.0]), np.array([1.0, 0.5]), np.array([0.1, 0]), np.array([0, 0.0])]
    packing = solve(
        groups, values, Budget(density=0.105), backbone_parameters=400, cost=COST,
        lowest_layers=[0],
    )  # fmt: skip
    assert packing.trained == 42
    assert [c.tolist() for c in packing.chosen] == [[0], [0], [0, 1], []]


def test_step_time_is_kept_and_depth_pays_for_itself() -> None:
    groups = _groups([10] * 4, [10] * 4)
    flat = [np.full(10, 1.0)] * 4
    for share in (0.45, 0.55, 0.7, 0.9):
        packing = solve(
            groups, flat, Budget(step_time=share), backbone_parameters=400, cost=COST,
            lowest_layers=range(4),
        )  # fmt: skip
        assert packing.step_share <= share
    # All the worth is in layer 0: only a deep backward can earn it.
    bottom = [np.full(10, 100.0)] + [np.full(10, 0.1)] * 3
    deep = solve(
        groups, bottom, Budget(step_time=0.72), backbone_parameters=400, cost=COST,
        lowest_layers=range(4),
    )  # fmt: skip
    assert deep.lowest_layer == 0 and deep.chosen[0].size > 0


def test_auto_depth_trades_sensitivity_for_time() -> None:
    groups = _groups([10] * 4, [10] * 4)
    top = [np.full(10, 0.01)] * 2 + [np.full(10, 1.0)] * 2
    budget = Budget(density=0.25)
    options = {"backbone_parameters": 400, "cost": COST, "lowest_layers": range(4)}
    assert solve(groups, top, budget, **options).lowest_layer == 3
    bottom = [np.full(10, 1.0)] + [np.full(10, 0.01)] * 3
    assert solve(groups, bottom, budget, **options).lowest_layer == 0


@pytest.mark.parametrize(
    "budget", [{"density": 0.0}, {"density": 1.5}, {"step_time": -1}, {"density": float("nan")}]
)
def test_budgets_out_of_range(budget: dict[str, float]) -> None:
    with pytest.raises(SelectionError, match=r"in \(0, 1\]"):
        Budget(**budget)


@pytest.mark.parametrize("budget", [{}, {"density": 0.1, "step_time": 0.5}])
def test_exactly_one_budget(budget: dict[str, float]) -> None:
    with pytest.raises(SelectionError, match="exactly one"):
        Budget(**budget)


def test_a_budget_below_one_unit_says_what_one_costs() -> None:
    groups = _groups([50] * 4, [2] * 4)
    values = [np.ones(2)] * 4
    for budget in (Budget(density=0.1), Budget(step_time=0.34)):
        with pytest.raises(SelectionError, match="at least one unit of 50 weights"):
            solve(groups, values, budget, backbone_parameters=400, cost=COST, lowest_layers=[0, 3])


def test_depths() -> None:
    assert [lowest_layer_of_depth(d, 6) for d in (1.0, 0.5, 0.25, 0.01)] == [0, 3, 4, 5]
    with pytest.raises(SelectionError, match="depth"):
        lowest_layer_of_depth(0.0, 6)
