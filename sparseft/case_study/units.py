"""The selected units of a model one by one, and how sensitive each is to the texts of one class.

Legend: U selected units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from sparseft.errors import SelectionError
from sparseft.saliency import unit_sensitivities
from sparseft.selection import ModelLayout, Selection, UnitGroup, layout_of, unit_groups
from sparseft.selection.units import Kind

__all__ = ["SelectedUnits", "all_groups", "class_sensitivity", "selected_units"]


@dataclass(frozen=True, eq=False)
class SelectedUnits:
    """Selected units in one flat order.

    Attributes:
        groups: that any unit is selected of.
        group: int64 [U], the place in `groups`.
        number: int64 [U], of the unit in its group.
        size: int64 [U], parameters of the unit.
        edge: of blocks.
    """

    groups: tuple[UnitGroup, ...]
    group: NDArray[np.int64]
    number: NDArray[np.int64]
    size: NDArray[np.int64]
    edge: int

    def __len__(self) -> int:
        return len(self.group)

    @property
    def kind(self) -> NDArray[np.str_]:
        """[U], the kind of each unit."""
        return np.array([group.kind for group in self.groups])[self.group]


def all_groups(layout: ModelLayout, selection: Selection) -> tuple[UnitGroup, ...]:
    """Every unit of the kinds that the selection holds, selected or not, as groups.

    Raises:
        SelectionError: the selection holds no kind of unit that is known here.
    """
    known = get_args(Kind)
    kinds = tuple(dict.fromkeys(c.kind for c in selection.choices if c.kind in known))
    if not kinds:
        raise SelectionError(
            f"expected a selection of {', '.join(known)}, got units of "
            f"{', '.join(sorted({str(c.kind) for c in selection.choices})) or 'no kind'}; "
            "choose a run that selected such units."
        )
    return unit_groups(layout, kinds, block_edge=_edge(selection))


def _edge(selection: Selection) -> int:
    return max((module.edge for module in selection.modules), default=0) or 32


def selected_units(model: nn.Module, selection: Selection) -> SelectedUnits:
    """The units that a selection chose of a model.

    Raises:
        SelectionError: as `all_groups`.
    """
    groups = {(g.kind, g.label): g for g in all_groups(layout_of(model), selection)}
    chosen = [
        (groups[c.kind, c.label], c) for c in selection.choices if (c.kind, c.label) in groups
    ]
    sizes = [choice.units.size for _, choice in chosen]
    return SelectedUnits(
        groups=tuple(group for group, _ in chosen),
        group=np.repeat(np.arange(len(chosen)), sizes),
        number=np.concatenate([choice.units for _, choice in chosen]),
        size=np.repeat([group.size for group, _ in chosen], sizes),
        edge=_edge(selection),
    )


def class_sensitivity(
    model: nn.Module, units: SelectedUnits, batches: Iterable[Mapping[str, Tensor]]
) -> NDArray[np.float64]:
    """float64 [U]: token-weighted Fisher per weight of each unit, on batches of one class alone.

    Per weight, as selections are packed: else heads would lead because they are large.

    Raises:
        SelectionError: no batch, or a loss that is not finite.
    """
    measured = unit_sensitivities(
        model,
        layout_of(model),
        units.groups,
        batches,
        lowest_layer=min(group.layer for group in units.groups),
        block_edge=units.edge,
    )
    scores = measured.by_saliency["gradient_x_input"]
    of_unit = [scores[g][n] for g, n in zip(units.group.tolist(), units.number, strict=True)]
    return np.asarray(of_unit) / units.size
