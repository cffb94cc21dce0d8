"""Where the selected units lie, against units that are drawn at random.

Legend: L rows of the map (layers), K kinds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparseft.case_study.units import all_groups
from sparseft.selection import ModelLayout, Selection
from sparseft.selection.budget import lowest_layer_of_depth

__all__ = ["Placement", "placement_of"]

_DRAWS = 20_000


@dataclass(frozen=True, eq=False)
class Placement:
    """Counts of selected units by layer and kind.

    Attributes:
        layers: [L] layer numbers, lowest first; -1 is the token embedding.
        kinds: [K].
        units: int64 [L, K], all units there are.
        selected: int64 [L, K].
        expected: float64 [L, K], the mean of a random selection of as many weights in the layers
            that could be chosen, every unit equally likely; 0 in the others.
        low, high: int64 [L, K], the middle 95% of such selections.
    """

    layers: tuple[int, ...]
    kinds: tuple[str, ...]
    units: NDArray[np.int64]
    selected: NDArray[np.int64]
    expected: NDArray[np.float64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @property
    def share(self) -> NDArray[np.float64]:
        """float64 [L, K]: selected of all; NaN where there is no such unit."""
        return np.where(self.units > 0, self.selected / np.maximum(self.units, 1), np.nan)

    @property
    def ratio(self) -> NDArray[np.float64]:
        """float64 [L, K]: selected to expected; NaN where nothing is expected."""
        safe = np.where(self.expected > 0, self.expected, 1.0)
        return np.where(self.expected > 0, self.selected / safe, np.nan)


def placement_of(layout: ModelLayout, selection: Selection, seed: int = 0) -> Placement:
    """Count the selected units and draw what chance would give.

    Args:
        layout: of the model.
        selection: its selection.
        seed: of the draws behind the interval.
    """
    groups = all_groups(layout, selection)
    layers = tuple(dict.fromkeys([*sorted({g.layer for g in groups if g.layer < 0}),
                                  *range(selection.num_layers)]))  # fmt: skip
    kinds = tuple(dict.fromkeys(group.kind for group in groups))
    shape = (len(layers), len(kinds))
    units, selected = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    weights = np.zeros(shape)
    for group in groups:
        cell = layers.index(group.layer), kinds.index(group.kind)
        units[cell] += group.count
        weights[cell] += group.count * group.size
    trained = 0
    sizes = {(group.kind, group.label): group.size for group in groups}
    for choice in selection.choices:
        if (choice.kind, choice.label) not in sizes:
            continue
        selected[layers.index(choice.layer), kinds.index(choice.kind)] += choice.units.size
        trained += choice.units.size * sizes[choice.kind, choice.label]
    floor = _floor(selection)
    candidate = np.array(layers)[:, None] >= floor
    probability = min(trained / float((weights * candidate).sum()), 1.0)
    random = np.random.default_rng(seed)
    draws = random.binomial(np.where(candidate, units, 0), probability, (_DRAWS, *shape))
    low, high = np.quantile(draws, [0.025, 0.975], axis=0, method="inverted_cdf")
    return Placement(
        layers=layers,
        kinds=kinds,
        units=units,
        selected=selected,
        expected=np.where(candidate, units * probability, 0.0),
        low=low.astype(np.int64),
        high=high.astype(np.int64),
    )


def _floor(selection: Selection) -> int:
    """The lowest layer that could have been chosen."""
    depth = selection.info.get("depth")
    if isinstance(depth, (int, float)) and not isinstance(depth, bool) and 0 < depth <= 1:
        allowed = lowest_layer_of_depth(float(depth), selection.num_layers)
        allowed = -1 if allowed == 0 else allowed
        return min(allowed, selection.lowest_layer)
    # Chosen with the units themselves; given that depth, chance plays among the layers above.
    return selection.lowest_layer
