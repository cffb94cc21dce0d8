"""The budget, and the knapsack that spends it.

Capacity is counted in trained weights (density) or in predicted step time. The depth of the
lowest trained layer is a variable of its own, because everything below it needs no backward: for
each candidate depth the best units are packed greedily (`sparseft.selection.packing`), and a rule
chooses among the depths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sparseft.errors import SelectionError
from sparseft.selection.cost import Cost
from sparseft.selection.packing import Items, Knapsack
from sparseft.selection.units import EMBEDDING_LAYER, UnitGroup

__all__ = ["Budget", "DepthRule", "Packing", "lowest_layer_of_depth", "solve"]

DepthRule = Literal["merit", "marginal", "worth"]


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
    """A solved knapsack.

    Attributes:
        chosen: unit numbers of each group.
        lowest_layer: of the chosen units; -1 for embedding rows.
        trained: numbers that are trained.
        sensitivity: the sum over the chosen units.
        step_share: predicted step time over full finetuning's.
        bound: no choice at this cut within the budget is worth more (the linear relaxation).
    """

    chosen: tuple[NDArray[np.int64], ...]
    lowest_layer: int
    trained: int
    sensitivity: float
    step_share: float
    bound: float

    @property
    def gap(self) -> float:
        """At most this share of the best possible sensitivity at this cut is missing, in [0, 1]."""
        if self.bound <= 0.0:
            return 0.0
        return min(1.0, max(0.0, 1.0 - self.sensitivity / self.bound))


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


@dataclass(frozen=True, eq=False)
class _Candidate:
    """The best packing at one cut."""

    lowest: int
    taken: NDArray[np.int64]
    worth: float
    spent: float
    bound: float


def solve(
    groups: Sequence[UnitGroup],
    scores: Sequence[NDArray[np.float64]],
    budget: Budget,
    *,
    backbone_parameters: int,
    cost: Cost,
    lowest_layers: Sequence[int],
    depth_rule: str | None = None,
) -> Packing:
    """Choose units.

    Among several cuts, with V the sensitivity that fits, C the predicted step time and F the part
    of it that is paid however little is trained (the forward pass; nothing with a prefix cache):

    - "merit" takes the largest V / C;
    - "marginal" takes the largest V / (C - F): a lower cut must add at least the share to V that it
      adds to the price of training. Merit hides that price behind the forward pass, and so goes at
      least as deep;
    - "worth" takes the largest V, at least as deep as merit: depth costs only what it takes from a
      step_time budget.

    Of equal cuts the upper one is taken.

    Args:
        groups: candidates.
        scores: one sensitivity per unit of each group.
        budget: what may be spent.
        backbone_parameters: all parameters of the backbone, the denominator of density.
        cost: predicted step cost.
        lowest_layers: candidate cuts.
        depth_rule: see above; None: merit for a density, worth for a step time.

    Raises:
        SelectionError: not even one unit fits, or an unknown rule.
    """
    rule = depth_rule or ("worth" if budget.density is None else "merit")
    if rule not in get_args(DepthRule):
        raise SelectionError(
            f"expected a depth rule of {', '.join(get_args(DepthRule))}, got {rule!r}; "
            "change depth_rule."
        )
    items = Items.of(groups, scores)
    slope = np.array([cost.slope(group) for group in groups])
    touch = np.array([cost.touch(group) for group in groups])
    milliseconds = items.size * slope[items.group]
    if budget.density is not None:
        knapsack = Knapsack(items, items.size.astype(np.float64), np.zeros(len(groups)))
    else:
        knapsack = Knapsack(items, milliseconds, touch)
    candidates = []
    for lowest in sorted(set(lowest_layers), reverse=True):
        base = cost.fixed(_cut(lowest, groups))
        if budget.density is not None:
            capacity = budget.density * backbone_parameters
        else:
            assert budget.step_time is not None
            capacity = budget.step_time * cost.full - base
        allowed = np.array([group.layer >= _floor(lowest) for group in groups])
        taken = knapsack.pack(allowed, capacity)
        if taken.size:
            opened = np.unique(items.group[taken])
            # The units may all lie above the cut that they were allowed.
            lowest = min(groups[g].layer for g in opened)
            spent = cost.fixed(lowest) + float(milliseconds[taken].sum() + touch[opened].sum())
            worth = float(items.value[taken].sum())
            bound = knapsack.bound(allowed, capacity)
            candidates.append(_Candidate(lowest, taken, worth, spent, bound))
    if not candidates:
        raise SelectionError(_too_small(groups, budget, cost, backbone_parameters, lowest_layers))
    best = _choose(candidates, rule, cost.forward)
    trained = int(items.size[best.taken].sum())
    return Packing(
        items.by_group(best.taken), best.lowest, trained, best.worth, best.spent / cost.full,
        best.bound,
    )  # fmt: skip


def _floor(lowest: int) -> int:
    return EMBEDDING_LAYER if lowest == 0 else lowest


def _cut(lowest: int, groups: Sequence[UnitGroup]) -> int:
    """The cut that units from `lowest` upwards may need: the embedding, where it has units."""
    if lowest == 0 and any(group.layer == EMBEDDING_LAYER for group in groups):
        return EMBEDDING_LAYER
    return lowest


def _choose(candidates: Sequence[_Candidate], rule: str, forward: float) -> _Candidate:
    """The best by the rule; the candidates come from the top, and the first of equals is taken."""
    if rule == "worth":
        return max(candidates, key=lambda c: c.worth)
    anyhow = forward if rule == "marginal" else 0.0
    # Something is always trained, but a fitted cost may be below a fitted forward pass.
    least = 1e-6 * max(c.spent for c in candidates)
    return max(candidates, key=lambda c: c.worth / max(c.spent - anyhow, least))


def _too_small(
    groups: Sequence[UnitGroup],
    budget: Budget,
    cost: Cost,
    backbone_parameters: int,
    lowest_layers: Sequence[int],
) -> str:
    smallest = min(group.size for group in groups)
    top = max(lowest_layers)
    least = min(
        cost.fixed(_cut(top, groups)) + group.size * cost.slope(group) + cost.touch(group)
        for group in groups
        if group.layer >= _floor(top)
    )
    return (
        f"expected a budget for at least one unit of {smallest} weights, got {budget}; "
        f"raise it (one unit is a density of {smallest / backbone_parameters:.2g}; the upper "
        f"layer alone is a step_time of {least / cost.full:.2f}), "
        "or choose a smaller kind of unit."
    )
