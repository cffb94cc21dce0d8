"""The operation as torch sees it: checks, dispatch, fake result, derivative.

Legend as in reference.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparseft_kernels import dispatch
from sparseft_kernels.checks import check_index, check_target
from sparseft_kernels.eager import plainly
from sparseft_kernels.embedding_grad import problem, reference
from sparseft_kernels.errors import KernelInputError
from sparseft_kernels.masked_grad.reference import result_dtype

__all__ = ["embedding_rows"]

_ANY_ROW = 2**63 - 1  # how many rows the table has is not known here


def embedding_rows(
    dY: Tensor, ids: Tensor, index: Tensor, *, into: Tensor | None = None
) -> Tensor:  # fmt: skip
    """Gradient of the rows `index` of an embedding table: dY summed over the tokens with that id.

    Args:
        dY: [T, d] gradient of the embedded tokens; any floating dtype, any strides.
        ids: [T] token ids, int32 or int64, same device.
        index: [m] selected rows, int32 or int64, ascending without duplicates, same device.
        into: float32 [m, d] to add to, instead of a new tensor.

    Returns:
        [m, d], float32 (float64 for float64 inputs), zero for rows that no token uses; `into`
        itself where it was given.

    Raises:
        KernelInputError: shapes, dtypes, devices or an index that do not fit.
    """
    if into is None:
        return _run(dY, ids, index, None) if plainly(dY, ids, index) else _rows(dY, ids, index)
    _rows_add(into, dY, ids, index)
    return into


def _check(dY: Tensor, ids: Tensor, index: Tensor) -> None:
    if dY.ndim != 2 or tuple(ids.shape) != (dY.shape[0],) or not dY.dtype.is_floating_point:
        raise KernelInputError(
            f"expected floating dY [T, d] and ids [T] with the same T, got {dY.dtype} "
            f"{tuple(dY.shape)} and {tuple(ids.shape)}; flatten batch and sequence into tokens "
            "first."
        )
    if ids.dtype not in (torch.int32, torch.int64):
        raise KernelInputError(f"expected ids of int32 or int64, got {ids.dtype}; cast them.")
    if not dY.device == ids.device == index.device:
        raise KernelInputError(
            f"expected dY, ids and index on one device, got {dY.device}, {ids.device} and "
            f"{index.device}; move them."
        )
    check_index(index, _ANY_ROW, "rows")


def _run(dY: Tensor, ids: Tensor, index: Tensor, into: Tensor | None) -> Tensor:
    _check(dY, ids, index)
    chosen = dispatch.decide(
        problem.EMBEDDING_ROWS.name, dY.device, dY.dtype,
        tokens=dY.shape[0], d=dY.shape[1], m=index.numel(),
    )  # fmt: skip
    if chosen.implementation == "triton":
        from sparseft_kernels.embedding_grad import triton_kernel

        return triton_kernel.embedding_rows(dY, ids, index, chosen.config, into)
    found = reference.embedding_rows(dY, ids, index)
    if into is None:
        return found
    into += found
    return into


@torch.library.custom_op("sparseft::embedding_grad_rows", mutates_args=())
def _rows(dY: Tensor, ids: Tensor, index: Tensor) -> Tensor:
    return _run(dY, ids, index, None)


@_rows.register_fake
def _(dY: Tensor, ids: Tensor, index: Tensor) -> Tensor:
    return dY.new_empty(index.shape[0], dY.shape[1], dtype=result_dtype(dY.dtype))


def _rows_backward(ctx: Any, G: Tensor) -> tuple[Tensor, None, None]:
    """Linear in dY: every token of a selected row gets that row's direction."""
    ids, index = ctx.saved_tensors
    padded = torch.cat([G, G.new_zeros(1, G.shape[1])])  # the slot of all other tokens
    return padded.index_select(0, reference.slots(ids, index)).to(ctx.dtype), None, None


def _rows_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    dY, ids, index = inputs
    ctx.save_for_backward(ids, index)
    ctx.dtype = dY.dtype


_rows.register_autograd(_rows_backward, setup_context=_rows_context)


@torch.library.custom_op("sparseft::embedding_grad_rows_", mutates_args=("out",))
def _rows_add(out: Tensor, dY: Tensor, ids: Tensor, index: Tensor) -> None:
    _check(dY, ids, index)
    check_target(out, "into", (index.numel(), dY.shape[1]), result_dtype(dY.dtype), dY.device)
    _run(dY, ids, index, out)
