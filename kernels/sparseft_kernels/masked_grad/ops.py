"""The operations as torch sees them: checks, dispatch, fake results, derivatives.

Legend as in reference.py. Each op is bilinear in dY and X, so its own derivatives are two products;
they run in plain torch (they are needed for second derivatives only).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sparseft_kernels import dispatch
from sparseft_kernels.checks import check_index, check_matrices, check_target, require
from sparseft_kernels.eager import plainly
from sparseft_kernels.errors import KernelInputError
from sparseft_kernels.masked_grad import cublas, problem, reference
from sparseft_kernels.masked_grad.reference import result_dtype

__all__ = ["blocks", "columns", "elements", "rows"]

_PLAIN = {"cublas": cublas, "reference": reference}


# --- rows ---------------------------------------------------------------------------------------


def rows(
    dY: Tensor, X: Tensor, index: Tensor, *, bias: bool = False,
    into: tuple[Tensor, Tensor | None] | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Gradient of the output rows `index` of W, and of the bias there, in one pass over dY.

    Args:
        dY: [T, n] gradient of the output; bfloat16, float16, float32 or float64, any strides.
        X: [T, k] input, same dtype and device.
        index: [m] rows, int32 or int64, ascending without duplicates.
        bias: whether the bias gradient is wanted.
        into: float32 tensors [m, k] and [m] (or None) to add to, instead of new ones.

    Returns:
        [m, k] and [m] (None without `bias`), float32 (float64 for float64 inputs); `into` itself
        where it was given.

    Raises:
        KernelInputError: shapes, dtypes or an index that do not fit.
    """
    if into is None:
        compute = _run_rows if plainly(dY, X) else _rows
        gradient, sums = compute(dY, X, index, bias)
        return gradient, sums if bias else None
    gradient, sums_into = into
    require(
        (sums_into is not None) == bias,
        f"expected a bias tensor in `into` exactly when bias=True, got bias={bias}; pass both.",
    )
    _rows_add(gradient, sums_into if sums_into is not None else gradient.new_empty(0),
              dY, X, index, bias)  # fmt: skip
    return into


def _check_rows(dY: Tensor, X: Tensor, index: Tensor) -> dispatch.Decision:
    check_matrices(dY, X)
    if X.shape[1] == 0:
        raise KernelInputError(
            "expected X with at least one feature, got none; pass a real weight's."
        )
    check_index(index, dY.shape[1], "rows")
    return dispatch.decide(
        "masked_grad.rows", dY.device, dY.dtype,
        tokens=dY.shape[0], n=dY.shape[1], k=X.shape[1], m=index.numel(),
    )  # fmt: skip


def _run_rows(dY: Tensor, X: Tensor, index: Tensor, bias: bool) -> tuple[Tensor, Tensor]:
    chosen = _check_rows(dY, X, index)
    if chosen.implementation == "triton":
        from sparseft_kernels.masked_grad import triton_kernel

        return triton_kernel.rows(dY, X, index, bias, chosen.config)
    return _PLAIN[chosen.implementation].rows(dY, X, index, bias)


@torch.library.custom_op("sparseft::masked_grad_rows", mutates_args=())
def _rows(dY: Tensor, X: Tensor, index: Tensor, bias: bool) -> tuple[Tensor, Tensor]:
    return _run_rows(dY, X, index, bias)


@_rows.register_fake
def _(dY: Tensor, X: Tensor, index: Tensor, bias: bool) -> tuple[Tensor, Tensor]:
    m, dtype = index.shape[0], result_dtype(dY.dtype)
    return dY.new_empty(m, X.shape[1], dtype=dtype), dY.new_empty(m if bias else 0, dtype=dtype)


def _rows_backward(ctx: Any, G: Tensor, sums: Tensor) -> tuple[Tensor | None, ...]:
    dY, X, index = ctx.saved_tensors
    to_dY = to_X = None
    if ctx.needs_input_grad[0]:
        selected = X @ G.to(X.dtype).t()  # [T, m]
        if ctx.bias:
            selected = selected + sums.to(X.dtype)
        to_dY = torch.zeros_like(dY).index_add(1, index, selected)
    if ctx.needs_input_grad[1]:
        to_X = dY.index_select(1, index) @ G.to(dY.dtype)
    return to_dY, to_X, None, None


