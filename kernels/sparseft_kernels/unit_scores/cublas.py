"""Scores of blocks (entries: edge 1) as dense products of squares, in memory that T does not set.

Legend as in reference.py.
"""

from __future__ import annotations

from torch import Tensor

from sparseft_kernels.unit_scores import reference

__all__ = ["blocks"]

# Squares are wide copies of the activations: about this many of their numbers at a time.
_CHUNK_NUMBERS = 1 << 25


def blocks(dY: Tensor, X: Tensor, w: Tensor, edge: int) -> Tensor:
    """As reference.blocks, some tokens at a time."""
    tokens = dY.shape[0]
    step = max(1, _CHUNK_NUMBERS // max(1, dY.shape[1] + X.shape[1]))
    total = reference.blocks(dY[:step], X[:step], w[:step], edge)
    for start in range(step, tokens, step):
        part = slice(start, start + step)
        total = total + reference.blocks(dY[part], X[part], w[part], edge)
    return total
