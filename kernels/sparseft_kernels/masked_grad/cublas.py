"""Compact weight gradients as gathers and dense matrix products.

Rows gather dY and columns have their gathered X already: one dense product each. Blocks and
elements compute W's gradient in a few strips of rows and keep what is selected: worth it only where
so much is selected that skipping the rest saves nothing.

Legend as in reference.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sparseft_kernels.masked_grad.reference import result_dtype, wide

__all__ = ["blocks", "columns", "elements", "product", "rows"]

# W's gradient never exists whole: a quarter of its rows at a time.
_STRIPS = 4


def product(a: Tensor, b: Tensor) -> Tensor:
    """a [p, T] times b [T, q] with a float32 result (float64 for float64)."""
    if a.device.type == "cuda" and a.dtype in (torch.bfloat16, torch.float16):
        if a.shape[1] == 0:
            return a.new_zeros(a.shape[0], b.shape[1], dtype=torch.float32)
        return torch.mm(a, b, out_dtype=torch.float32)
    return wide(a) @ wide(b)


def rows(dY: Tensor, X: Tensor, index: Tensor, bias: bool) -> tuple[Tensor, Tensor]:
    """As reference.rows: the gather, then one product."""
    selected = dY.index_select(1, index)  # [T, m]
    dtype = result_dtype(dY.dtype)
    sums = selected.sum(0, dtype=dtype) if bias else selected.new_empty(0, dtype=dtype)
    return product(selected.t(), X), sums


def columns(dY: Tensor, X_selected: Tensor) -> Tensor:
    """As reference.columns: one product."""
    return product(dY.t(), X_selected)


def blocks(dY: Tensor, X: Tensor, index: Tensor, edge: int) -> Tensor:
    """As reference.blocks, from strips of the dense gradient."""
    grid_columns = X.shape[1] // edge
    out = dY.new_empty(index.numel(), edge, edge, dtype=result_dtype(dY.dtype))
    for start, stop in _strips(dY.shape[1] // edge):
        strip = product(dY[:, start * edge : stop * edge].t(), X)  # [rows, k]
        tiles = strip.reshape(stop - start, edge, grid_columns, edge)
        row = torch.div(index, grid_columns, rounding_mode="floor")
        column = index - row * grid_columns
        inside = (row >= start) & (row < stop)
        found = tiles[(row - start).clamp(0, stop - start - 1), :, column, :]  # [m, b, b]
        out = torch.where(inside[:, None, None], found, out)
    return out


def elements(dY: Tensor, X: Tensor, index: Tensor) -> Tensor:
    """As reference.elements, from strips of the dense gradient."""
    k = X.shape[1]
    out = dY.new_empty(index.numel(), dtype=result_dtype(dY.dtype))
    for start, stop in _strips(dY.shape[1]):
        strip = product(dY[:, start:stop].t(), X).reshape(-1)
        inside = (index >= start * k) & (index < stop * k)
        found = strip.index_select(0, (index - start * k).clamp(0, strip.numel() - 1))
        out = torch.where(inside, found, out)
    return out


def _strips(rows: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of each strip: about a quarter of the rows."""
    height = max(1, -(-rows // _STRIPS))
    return ((start, min(start + height, rows)) for start in range(0, rows, height))