def _rows_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.bias = inputs[3]


_rows.register_autograd(_rows_backward, setup_context=_rows_context)


@torch.library.custom_op("sparseft::masked_grad_rows_", mutates_args=("out", "bias_out"))
def _rows_add(
    out: Tensor, bias_out: Tensor, dY: Tensor, X: Tensor, index: Tensor, bias: bool
) -> None:
    chosen = _check_rows(dY, X, index)
    _check_into(out, (index.numel(), X.shape[1]), dY)
    if bias:
        _check_into(bias_out, (index.numel(),), dY)
    if chosen.implementation == "triton":
        from sparseft_kernels.masked_grad import triton_kernel

        triton_kernel.rows(dY, X, index, bias, chosen.config, (out, bias_out))
        return
    gradient, sums = _PLAIN[chosen.implementation].rows(dY, X, index, bias)
    out += gradient
    if bias:
        bias_out += sums


# --- columns ------------------------------------------------------------------------------------


def columns(dY: Tensor, X_selected: Tensor, *, into: Tensor | None = None) -> Tensor:
    """Gradient of the input columns of W whose activations were kept: dY^T X[:, C].

    Args:
        dY: [T, n] gradient of the output.
        X_selected: [T, m] the selected input features alone, same dtype and device.
        into: float32 [n, m] to add to, instead of a new tensor.

    Returns:
        [n, m], float32 (float64 for float64 inputs); `into` itself where it was given.

    Raises:
        KernelInputError: shapes or dtypes that do not fit.
    """
    if into is None:
        compute = _run_columns if plainly(dY, X_selected) else _columns
        return compute(dY, X_selected)
    _columns_add(into, dY, X_selected)
    return into


def _check_columns(dY: Tensor, X_selected: Tensor) -> dispatch.Decision:
    check_matrices(dY, X_selected)
    return dispatch.decide(
        "masked_grad.columns", dY.device, dY.dtype,
        tokens=dY.shape[0], n=dY.shape[1], m=X_selected.shape[1],
    )  # fmt: skip


def _run_columns(dY: Tensor, X_selected: Tensor) -> Tensor:
    chosen = _check_columns(dY, X_selected)
    if chosen.implementation == "triton":
        from sparseft_kernels.masked_grad import triton_kernel

        return triton_kernel.columns(dY, X_selected, chosen.config)
    return _PLAIN[chosen.implementation].columns(dY, X_selected)


@torch.library.custom_op("sparseft::masked_grad_columns", mutates_args=())
def _columns(dY: Tensor, X_selected: Tensor) -> Tensor:
    return _run_columns(dY, X_selected)


@_columns.register_fake
def _(dY: Tensor, X_selected: Tensor) -> Tensor:
    return dY.new_empty(dY.shape[1], X_selected.shape[1], dtype=result_dtype(dY.dtype))


def _columns_backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, Tensor | None]:
    dY, X = ctx.saved_tensors
    to_dY = X @ G.to(X.dtype).t() if ctx.needs_input_grad[0] else None
    return to_dY, dY @ G.to(dY.dtype) if ctx.needs_input_grad[1] else None


def _columns_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


_columns.register_autograd(_columns_backward, setup_context=_columns_context)


@torch.library.custom_op("sparseft::masked_grad_columns_", mutates_args=("out",))
def _columns_add(out: Tensor, dY: Tensor, X_selected: Tensor) -> None:
    chosen = _check_columns(dY, X_selected)
    _check_into(out, (dY.shape[1], X_selected.shape[1]), dY)
    if chosen.implementation == "triton":
        from sparseft_kernels.masked_grad import triton_kernel

        triton_kernel.columns(dY, X_selected, chosen.config, out)
        return
    out += _PLAIN[chosen.implementation].columns(dY, X_selected)


# --- blocks -------------------------------------------------------------------------------------


