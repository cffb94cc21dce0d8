"""Entries of a weight in plain torch.

Legend: weight W [n, k] row-major, m selected, b block edge. The compact values of a structure are

    rows, embedding  [m, k]     W[index]
    columns          [n, m]     W[:, index]
    blocks           [m, b, b]  tiles of the [n / b, k / b] grid, numbered row by row
    elements         [m]        W.reshape(-1)[index]; of a vector (a bias) its entries
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["positions", "read", "write"]


def read(weight: Tensor, structure: str, index: Tensor, edge: int) -> Tensor:
    """Copy the entries out of `weight`, in its dtype.

    Args:
        weight: [n, k], or [n] for elements.
        structure: rows, embedding, columns, blocks or elements.
        index: [m] int32 or int64, ascending without duplicates.
        edge: b, for blocks alone.
    """
    if structure in ("rows", "embedding"):
        return weight.index_select(0, index)
    if structure == "columns":
        return weight.index_select(1, index)
    if structure == "elements":
        return weight.reshape(-1).index_select(0, index)
    row, column = _blocks(weight, index, edge)
    return _grid(weight, edge)[row, :, column, :]  # [m, b, b]


def write(weight: Tensor, structure: str, index: Tensor, edge: int, values: Tensor) -> None:
    """Copy `values` into their entries of `weight`, in place, rounded to its dtype.

    Args:
        weight: contiguous; the rest as for `read`.
        values: of the structure's compact shape, any floating dtype.
    """
    values = values.detach().to(weight.dtype)
    # torch copies by int64 alone.
    index = index.long()
    if structure in ("rows", "embedding"):
        weight.index_copy_(0, index, values)
    elif structure == "columns":
        weight.index_copy_(1, index, values)
    elif structure == "elements":
        # Distinct places: the order of a scatter does not matter, and it is the faster form.
        weight.view(-1).scatter_(0, index, values)
    else:
        row, column = _blocks(weight, index, edge)
        _grid(weight, edge)[row, :, column, :] = values


def positions(shape: tuple[int, ...], structure: str, index: Tensor, edge: int) -> Tensor:
    """The flat place of every compact value in a weight of `shape`, int64: what kernels compute."""
    index = index.long()
    if structure == "elements":
        return index
    n, k = shape
    if structure in ("rows", "embedding"):
        return index[:, None] * k + torch.arange(k, device=index.device)
    if structure == "columns":
        return torch.arange(n, device=index.device)[:, None] * k + index
    row = torch.div(index, k // edge, rounding_mode="floor")
    corner = row * edge * k + (index - row * (k // edge)) * edge  # [m]
    side = torch.arange(edge, device=index.device)
    return corner[:, None, None] + side[:, None] * k + side


def _blocks(weight: Tensor, index: Tensor, edge: int) -> tuple[Tensor, Tensor]:
    columns = weight.shape[1] // edge
    row = torch.div(index, columns, rounding_mode="floor")
    return row, index - row * columns


def _grid(weight: Tensor, edge: int) -> Tensor:
    n, k = weight.shape
    return weight.view(n // edge, edge, k // edge, edge)
