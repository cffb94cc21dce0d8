"""The knapsack itself: greedy by worth per cost, and the bound of its linear relaxation.

A unit has a value and a cost; a group's first unit costs an extra, the group's charge. Greedy
without charges is worth at least half of the best choice and here nearly all of it, because units
are small against the capacity (Dantzig 1957, "Discrete-Variable Extremum Problems").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparseft.selection.units import UnitGroup

__all__ = ["Items", "Knapsack"]

# Predicted times are sums in float64: two that are equal may differ by this much.
_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Items:
    """The units of all groups, one after the other: [units] each."""

    value: NDArray[np.float64]
    size: NDArray[np.int64]
    group: NDArray[np.int64]
    starts: NDArray[np.int64]  # [groups + 1]

    @classmethod
    def of(cls, groups: Sequence[UnitGroup], scores: Sequence[NDArray[np.float64]]) -> Items:
        """The units of `groups`, with one score each."""
        counts = [group.count for group in groups]
        return cls(
            np.concatenate(list(scores)),
            np.repeat([group.size for group in groups], counts).astype(np.int64),
            np.repeat(np.arange(len(groups)), counts),
            np.cumsum([0, *counts]),
        )

    def by_group(self, taken: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Sorted unit numbers of each group among the items `taken`."""
        owner = self.group[taken]
        return tuple(
            np.sort(taken[owner == g] - self.starts[g]) for g in range(self.starts.size - 1)
        )


class Knapsack:
    """Items with their costs, ordered once for every capacity.

    Args:
        items: N of them in G groups.
        cost: [N] above 0.
        charge: [G] at least 0, paid once by each group that has a chosen item.
    """

    def __init__(
        self, items: Items, cost: NDArray[np.float64], charge: NDArray[np.float64]
    ) -> None:
        self._items, self._cost, self._charge = items, cost, charge
        counts = np.diff(items.starts)
        # A group's charge spread over all its items: no choice pays less than this for its own.
        self._spread = cost + (charge / np.maximum(counts, 1))[items.group]
        # In exact arithmetic a free item comes first; it cannot be divided by.
        free = np.maximum(self._spread, np.finfo(np.float64).tiny)
        with np.errstate(over="ignore"):
            self._order = np.lexsort((np.arange(cost.size), -items.value / free))

    def pack(self, allowed: NDArray[np.bool_], capacity: float) -> NDArray[np.int64]:
        """The items taken greedily, or the best single one and what fits beside it.

        Args:
            allowed: [G], which groups may be taken from.
            capacity: of the costs and charges.

        Returns:
            Item numbers [m]; none where nothing fits.
        """
        order = self._order[allowed[self._items.group[self._order]]]
        taken = self._greedy(order, capacity)
        alone = order[self._alone(order) <= capacity + _slack(capacity)]
        if alone.size == 0:
            return taken
        single = alone[np.argmax(self._items.value[alone])]
        if self._items.value[single] <= self._items.value[taken].sum():
            return taken
        return self._greedy(np.concatenate([[single], order[order != single]]), capacity)

    def bound(self, allowed: NDArray[np.bool_], capacity: float) -> float:
        """An upper bound of the value of any choice: items may be taken in parts.

        A part of a group pays that part of its charge, so the bound holds with charges, too.
        """
        order = self._order[allowed[self._items.group[self._order]]]
        order = order[self._items.value[order] > 0.0]
        cost, value = self._spread[order], self._items.value[order]
        total = np.cumsum(cost)
        whole = int(np.searchsorted(total, capacity + _slack(capacity), side="right"))
        worth = float(value[:whole].sum())
        if whole < order.size:
            left = capacity - (float(total[whole - 1]) if whole else 0.0)
            worth += max(0.0, left) / float(cost[whole]) * float(value[whole])
        return worth

    def _alone(self, order: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._cost[order] + self._charge[self._items.group[order]]

    def _greedy(self, order: NDArray[np.int64], capacity: float) -> NDArray[np.int64]:
        """The longest prefix that fits, then whatever still fits behind it, and so on."""
        group, rest, left = self._items.group, order, capacity + _slack(capacity)
        unopened = np.ones(self._charge.size, dtype=bool)
        taken = [order[:0]]
        while rest.size:
            extra = np.where(unopened, self._charge, 0.0)
            rest = rest[self._cost[rest] + extra[group[rest]] <= left]
            if rest.size == 0:
                break
            cost = self._cost[rest].copy()
            opened, first = np.unique(group[rest], return_index=True)
            cost[first] += extra[opened]
            total = np.cumsum(cost)
            # At least one: the first fits.
            fits = max(1, int(np.searchsorted(total, left, side="right")))
            taken.append(rest[:fits])
            unopened[group[rest[:fits]]] = False
            left -= float(total[fits - 1])
            rest = rest[fits:]
        return np.concatenate(taken)


def _slack(capacity: float) -> float:
    return _TOLERANCE * abs(capacity)
