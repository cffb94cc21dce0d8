"""Dense forward, compact backward.

The forward is the ordinary matmul over the module's own weight. The compact values enter only so
that autograd has somewhere to send their gradient: the weight already holds them.

Legend: T tokens, n output features, k input features, m selected.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sparseft.selection.units import Structure
from sparseft_kernels import embedding_grad, masked_grad

__all__ = ["CompactEmbedding", "CompactLinear"]


class CompactLinear(torch.autograd.Function):
    """x W^T + b, with gradients for x and for the selected entries of W and b alone.

    Saves W itself (no copy) and x; for columns only x[:, C].
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        values: Tensor,
        bias_values: Tensor | None,
        index: Tensor,
        structure: Structure,
        edge: int,
    ) -> Tensor:
        needs_values = ctx.needs_input_grad[3]
        saved_x = None
        if needs_values:
            saved_x = x.index_select(-1, index) if structure == "columns" else x
        ctx.save_for_backward(saved_x, weight if ctx.needs_input_grad[0] else None, index)
        ctx.structure, ctx.edge = structure, edge
        ctx.value_dtype = values.dtype
        # Bias values are those of the selected rows, or of all.
        ctx.whole_bias = bias_values is not None and (
            structure != "rows" or bias_values.shape[0] != index.shape[0]
        )
        return F.linear(
            x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
        )  # [..., n]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dY: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, index = ctx.saved_tensors
        dX = None
        if ctx.needs_input_grad[0]:
            dX = dY @ weight.to(dY.dtype)  # [..., k]
        flat = dY.reshape(-1, dY.shape[-1])  # [T, n]
        gradient = bias_gradient = None
        if ctx.needs_input_grad[3]:
            flat_x = x.reshape(flat.shape[0], x.shape[-1])  # [T, k] or [T, m]
            if ctx.structure == "rows":
                gradient, bias_gradient = masked_grad.rows(
                    flat, flat_x, index, bias=ctx.needs_input_grad[4] and not ctx.whole_bias
                )
            elif ctx.structure == "columns":
                gradient = masked_grad.columns(flat, flat_x)
            elif ctx.structure == "blocks":
                gradient = masked_grad.blocks(flat, flat_x, index, ctx.edge)
            else:
                gradient = masked_grad.elements(flat, flat_x, index)
            gradient = gradient.to(ctx.value_dtype)
        if ctx.whole_bias and ctx.needs_input_grad[4]:
            bias_gradient = flat.sum(0, dtype=ctx.value_dtype)  # [n]
        return dX, None, None, gradient, bias_gradient, None, None, None


class CompactEmbedding(torch.autograd.Function):
    """E[ids], with a gradient for the selected rows of E alone."""

    @staticmethod
    def forward(
        ctx: Any,
        ids: Tensor,
        weight: Tensor,
        values: Tensor,
        index: Tensor,
        padding_idx: int | None,
    ) -> Tensor:
        ctx.save_for_backward(ids, index)
        ctx.value_dtype, ctx.padding_idx = values.dtype, padding_idx
        return F.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dY: Tensor) -> tuple[Tensor | None, ...]:
        ids, index = ctx.saved_tensors
        flat = dY.reshape(-1, dY.shape[-1])  # [T, d]
        gradient = embedding_grad.embedding_rows(flat, ids.reshape(-1), index)
        if ctx.padding_idx is not None:
            # torch.nn.Embedding gives its padding row no gradient; neither do we.
            gradient = gradient.masked_fill((index == ctx.padding_idx)[:, None], 0.0)
        return None, None, gradient.to(ctx.value_dtype), None, None
