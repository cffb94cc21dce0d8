"""The entries of one weight, and the few numbers by which a kernel finds them.

Every structure is a compact array [outer, inner] whose value (i, j) stands in the weight at

    rows, embedding, elements   index[i] * stride + j      (an element is a row of one number)
    columns                     i * stride + index[j]
    blocks                      corner(index[i]) + (j // b) * stride + j % b

Where four neighbouring values are also neighbours in the weight, the sizes are counted in quads of
four numbers, which move at once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sparseft_kernels.checks import check_index
from sparseft_kernels.errors import KernelInputError

__all__ = ["BLOCKS", "COLUMNS", "NOWHERE", "ROWS", "STRUCTURES", "Entries", "check_entries"]

STRUCTURES = ("rows", "embedding", "columns", "blocks", "elements")

# How a kernel computes the address.
NOWHERE, ROWS, COLUMNS, BLOCKS = range(4)

# Offsets inside one chunk of a kernel are 32-bit numbers.
_INNER_LIMIT = 2**31 - 2**16


class Entries(NamedTuple):
    """Selected entries of one weight.

    Attributes:
        weight: [n, k] contiguous; or [n], of which only elements can be selected.
        structure: one of STRUCTURES.
        index: [m] int32 or int64 on the weight's device, ascending without duplicates.
        edge: side of a block; 0 for other structures.
    """

    weight: Tensor
    structure: str
    index: Tensor  # type: ignore[assignment]  # tuples have a method of this name
    edge: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the compact values."""
        m = self.index.shape[0]
        if self.structure in ("rows", "embedding"):
            return m, self.weight.shape[1]
        if self.structure == "columns":
            return self.weight.shape[0], m
        return (m,) if self.structure == "elements" else (m, self.edge, self.edge)

    def addressing(self, quads: bool) -> tuple[int, int, int, int, int, int]:
        """Kind, inner size, stride, edge, width of a block and blocks in a row.

        Args:
            quads: count in quads; only where `has_quads`.
        """
        structure, edge = self.structure, self.edge
        if structure == "elements":
            return ROWS, 1, 1, 1, 1, 1
        size = 4 if quads else 1
        k = self.weight.shape[1] // size
        if structure == "columns":
            return COLUMNS, self.index.shape[0], k, 1, 1, 1
        if structure == "blocks":
            width = edge // size
            return BLOCKS, edge * width, k, edge, width, k // width
        return ROWS, k, k, 1, 1, 1

    @property
    def has_quads(self) -> bool:
        """Whether values 4i to 4i + 3 are neighbours in the weight, and the first at a 4th."""
        structure = self.structure
        if structure == "blocks":
            return self.edge % 4 == 0
        return structure in ("rows", "embedding") and self.weight.shape[1] % 4 == 0


def check_entries(entries: Entries) -> None:
    """Shapes, dtypes and devices; the contents of the index where that costs no wait.

    Raises:
        KernelInputError: something does not fit.
    """
    weight, structure, index, edge = entries
    if structure not in STRUCTURES:
        raise KernelInputError(
            f"expected a structure of {', '.join(STRUCTURES)}, got {structure!r}."
        )
    if weight.ndim != 2 and not (weight.ndim == 1 and structure == "elements"):
        raise KernelInputError(
            f"expected a weight [n, k] (or [n] with elements), got {tuple(weight.shape)} with "
            f"{structure}; select of a matrix."
        )
    if not weight.is_contiguous():
        raise KernelInputError(
            "expected a contiguous weight, got one with strides "
            f"{weight.stride()}; call .contiguous() on it first."
        )
    if weight.device != index.device:
        raise KernelInputError(
            f"expected weight and index on one device, got {weight.device} and {index.device}; "
            "move the index."
        )
    n, k = weight.shape if weight.ndim == 2 else (weight.shape[0], 1)
    if structure == "blocks" and (edge < 1 or n % edge or k % edge):
        raise KernelInputError(
            f"expected a block edge that divides {n} and {k}, got {edge}; choose another."
        )
    if max(index.shape[0], edge * edge, k) > _INNER_LIMIT:
        raise KernelInputError(
            f"expected rows of at most {_INNER_LIMIT} numbers, got {tuple(weight.shape)} with "
            f"{index.shape[0]} {structure}; split the weight."
        )
    check_index(index, _limit(structure, n, k, edge), structure)


def _limit(structure: str, n: int, k: int, edge: int) -> int:
    if structure in ("rows", "embedding"):
        return n
    if structure == "columns":
        return k
    return n * k if structure == "elements" else (n // edge) * (k // edge)


def check_compact(values: Tensor, entries: Entries, dtype: torch.dtype | None, what: str) -> None:
    """`values` hold the entries: their number, device and (where given) dtype.

    Raises:
        KernelInputError: they do not.
    """
    if (
        values.numel() != math.prod(entries.shape)
        or values.device != entries.weight.device
        or (dtype is not None and values.dtype != dtype)
    ):
        raise KernelInputError(
            f"expected {what} of shape {entries.shape}"
            + ("" if dtype is None else f", {dtype},")
            + f" on {entries.weight.device}, got {values.dtype} {tuple(values.shape)} on "
            f"{values.device}; allocate it so."
        )
