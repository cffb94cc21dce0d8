"""Which entries of one weight are trained: reading and writing them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseft.selection.selection import ModuleSelection
from sparseft.selection.units import Structure

__all__ = ["Plan"]


@dataclass(eq=False)
class Plan:
    """Entries of a weight [n, k] by structure.

    Shape of the compact values: rows and embedding [m, k], columns [n, m], blocks [m, b, b],
    elements [m].
    """

    structure: Structure
    index: Tensor  # [m] int64
    edge: int
    bias: bool

    @classmethod
    def of(cls, selected: ModuleSelection, device: torch.device) -> Plan:
        """The plan of one module's selection, on the weight's device."""
        index = torch.from_numpy(selected.index.copy()).to(device)
        return cls(selected.structure, index, selected.edge, selected.bias)

    def move(self, function: Callable[[Tensor], Tensor]) -> None:
        """Follow a module to another device."""
        self.index = function(self.index)

    def read(self, weight: Tensor) -> Tensor:
        """Copy the entries out of `weight`, in its dtype."""
        if self.structure in ("rows", "embedding"):
            return weight.index_select(0, self.index)
        if self.structure == "columns":
            return weight.index_select(1, self.index)
        if self.structure == "elements":
            return weight.reshape(-1).index_select(0, self.index)
        row, column = self._blocks(weight)
        return self._grid(weight)[row, :, column, :]  # [m, b, b]

    def write(self, weight: Tensor, values: Tensor) -> None:
        """Copy `values` into their entries of `weight`, in place, rounded to its dtype."""
        values = values.detach().to(weight.dtype)
        if self.structure in ("rows", "embedding"):
            weight.index_copy_(0, self.index, values)
        elif self.structure == "columns":
            weight.index_copy_(1, self.index, values)
        elif self.structure == "elements":
            weight.view(-1).index_copy_(0, self.index, values)
        else:
            row, column = self._blocks(weight)
            self._grid(weight)[row, :, column, :] = values

    def _blocks(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        columns = weight.shape[1] // self.edge
        row = torch.div(self.index, columns, rounding_mode="floor")
        return row, self.index - row * columns

    def _grid(self, weight: Tensor) -> Tensor:
        n, k = weight.shape
        return weight.view(n // self.edge, self.edge, k // self.edge, self.edge)