def blocks(
    dY: Tensor | Sequence[Tensor],
    X: Tensor,
    index: Tensor | Sequence[Tensor],
    edge: int,
    *,
    into: Tensor | None = None,
) -> Tensor:
    """Gradient of `edge` x `edge` blocks of one W, or of several that share X, in one launch.

    Args:
        dY: [T, n] gradient of the output, or one for each matrix (Q, K and V, say).
        X: [T, k] the shared input; n and k multiples of `edge`.
        index: [m] flat block numbers, row-major over the [n / edge, k / edge] grid, ascending
            without duplicates; or one for each matrix.
        edge: b; 16, 32, 64 and 128 have a kernel.
        into: float32 [m, b, b] to add to, instead of a new tensor.

    Returns:
        [m, b, b], float32 (float64 for float64 inputs); of several matrices one after the other:
        split it by the lengths of their indices.

    Raises:
        KernelInputError: shapes, dtypes or an index that do not fit.
    """
    matrices = [dY] if isinstance(dY, Tensor) else list(dY)
    parts = [index] if isinstance(index, Tensor) else list(index)
    if into is None:
        if plainly(X, *matrices):
            return _run_blocks(matrices, X, parts, edge, None)
        return _blocks(matrices, X, parts, edge)
    _blocks_add(into, matrices, X, parts, edge)
    return into


