"""Token-level empirical Fisher sums in plain torch.

The gradient that token t alone sends to W is the outer product dY[t] X[t]^T. The weighted sum
over tokens of its squared entries factorises over any unit that is a rectangle of W, so no
[n, k] gradient is needed.

Legend: T tokens, n output features, k input features, b block edge; w [T] token weights.
All sums are taken in float32 (float64 for float64 inputs).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparseft_kernels.masked_grad.reference import result_dtype, wide

__all__ = ["blocks", "rows_and_columns", "score_dtype"]


def score_dtype(dY: Tensor, X: Tensor) -> torch.dtype:
    """float32, or float64 if one of the two is float64."""
    return result_dtype(torch.promote_types(dY.dtype, X.dtype))


def rows_and_columns(
    dY: Tensor, X: Tensor, w: Tensor, rows: bool, columns: bool
) -> tuple[Tensor, Tensor]:
    """The scores of the rows, of the columns, or of both; an empty tensor for what is not wanted.

    Args:
        dY: [T, n] gradient of the output.
        X: [T, k] input.
        w: [T] token weights.
        rows: whether sum_t w[t] dY[t, r]^2 |X[t]|^2 is wanted.
        columns: whether sum_t w[t] X[t, c]^2 |dY[t]|^2 is wanted.

    Returns:
        [n] or [0], and [k] or [0].
    """
    dtype = score_dtype(dY, X)
    dY_square, X_square, w = dY.to(dtype).square(), X.to(dtype).square(), w.to(dtype)
    nothing = dY_square.new_empty(0)
    return (
        (w * X_square.sum(1)) @ dY_square if rows else nothing,  # [n]
        (w * dY_square.sum(1)) @ X_square if columns else nothing,  # [k]
    )


def blocks(dY: Tensor, X: Tensor, w: Tensor, edge: int) -> Tensor:
    """sum_t w[t] |dY[t, block row]|^2 |X[t, block column]|^2: flat [n/b * k/b].

    For b = 1 these are the scores of the entries, as large as W itself: the one score that a
    selection of single entries needs.
    """
    dtype = score_dtype(dY, X)
    energy = _energies(wide(dY), edge) * w.to(dtype)[:, None]  # [T, n/b]
    return (energy.to(dtype).t() @ _energies(wide(X), edge).to(dtype)).reshape(-1)


def _energies(matrix: Tensor, edge: int) -> Tensor:
    """[T, f] -> the squares summed over every `edge` features: [T, f / edge]."""
    square = matrix.square()
    if edge == 1:
        return square
    return square.reshape(matrix.shape[0], matrix.shape[1] // edge, edge).sum(2)
