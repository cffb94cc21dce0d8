"""Gradient of selected embedding rows, without a [V, d] tensor."""

from sparseft_kernels.embedding_grad.ops import embedding_rows

__all__ = ["embedding_rows"]
