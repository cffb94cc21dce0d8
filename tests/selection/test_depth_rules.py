"""Constructed cases whose right depth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.errors import SelectionError
from sparseft.selection import Budget, UnitGroup
from sparseft.selection.budget import Packing, solve
from sparseft.selection.cost import Cost, StepCost

LAYERS = 4
FLOPS = StepCost(linear=(100,) * LAYERS, attention=(0,) * LAYERS)
CACHED = StepCost(linear=(100,) * LAYERS, attention=(0,) * LAYERS, prefix_cache=True)
RULES = ("merit", "marginal", "worth")


def _solved(
    by_layer: list[float], rule: str | None, cost: Cost = FLOPS, density: float = 0.05
) -> Packing:
    """Ten units in each layer that are worth the same; a density of 0.05 pays for two of them."""
    groups = [UnitGroup("row", layer, f"layer {layer}", 10, 10, ()) for layer in range(LAYERS)]
    return solve(
        groups, [np.full(10, value) for value in by_layer], Budget(density=density),
        backbone_parameters=400, cost=cost, lowest_layers=range(LAYERS), depth_rule=rule,
    )  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("cost", [FLOPS, CACHED])
def test_depth_that_gains_nothing_is_not_bought(rule: str, cost: Cost) -> None:
    assert _solved([1.0] * LAYERS, rule, cost).lowest_layer == LAYERS - 1


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("cost", [FLOPS, CACHED])
@pytest.mark.parametrize("layer", range(LAYERS))
def test_all_rules_go_where_everything_is(rule: str, cost: Cost, layer: int) -> None:
    by_layer = [0.0] * LAYERS
    by_layer[layer] = 1.0
    assert _solved(by_layer, rule, cost).lowest_layer == layer


def test_the_rules_differ_on_a_slowly_growing_sensitivity() -> None:
    # From the top a cut costs C = 1040, 1240, 1440, 1640 FLOPs with its two units, of which the
    # forward pass is F = 800: C / C(top) = 1, 1.19, 1.38, 1.58; (C - F) likewise 1, 1.8, 2.7, 3.5.
    slow = [1.9, 1.6, 1.3, 1.0]
    assert [_solved(slow, rule).lowest_layer for rule in RULES] == [0, 3, 0]
    # The sensitivity doubles with the second layer, and then grows by a tenth.
    knee = [2.1, 2.05, 2.0, 1.0]
    assert [_solved(knee, rule).lowest_layer for rule in RULES] == [2, 2, 0]
    # Nothing but a proportional gain buys all layers by margin.
    assert _solved([3.6, 2.6, 1.8, 1.0], "marginal").lowest_layer == 0
    assert _solved([3.4, 2.6, 1.8, 1.0], "marginal").lowest_layer == 3


def test_the_cache_makes_depth_dear() -> None:
    # From the top C = 440, 840, 1240, 1640 with the cache: all of it is the price of training.
    assert [CACHED.fixed(cut) for cut in (3, 0)] == [400, 1600]
    assert [FLOPS.fixed(cut) for cut in (3, 0)] == [1000, 1600]
    rising = [2.4, 1.9, 1.4, 1.0]
    assert _solved(rising, "merit", FLOPS).lowest_layer == 0
    assert _solved(rising, "merit", CACHED).lowest_layer == LAYERS - 1
    assert _solved(rising, "marginal", CACHED).lowest_layer == LAYERS - 1


@given(st.lists(st.floats(0.01, 10), min_size=LAYERS, max_size=LAYERS), st.floats(0.03, 1))
def test_marginal_is_never_deeper_than_merit_nor_merit_than_worth(
    by_layer: list[float], density: float
) -> None:
    cuts = [
        _solved(by_layer, rule, density=density).lowest_layer
        for rule in ("worth", "merit", "marginal")
    ]
    assert cuts == sorted(cuts)


def test_defaults_by_budget() -> None:
    slow = [1.1, 1.05, 1.02, 1.0]
    assert _solved(slow, None).lowest_layer == _solved(slow, "merit").lowest_layer == LAYERS - 1
    groups = [UnitGroup("row", layer, f"layer {layer}", 10, 10, ()) for layer in range(LAYERS)]
    packing = solve(
        groups, [np.full(10, v) for v in ([9.0] + [0.001] * 3)], Budget(step_time=0.8),
        backbone_parameters=400, cost=FLOPS, lowest_layers=range(LAYERS),
    )  # fmt: skip
    assert packing.lowest_layer == 0


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(SelectionError, match=r"merit, marginal, worth, got 'deep'"):
        _solved([1.0] * LAYERS, "deep")
