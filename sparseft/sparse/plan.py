"""Which entries of one weight are trained: reading and writing them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseft.selection.selection import ModuleSelection
from sparseft.selection.units import Structure
from sparseft_kernels.checks import index_dtype
from sparseft_kernels.entries import Entries, read, write

__all__ = ["Plan"]


@dataclass(eq=False)
class Plan:
    """Entries of a weight [n, k] by structure.

    Shape of the compact values: rows and embedding [m, k], columns [n, m], blocks [m, b, b],
    elements [m].
    """

    structure: Structure
    index: Tensor  # [m] int32, or int64 for a weight of 2^31 entries and more
    edge: int
    bias: bool  # bias entries are trained too: those of the selected rows, or those of bias_index
    bias_index: Tensor | None = None  # [n] where the whole bias is trained

    @classmethod
    def of(cls, selected: ModuleSelection, device: torch.device, whole_bias: bool = False) -> Plan:
        """The plan of one module's selection, on the weight's device."""
        n, k = selected.shape
        index = torch.from_numpy(selected.index.copy()).to(device, index_dtype(n * k))
        bias_index = torch.arange(n, device=device, dtype=index.dtype) if whole_bias else None
        return cls(
            selected.structure, index, selected.edge, selected.bias or whole_bias, bias_index
        )

    def move(self, function: Callable[[Tensor], Tensor]) -> None:
        """Follow a module to another device."""
        self.index = function(self.index)
        if self.bias_index is not None:
            self.bias_index = function(self.bias_index)

    def entries(self, weight: Tensor) -> Entries:
        """The entries of `weight`, for kernels."""
        return Entries(weight, self.structure, self.index, self.edge)

    def bias_entries(self, bias: Tensor) -> Entries:
        """The trained bias entries: those of the selected rows, or all."""
        index = self.index if self.bias_index is None else self.bias_index
        return Entries(bias, "elements", index)

    def read(self, weight: Tensor) -> Tensor:
        """Copy the entries out of `weight`, in its dtype."""
        return read(weight, self.structure, self.index, self.edge)

    def write(self, weight: Tensor, values: Tensor) -> None:
        """Copy `values` into their entries of `weight`, in place, rounded to its dtype."""
        write(weight, self.structure, self.index, self.edge, values)
