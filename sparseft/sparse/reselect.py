"""Exchange which entries a sparse model trains, in place, without a new parameter.

The numbers of entries stay, so the compact parameters, the optimizer that holds them and compiled
code stay too. Entries that leave are the base's again, bit for bit; entries that come begin at the
base's value; all others keep their value and their optimizer state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparseft.errors import SelectionError
from sparseft.selection.selection import ModuleSelection, Selection
from sparseft.sparse.apply import carry_selection, selection_of, sparse_modules, sync
from sparseft.sparse.modules import SparseModule
from sparseft_kernels.entries import read, write

__all__ = ["Move", "SecondMoment", "reselect"]

SecondMoment = Literal["zero", "mean"]


@dataclass(frozen=True, eq=False)
class Move:
    """How one compact parameter's entries moved: old places go to new ones along `dim`."""

    parameter: nn.Parameter
    fresh: Tensor  # the base's values at the new entries, of the parameter's shape
    dim: int
    old: Tensor  # [kept] places of the kept entries before
    new: Tensor  # [kept] and now

    def carry(self, tensor: Tensor, fill: Tensor) -> Tensor:
        """`tensor` in the new order; `fill`, of the same shape, where an entry is new."""
        kept = tensor.index_select(self.dim, self.old)
        return fill.to(tensor.dtype).index_copy(self.dim, self.new, kept)


def reselect(
    model: nn.Module,
    selection: Selection,
    optimizer: Optimizer | None = None,
    *,
    second_moment: SecondMoment = "zero",
) -> list[Move]:
    """Train the entries of `selection` from now on.

    Args:
        model: after `sparsify` or `load_delta`.
        selection: of the same base, modules, structures and numbers of entries.
        optimizer: its state for the compact values moves with them; state of new entries is 0.
        second_moment: "mean" starts the second moment of new entries (exp_avg_sq) at the kept
            ones' mean instead of 0. torch counts steps by tensor, so from 0 the bias correction
            is missing and new entries move up to (1 - b1^n) / sqrt(1 - b2^n), up to 6.6, times as
            far as old ones in their first tens of steps.

    Returns:
        What moved, for whoever keeps tensors of the parameters' shapes.

    Raises:
        SelectionError: another structure, or inside `disabled`; nothing is changed.
    """
    current = selection_of(model)
    if _structure(current) != _structure(selection):
        raise SelectionError(
            "expected a selection of the same base with as many entries in every module, got "
            "another structure; call sparseft.unload and sparseft.sparsify instead."
        )
    modules = sparse_modules(model)
    if any(module.sparse_disabled for module in modules.values()):
        raise SelectionError(
            "expected a model with its delta, got one inside sparseft.disabled; "
            "leave the block first."
        )
    sync(model)
    moves: list[Move] = []
    for selected in selection.modules:
        values = modules[selected.module].sparse_values
        # Tied weights: all users hold the same values, the first one that was selected leads.
        owners = [m for m in modules.values() if m.sparse_values is values]
        owners.sort(key=lambda owner: owner is not modules[selected.module])
        moves += _move(owners, selected)
    if optimizer is not None:
        for move in moves:
            _move_state(optimizer, move, second_moment)
    carry_selection(model, selection)
    return moves


def _structure(selection: Selection) -> tuple[object, ...]:
    """All but which entries."""
    modules = [
        (m.module, m.structure, m.index.size, m.shape, m.bias, m.edge) for m in selection.modules
    ]
    return selection.base_hash, selection.vectors, selection.head, modules


@torch.no_grad()
def _move(owners: Sequence[SparseModule], selected: ModuleSelection) -> list[Move]:
    lead = owners[0]
    plan, weight = lead.sparse_plan, lead.weight.detach()
    # A bias that is trained as a whole does not move.
    bias = lead.bias if plan.bias_index is None else None
    before = plan.index.clone()
    index = torch.from_numpy(selected.index.copy()).to(before.device, before.dtype)
    if torch.equal(before, index):
        return []
    base, base_bias = lead.sparse_base
    plan.write(weight, base)
    if base_bias is not None and bias is not None:
        write(*plan.bias_entries(bias.detach()), base_bias)
    for owner in owners:
        # In place: compiled code and captured graphs hold the tensor.
        owner.sparse_plan.index.copy_(index)
    old = torch.isin(before, index, assume_unique=True).nonzero().squeeze(1)
    new = torch.isin(index, before, assume_unique=True).nonzero().squeeze(1)
    new_base = plan.read(weight)
    dim = 1 if plan.structure == "columns" else 0
    moves = [_values(lead.sparse_values, new_base, dim, old, new)]
    if base_bias is not None and bias is not None and lead.sparse_bias is not None:
        base_bias = read(*plan.bias_entries(bias.detach()))
        moves.append(_values(lead.sparse_bias, base_bias, 0, old, new))
    for owner in owners:
        owner.sparse_base = (new_base, base_bias if owner is lead else None)
        owner.write_through()
    return moves


def _values(parameter: nn.Parameter, base: Tensor, dim: int, old: Tensor, new: Tensor) -> Move:
    move = Move(parameter, base.to(parameter.dtype, copy=True), dim, old, new)
    parameter.copy_(move.carry(parameter.detach(), move.fresh))
    return move


@torch.no_grad()
def _move_state(optimizer: Optimizer, move: Move, second_moment: SecondMoment) -> None:
    for name, tensor in optimizer.state.get(move.parameter, {}).items():
        if not isinstance(tensor, Tensor) or tensor.shape != move.parameter.shape:
            continue  # the step counter
        fill = torch.zeros_like(tensor)
        if second_moment == "mean" and name == "exp_avg_sq" and move.old.numel():
            fill += tensor.index_select(move.dim, move.old).mean()
        tensor.copy_(move.carry(tensor, fill))
