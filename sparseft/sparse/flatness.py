"""How much training uses each unit of a sparse model, told from its optimizer or its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from sparseft.errors import SelectionError
from sparseft.selection.units import UnitGroup
from sparseft.sparse.apply import sparse_modules
from sparseft.sparse.modules import SparseModule

__all__ = ["FlatnessScore", "flatness"]

FlatnessScore = Literal["moments", "movement"]


@torch.no_grad()
def flatness(
    model: nn.Module, groups: Sequence[UnitGroup], optimizer: Optimizer, by: FlatnessScore
) -> tuple[NDArray[np.float64], ...]:
    """How much training uses each unit; units that are not trained have 0. Low is flat.

    moments: the sum over the unit's entries of m^2 / sqrt(v), Adam's bias-corrected moments: the
        fall of the loss that a step of learning rate 1 predicts.
    movement: the sum of |value - base|.

    Returns:
        For each group, [units].

    Raises:
        SelectionError: "moments" with an optimizer that keeps none.
    """
    modules = sparse_modules(model)
    betas = {
        id(parameter): group.get("betas")
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    scores = []
    for group in groups:
        total = torch.zeros(group.count, dtype=torch.float64)
        for piece in group.pieces:
            module = modules[piece.module]
            entries = torch.zeros(piece.entries, dtype=torch.float64)
            entries[module.sparse_plan.index.cpu().long()] = _by_entry(module, optimizer, betas, by)
            total += entries if piece.index is None else entries[piece.index].sum(1)
        scores.append(total.numpy())
    return tuple(scores)


def _by_entry(
    module: SparseModule, optimizer: Optimizer, betas: Mapping[int, Any], by: FlatnessScore
) -> Tensor:
    """[m] on the CPU: one number for each selected row, column, block or element."""
    base, base_bias = module.sparse_base
    values = _per_number(module.sparse_values, base, optimizer, betas, by)
    if module.sparse_plan.structure == "columns":
        values = values.transpose(0, 1)
    entries = values.reshape(values.shape[0], -1).sum(1, dtype=torch.float64).cpu()
    of_rows = module.sparse_plan.bias_index is None
    if module.sparse_bias is not None and base_bias is not None and of_rows:
        entries += _per_number(module.sparse_bias, base_bias, optimizer, betas, by).cpu()
    return entries


def _per_number(
    parameter: nn.Parameter,
    base: Tensor,
    optimizer: Optimizer,
    betas: Mapping[int, Any],
    by: FlatnessScore,
) -> Tensor:
    if by == "movement":
        return (parameter - base.to(parameter.dtype)).abs()
    pair, state = betas.get(id(parameter)), optimizer.state.get(parameter)
    if pair is None or (state and "exp_avg" not in state):
        raise SelectionError(
            "expected an optimizer with Adam's moments over the compact values, got "
            f"{type(optimizer).__name__}; use SparseAdamW, or refresh by movement."
        )
    if not state:
        return torch.zeros_like(parameter)
    step = float(state["step"])
    mean = state["exp_avg"] / (1.0 - float(pair[0]) ** step)
    square = state["exp_avg_sq"] / (1.0 - float(pair[1]) ** step)
    return mean.square() / (square.sqrt() + 1e-12)
