"""From chosen units to the entries of each weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparseft.selection.layout import ModelLayout
from sparseft.selection.selection import ModuleSelection
from sparseft.selection.units import UnitGroup

__all__ = ["module_selections"]


def module_selections(
    layout: ModelLayout,
    groups: Sequence[UnitGroup],
    chosen: Sequence[NDArray[np.int64]],
    edge: int,
) -> tuple[ModuleSelection, ...]:
    """The entries that the chosen units of each group own, by weight, in the groups' order.

    Args:
        layout: of the model.
        groups: all groups.
        chosen: sorted unit numbers of each group; groups without any are left out.
        edge: of blocks.
    """
    modules = []
    for group, units in zip(groups, chosen, strict=True):
        if units.size == 0:
            continue
        for piece in group.pieces:
            module = layout.modules[piece.module]
            weight = module.weight
            assert isinstance(weight, Tensor)
            modules.append(
                ModuleSelection(
                    module=piece.module,
                    structure=piece.structure,
                    index=piece.of(torch.from_numpy(units)).numpy(),
                    shape=(int(weight.shape[0]), int(weight.shape[1])),
                    bias=piece.structure == "rows" and module.bias is not None,
                    edge=edge if piece.structure == "blocks" else 0,
                )
            )
    return tuple(modules)
