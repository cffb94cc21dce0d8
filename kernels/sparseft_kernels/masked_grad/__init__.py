"""The selected part of dW = dY^T X, without dW."""

from sparseft_kernels.masked_grad.ops import blocks, columns, elements, rows

__all__ = ["blocks", "columns", "elements", "rows"]
