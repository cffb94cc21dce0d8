"""Compact weight gradients in plain torch.

Legend: T tokens, n output features, k input features, m selected, b block edge.
Y = X W^T, so dW = dY^T X is [n, k]; none of these functions allocates a tensor of that shape
(unless everything is selected). Results are float32 (float64 for float64 inputs): 16-bit
activations are widened before they are multiplied.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["blocks", "columns", "elements", "result_dtype", "rows", "wide"]

# Elements are gathered in chunks of about this many products, to bound the memory.
_CHUNK_PRODUCTS = 1 << 22


def result_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def wide(tensor: Tensor) -> Tensor:
    """The tensor in its result dtype; itself when it has that already."""
    return tensor.to(result_dtype(tensor.dtype))


def rows(dY: Tensor, X: Tensor, index: Tensor, bias: bool) -> tuple[Tensor, Tensor]:
    """Gradient of output rows `index` [m]: dY[:, index]^T X; and of the bias at these rows.

    Args:
        dY: [T, n] gradient of the output.
        X: [T, k] input.
        index: [m] row numbers.
        bias: whether the second result is wanted.

    Returns:
        [m, k], and [m] or an empty tensor.
    """
    selected = wide(dY.index_select(1, index))  # [T, m]
    return selected.t() @ wide(X), selected.sum(0) if bias else selected.new_empty(0)


def columns(dY: Tensor, X_selected: Tensor) -> Tensor:
    """Gradient of input columns whose activations were kept: dY^T X[:, C].

    Args:
        dY: [T, n] gradient of the output.
        X_selected: [T, m] the selected input features alone, saved by the forward.

    Returns:
        [n, m].
    """
    return wide(dY).t() @ wide(X_selected)  # [n, m]


def blocks(dY: Tensor, X: Tensor, index: Tensor, edge: int) -> Tensor:
    """Gradient of `edge` x `edge` blocks of W.

    Args:
        dY: [T, n] gradient of the output; n a multiple of `edge`.
        X: [T, k] input; k a multiple of `edge`.
        index: [m] flat block numbers, row-major over the [n / edge, k / edge] grid.
        edge: b.

    Returns:
        [m, b, b].
    """
    tokens, grid_rows, grid_columns = dY.shape[0], dY.shape[1] // edge, X.shape[1] // edge
    dY_blocks = wide(dY).reshape(tokens, grid_rows, edge).transpose(0, 1)  # [n/b, T, b]
    X_blocks = wide(X).reshape(tokens, grid_columns, edge).transpose(0, 1)  # [k/b, T, b]
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
        index: [m] flat entry numbers, row-major over [n, k].

    Returns:
        [m].
    """
    out = dY.new_empty(index.numel(), dtype=result_dtype(dY.dtype))
    step = max(1, _CHUNK_PRODUCTS // max(1, dY.shape[0]))
    for start in range(0, index.numel(), step):
        part = index[start : start + step]
        row = torch.div(part, X.shape[1], rounding_mode="floor")
        column = part - row * X.shape[1]
        products = wide(dY.index_select(1, row)) * X.index_select(1, column)  # [T, chunk]
        out[start : start + step] = products.sum(0)
    return out