def _check_blocks(
    dY: Sequence[Tensor], X: Tensor, index: Sequence[Tensor], edge: int
) -> dispatch.Decision:
    require(
        len(dY) == len(index) and len(dY) > 0,
        f"expected one index for each dY, got {len(dY)} and {len(index)}; pass as many.",
    )
    require(
        len({part.dtype for part in index}) == 1,
        "expected all indices in one dtype, got several; cast them to torch.int32.",
    )
    for matrix, part in zip(dY, index, strict=True):
        check_matrices(matrix, X)
        n, k = matrix.shape[1], X.shape[1]
        require(
            edge > 0 and n % edge == 0 and k % edge == 0,
            f"expected sizes that are multiples of the block edge {edge}, got {n} and {k}; "
            "choose an edge that divides both.",
        )
        check_index(part, (n // edge) * (k // edge), "blocks")
    return dispatch.decide(
        "masked_grad.blocks", X.device, X.dtype,
        tokens=X.shape[0], n=sum(matrix.shape[1] for matrix in dY), k=X.shape[1],
        m=sum(part.numel() for part in index), edge=edge,
    )  # fmt: skip


def _run_blocks(
    dY: Sequence[Tensor],
    X: Tensor,
    index: Sequence[Tensor],
    edge: int,
    into: Tensor | None,
) -> Tensor:
    chosen = _check_blocks(dY, X, index, edge)
    if into is not None:
        _check_into(into, (sum(part.numel() for part in index), edge, edge), X)
    if chosen.implementation == "triton":
        require(
            edge in problem.TRITON_EDGES,
            f"expected a block edge of {problem.TRITON_EDGES} for the kernel, got {edge}; "
            f"unset {dispatch.VARIABLE}.",
        )
        from sparseft_kernels.masked_grad import triton_kernel

        return triton_kernel.blocks(dY, X, index, edge, chosen.config, into)
    plain = _PLAIN[chosen.implementation]
    pairs = zip(dY, index, strict=True)
    found = torch.cat([plain.blocks(matrix, X, part, edge) for matrix, part in pairs])
    if into is None:
        return found
    into += found
    return into


@torch.library.custom_op("sparseft::masked_grad_blocks", mutates_args=())
def _blocks(dY: Sequence[Tensor], X: Tensor, index: Sequence[Tensor], edge: int) -> Tensor:
    return _run_blocks(dY, X, index, edge, None)


@_blocks.register_fake
def _(dY: Sequence[Tensor], X: Tensor, index: Sequence[Tensor], edge: int) -> Tensor:
    m = sum(part.shape[0] for part in index)
    return X.new_empty(m, edge, edge, dtype=result_dtype(X.dtype))


def _blocks_backward(ctx: Any, G: Tensor) -> tuple[Any, ...]:
    count, edge = ctx.count, ctx.edge
    X, dY, index = (
        ctx.saved_tensors[0],
        ctx.saved_tensors[1 : 1 + count],
        ctx.saved_tensors[-count:],
    )
    grid = X.shape[1] // edge
    X_blocks = X.reshape(X.shape[0], grid, edge)  # [T, k/b, b]
    to_X = torch.zeros_like(X_blocks)
    to_dY: list[Tensor] = []
    parts = G.to(X.dtype).split([part.shape[0] for part in index])
    for matrix, part, g in zip(dY, index, parts, strict=True):
        row = torch.div(part, grid, rounding_mode="floor")
        column = part - row * grid
        dY_blocks = matrix.reshape(matrix.shape[0], -1, edge)  # [T, n/b, b]
        back = torch.einsum("tmj,mij->tmi", X_blocks.index_select(1, column), g)
        to_dY.append(torch.zeros_like(dY_blocks).index_add(1, row, back).reshape(matrix.shape))
        forth = torch.einsum("tmi,mij->tmj", dY_blocks.index_select(1, row), g)
        to_X = to_X.index_add(1, column, forth)
    return to_dY, to_X.reshape(X.shape), [None] * count, None


def _blocks_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    dY, X, index, edge = inputs
    ctx.save_for_backward(X, *dY, *index)
    ctx.count, ctx.edge = len(dY), edge


_blocks.register_autograd(_blocks_backward, setup_context=_blocks_context)


@torch.library.custom_op("sparseft::masked_grad_blocks_", mutates_args=("out",))
def _blocks_add(
    out: Tensor, dY: Sequence[Tensor], X: Tensor, index: Sequence[Tensor], edge: int
) -> None:
    _run_blocks(dY, X, index, edge, out)


# --- elements -----------------------------------------------------------------------------------


def elements(dY: Tensor, X: Tensor, index: Tensor, *, into: Tensor | None = None) -> Tensor:
    """Gradient of single entries of W.

    Args:
        dY: [T, n] gradient of the output.
        X: [T, k] input, same dtype and device.
        index: [m] flat entry numbers, row-major over [n, k], ascending without duplicates.
        into: float32 [m] to add to, instead of a new tensor.

    Returns:
        [m], float32 (float64 for float64 inputs); `into` itself where it was given.

    Raises:
        KernelInputError: shapes, dtypes or an index that do not fit.
    """
    if into is None:
        return _run_elements(dY, X, index, None) if plainly(dY, X) else _elements(dY, X, index)
    _elements_add(into, dY, X, index)
    return into


def _run_elements(dY: Tensor, X: Tensor, index: Tensor, into: Tensor | None) -> Tensor:
    check_matrices(dY, X)
    n, k = dY.shape[1], X.shape[1]
    check_index(index, n * k, "entries")
    if into is not None:
        _check_into(into, (index.numel(),), dY)
    chosen = dispatch.decide(
        "masked_grad.elements", dY.device, dY.dtype,
        tokens=dY.shape[0], n=n, k=k, m=index.numel(),
    )  # fmt: skip
    if chosen.implementation == "triton":
        from sparseft_kernels.masked_grad import triton_kernel

        return triton_kernel.elements(dY, X, index, chosen.config, into)
    found = _PLAIN[chosen.implementation].elements(dY, X, index)
    if into is None:
        return found
    into += found
    return into


@torch.library.custom_op("sparseft::masked_grad_elements", mutates_args=())
def _elements(dY: Tensor, X: Tensor, index: Tensor) -> Tensor:
    return _run_elements(dY, X, index, None)


@_elements.register_fake
def _(dY: Tensor, X: Tensor, index: Tensor) -> Tensor:
    return dY.new_empty(index.shape[0], dtype=result_dtype(dY.dtype))


def _elements_backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    dY, X, index = ctx.saved_tensors
    row = torch.div(index, X.shape[1], rounding_mode="floor")
    column = index - row * X.shape[1]
    g = G.to(X.dtype)
    to_dY = to_X = None
    if ctx.needs_input_grad[0]:
        to_dY = torch.zeros_like(dY).index_add(1, row, X.index_select(1, column) * g)
    if ctx.needs_input_grad[1]:
        to_X = torch.zeros_like(X).index_add(1, column, dY.index_select(1, row) * g)
    return to_dY, to_X, None


def _elements_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


_elements.register_autograd(_elements_backward, setup_context=_elements_context)


@torch.library.custom_op("sparseft::masked_grad_elements_", mutates_args=("out",))
def _elements_add(out: Tensor, dY: Tensor, X: Tensor, index: Tensor) -> None:
    _run_elements(dY, X, index, out)


def _check_into(out: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    check_target(out, "into", shape, result_dtype(like.dtype), like.device)
