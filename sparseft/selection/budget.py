"""The budget, and the knapsack that spends it.

Capacity is counted in trained weights (density) or in predicted step time. The depth of the
lowest trained layer is a variable of its own, because everything below it needs no backward: for
each candidate depth the best units are packed greedily by sensitivity per weight, and the depth
with the most sensitivity per predicted step cost wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparseft.errors import SelectionError
from sparseft.selection.cost import StepCost
from sparseft.selection.units import EMBEDDING_LAYER, UnitGroup

__all__ = ["Budget", "Packing", "lowest_layer_of_depth", "solve"]


@dataclass(frozen=True)
class Budget:
    """How much may be trained: exactly one of the two.

    Attributes:
        density: share of the backbone's parameters that is trained, in (0, 1].
        step_time: predicted step time as a share of full finetuning's, in (0, 1].
    """

    density: float | None = None
    step_time: float | None = None

    def __post_init__(self) -> None:
        if (self.density is None) == (self.step_time is None):
            raise SelectionError(
                "expected exactly one of density and step_time, "
                f"got density={self.density}, step_time={self.step_time}; set one."
            )
        for name in ("density", "step_time"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value <= 1.0:
                raise SelectionError(
                    f"expected {name} in (0, 1], got {value}; it is a share, 0.05 means 5%."
                )


@dataclass(frozen=True, eq=False)
class Packing:
    """A solved knapsack: chosen unit numbers of each group, and what they are worth."""

    chosen: tuple[NDArray[np.int64], ...]
    lowest_layer: int
    trained: int
    sensitivity: float
    step_share: float


def lowest_layer_of_depth(depth: float, num_layers: int) -> int:
    """The first trained layer when the upper `depth` share of the layers may be trained.

    Raises:
        SelectionError: `depth` outside (0, 1].
    """
    if not 0.0 < depth <= 1.0:
        raise SelectionError(
            f"expected depth in (0, 1] or 'auto', got {depth}; 0.5 means the upper half."
        )
    return num_layers - max(1, round(depth * num_layers))


def solve(
    groups: Sequence[UnitGroup],
    scores: Sequence[NDArray[np.float64]],
    budget: Budget,
    *,
    backbone_parameters: int,
    cost: StepCost,
    lowest_layers: Sequence[int],
) -> Packing:
    """Choose units.

    Args:
        groups: candidates.
        scores: one non-negative sensitivity per unit of each group.
        budget: what may be spent.
        backbone_parameters: all parameters of the backbone, the denominator of density.
        cost: predicted step cost.
        lowest_layers: candidate depths; the best by sensitivity per step cost is taken.

    Raises:
        SelectionError: not even one unit fits.
    """
    layer = np.concatenate([np.full(g.count, g.layer) for g in groups])
    size = np.concatenate([np.full(g.count, g.size, dtype=np.int64) for g in groups])
    value = np.concatenate(list(scores))
    density_order = np.lexsort((np.arange(value.size), -value / size))

    best: tuple[float, int, NDArray[np.int64]] | None = None
    for lowest in lowest_layers:
        floor = EMBEDDING_LAYER if lowest == 0 else lowest
        if budget.density is not None:
            capacity = budget.density * backbone_parameters
        else:
            assert budget.step_time is not None
            spare = budget.step_time * cost.full - cost.fixed(lowest)
            capacity = min(spare * cost.efficiency / 2.0, float(backbone_parameters))
        order = density_order[layer[density_order] >= floor]
        taken = _pack(order, size, capacity)
        if taken.size == 0:
            continue
        worth = float(value[taken].sum())
        spent = cost.share(lowest, float(size[taken].sum()))
        merit = worth / spent if budget.density is not None else worth
        if best is None or merit > best[0]:
            best = (merit, lowest, taken)
    if best is None:
        smallest = int(size.min())
        raise SelectionError(
            f"expected a budget for at least one unit of {smallest} weights, got {budget}; "
            f"raise it (one unit is a density of {smallest / backbone_parameters:.2g}; the upper "
            f"layer alone is a step_time of {cost.share(max(lowest_layers), smallest):.2f}), "
            "or choose a smaller kind of unit."
        )
    _, lowest, taken = best
    bounds = np.cumsum([0] + [g.count for g in groups])
    group_of = np.searchsorted(bounds, taken, side="right") - 1
    chosen = tuple(np.sort(taken[group_of == g] - bounds[g]) for g in range(len(groups)))
    trained = int(size[taken].sum())
    return Packing(
        chosen, lowest, trained, float(value[taken].sum()), cost.share(lowest, float(trained))
    )


def _pack(order: NDArray[np.int64], size: NDArray[np.int64], capacity: float) -> NDArray[np.int64]:
    """Greedy: the longest prefix that fits, then whatever smaller unit still fits behind it."""
    total = np.cumsum(size[order])
    prefix = int(np.searchsorted(total, capacity, side="right"))
    taken = [order[:prefix]]
    left = capacity - (float(total[prefix - 1]) if prefix else 0.0)
    rest = order[prefix:]
    while rest.size:
        rest = rest[size[rest] <= left]
        fits = int(np.searchsorted(np.cumsum(size[rest]), left, side="right"))
        if fits == 0:
            break
        taken.append(rest[:fits])
        left -= float(size[rest[:fits]].sum())
        rest = rest[fits:]
    return np.concatenate(taken)
