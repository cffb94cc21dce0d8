"""Token-level empirical Fisher sums in plain torch.

The gradient that token t alone sends to W is the outer product dY[t] X[t]^T. The weighted sum
over tokens of its squared entries factorises over any unit that is a rectangle of W, so no
[n, k] gradient is needed.

Legend: T tokens, n output features, k input features, b block edge; w [T] token weights.
All sums are taken in float32 or wider.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["blocks", "columns", "elements", "rows"]


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def rows(dY: Tensor, X: Tensor, w: Tensor) -> Tensor:
    """sum_t w[t] dY[t, r]^2 |X[t]|^2 for every output row r: [n]."""
    dY, X = _wide(dY), _wide(X)
    return (w * X.square().sum(1)) @ dY.square()  # [n]


def columns(dY: Tensor, X: Tensor, w: Tensor) -> Tensor:
    """sum_t w[t] X[t, c]^2 |dY[t]|^2 for every input column c: [k]."""
    dY, X = _wide(dY), _wide(X)
    return (w * dY.square().sum(1)) @ X.square()  # [k]


def blocks(dY: Tensor, X: Tensor, w: Tensor, edge: int) -> Tensor:
    """sum_t w[t] |dY[t, block row]|^2 |X[t, block column]|^2: flat [n/b * k/b]."""
    dY, X = _wide(dY), _wide(X)
    dY_energy = dY.square().reshape(dY.shape[0], dY.shape[1] // edge, edge).sum(2)  # [T, n/b]
    X_energy = X.square().reshape(X.shape[0], X.shape[1] // edge, edge).sum(2)  # [T, k/b]
    return ((dY_energy * w[:, None]).t() @ X_energy).reshape(-1)


def elements(dY: Tensor, X: Tensor, w: Tensor) -> Tensor:
    """sum_t w[t] dY[t, r]^2 X[t, c]^2 for every entry: flat [n * k].

    The one score that is as large as W itself: a selection of single entries needs it.
    """
    dY, X = _wide(dY), _wide(X)
    return ((dY.square() * w[:, None]).t() @ X.square()).reshape(-1)
