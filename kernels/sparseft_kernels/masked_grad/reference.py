"""Compact weight gradients in plain torch.

Legend: T tokens, n output features, k input features, m selected, b block edge.
Y = X W^T, so dW = dY^T X is [n, k]; none of these functions allocates a tensor of that shape
(unless everything is selected).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["blocks", "columns", "elements", "rows"]

# Elements are gathered in chunks of about this many products, to bound the memory.
_CHUNK_PRODUCTS = 1 << 22


def rows(dY: Tensor, X: Tensor, index: Tensor) -> Tensor:
    """Gradient of output rows `index` [m]: dY[:, index]^T X.

    Args:
        dY: [T, n] gradient of the output.
        X: [T, k] input.
        index: [m] int64 row numbers.

    Returns:
        [m, k] in the inputs' dtype.
    """
    return dY.index_select(1, index).t() @ X  # [m, k]


def columns(dY: Tensor, X_selected: Tensor) -> Tensor:
    """Gradient of input columns whose activations were kept: dY^T X[:, C].

    Args:
        dY: [T, n] gradient of the output.
        X_selected: [T, m] the selected input features alone, saved by the forward.

    Returns:
        [n, m] in the inputs' dtype.
    """
    return dY.t() @ X_selected  # [n, m]


def blocks(dY: Tensor, X: Tensor, index: Tensor, edge: int) -> Tensor:
    """Gradient of `edge` x `edge` blocks of W.

    Args:
        dY: [T, n] gradient of the output; n a multiple of `edge`.
        X: [T, k] input; k a multiple of `edge`.
        index: [m] int64 flat block numbers, row-major over the [n / edge, k / edge] grid.
        edge: b.

    Returns:
        [m, b, b] in the inputs' dtype.
    """
    tokens, grid_rows, grid_columns = dY.shape[0], dY.shape[1] // edge, X.shape[1] // edge
    dY_blocks = dY.reshape(tokens, grid_rows, edge).transpose(0, 1)  # [n/b, T, b]
    X_blocks = X.reshape(tokens, grid_columns, edge).transpose(0, 1)  # [k/b, T, b]
    block_row = torch.div(index, grid_columns, rounding_mode="floor")  # [m]
    block_column = index - block_row * grid_columns  # [m]
    return torch.bmm(
        dY_blocks.index_select(0, block_row).transpose(1, 2),  # [m, b, T]
        X_blocks.index_select(0, block_column),  # [m, T, b]
    )


def elements(dY: Tensor, X: Tensor, index: Tensor) -> Tensor:
    """Gradient of single entries of W.

    Args:
        dY: [T, n] gradient of the output.
        X: [T, k] input.
        index: [m] int64 flat entry numbers, row-major over [n, k].

    Returns:
        [m] in the inputs' dtype.
    """
    out = dY.new_empty(index.numel())
    step = max(1, _CHUNK_PRODUCTS // max(1, dY.shape[0]))
    for start in range(0, index.numel(), step):
        part = index[start : start + step]
        row = torch.div(part, X.shape[1], rounding_mode="floor")
        column = part - row * X.shape[1]
        products = dY.index_select(1, row) * X.index_select(1, column)  # [T, chunk]
        out[start : start + step] = products.sum(0)
    return out
