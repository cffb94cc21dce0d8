"""The scores as torch sees them: checks, dispatch, fake results, derivatives.

Legend as in reference.py. Derivatives run in plain torch: analysis needs none of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparseft_kernels import dispatch
from sparseft_kernels.checks import check_target, require
from sparseft_kernels.eager import plainly
from sparseft_kernels.errors import KernelInputError
from sparseft_kernels.unit_scores import cublas, problem, reference
from sparseft_kernels.unit_scores.reference import score_dtype

__all__ = ["accumulate_", "blocks", "columns", "elements", "rows", "rows_and_columns"]

_PLAIN = {"cublas": cublas, "reference": reference}


# --- rows and columns -----------------------------------------------------------------------------


def rows(dY: Tensor, X: Tensor, w: Tensor) -> Tensor:
    """Sensitivity of every output row of W: sum_t w[t] dY[t, r]^2 |X[t]|^2.

    Args:
        dY: [T, n] gradient of the output; any floating dtype, any strides.
        X: [T, k] input, same device.
        w: [T] weight of each token.

    Returns:
        [n], float32 (float64 where an input is float64).

    Raises:
        KernelInputError: shapes, dtypes or devices that do not fit.
    """
    return _compute(dY, X, w, True, False)[0]


def columns(dY: Tensor, X: Tensor, w: Tensor) -> Tensor:
    """Sensitivity of every input column of W: sum_t w[t] X[t, c]^2 |dY[t]|^2.

    Args, dtypes and errors as for `rows`.

    Returns:
        [k].
    """
    return _compute(dY, X, w, False, True)[1]


def rows_and_columns(dY: Tensor, X: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one pass over dY and X, which costs what one of them does.

    Args, dtypes and errors as for `rows`.

    Returns:
        [n] and [k].
    """
    return _compute(dY, X, w, True, True)


def accumulate_(
    dY: Tensor, X: Tensor, w: Tensor, *, rows: Tensor | None = None, columns: Tensor | None = None
) -> None:
    """Add the scores of these tokens to those of earlier ones, in one pass over dY and X.

    Args:
        dY: [T, n] gradient of the output.
        X: [T, k] input, same device.
        w: [T] weight of each token.
        rows: [n] float32 (float64 where an input is float64), contiguous: `rows(dY, X, w)` is
            added to it.
        columns: [k] alike. One of the two is needed.

    Raises:
        KernelInputError: shapes, dtypes or devices that do not fit; nothing to add to.
    """
    require(
        rows is not None or columns is not None,
        "expected accumulators for rows, columns or both, got none; pass rows=torch.zeros(n).",
    )
    nothing = torch.empty(0, dtype=score_dtype(dY, X), device=dY.device)
    row_out = nothing if rows is None else rows
    column_out = torch.empty_like(nothing) if columns is None else columns
    _add(row_out, column_out, dY, X, w, rows is not None, columns is not None)


def _check(dY: Tensor, X: Tensor, w: Tensor) -> None:
    """dY [T, n], X [T, k] and w [T] on one device."""
    # The messages are put together only when they are needed.
    if dY.ndim != 2 or X.ndim != 2 or tuple(w.shape) != (dY.shape[0],) or len(X) != len(dY):
        raise KernelInputError(
            f"expected dY [T, n], X [T, k] and w [T] with the same T, got {tuple(dY.shape)}, "
            f"{tuple(X.shape)} and {tuple(w.shape)}; flatten batch and sequence into tokens first."
        )
    if not all(tensor.dtype.is_floating_point for tensor in (dY, X, w)):
        raise KernelInputError(
            f"expected floating dY, X and w, got {dY.dtype}, {X.dtype} and {w.dtype}; cast them."
        )
    if not dY.device == X.device == w.device:
        raise KernelInputError(
            f"expected dY, X and w on one device, got {dY.device}, {X.device} and {w.device}; "
            "move them."
        )


def _compute(
    dY: Tensor, X: Tensor, w: Tensor, rows: bool, columns: bool
) -> tuple[Tensor, Tensor]:  # fmt: skip
    compute = _run if plainly(dY, X, w) else _scores
    return compute(dY, X, w, rows, columns)


def _run(
    dY: Tensor, X: Tensor, w: Tensor, rows: bool, columns: bool,
    into: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    _check(dY, X, w)
    chosen = dispatch.decide(
        problem.ROWS_AND_COLUMNS.name, dY.device, torch.promote_types(dY.dtype, X.dtype),
        tokens=dY.shape[0], n=dY.shape[1], k=X.shape[1],
    )  # fmt: skip
    if chosen.implementation == "triton":
        from sparseft_kernels.unit_scores import triton_kernel

        return triton_kernel.rows_and_columns(dY, X, w, rows, columns, chosen.config, into)
    found = reference.rows_and_columns(dY, X, w, rows, columns)
    if into is None:
        return found
    for out, score in zip(into, found, strict=True):
        out += score
    return into


@torch.library.custom_op("sparseft::unit_scores", mutates_args=())
def _scores(
    dY: Tensor, X: Tensor, w: Tensor, rows: bool, columns: bool
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return _run(dY, X, w, rows, columns)


@_scores.register_fake
def _(dY: Tensor, X: Tensor, w: Tensor, rows: bool, columns: bool) -> tuple[Tensor, Tensor]:
    dtype = score_dtype(dY, X)
    return (
        dY.new_empty(dY.shape[1] if rows else 0, dtype=dtype),
        dY.new_empty(X.shape[1] if columns else 0, dtype=dtype),
    )


def _scores_backward(ctx: Any, to_rows: Tensor, to_columns: Tensor) -> tuple[Tensor | None, ...]:
    """With a = |X|^2, b = |dY|^2 [T], and the directions G [n] and H [k] of the two results:
    p = dY^2 G and q = X^2 H [T], so that the sum is w (a p + b q)."""
    dY, X, w = ctx.saved_tensors
    dtype = score_dtype(dY, X)
    y, x, weight = dY.to(dtype), X.to(dtype), w.to(dtype)[:, None]
    a, b = x.square().sum(1, keepdim=True), y.square().sum(1, keepdim=True)  # [T, 1]
    G = to_rows if ctx.rows else y.new_zeros(y.shape[1])
    H = to_columns if ctx.columns else x.new_zeros(x.shape[1])
    p, q = (y.square() @ G)[:, None], (x.square() @ H)[:, None]  # [T, 1]
    return (
        (2 * weight * y * (a * G + q)).to(dY.dtype) if ctx.needs_input_grad[0] else None,
        (2 * weight * x * (b * H + p)).to(X.dtype) if ctx.needs_input_grad[1] else None,
        (a * p + b * q)[:, 0].to(w.dtype) if ctx.needs_input_grad[2] else None,
        None,
        None,
    )


def _scores_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    dY, X, w, ctx.rows, ctx.columns = inputs
    ctx.save_for_backward(dY, X, w)


_scores.register_autograd(_scores_backward, setup_context=_scores_context)


@torch.library.custom_op("sparseft::unit_scores_", mutates_args=("row_out", "column_out"))
def _add(
    row_out: Tensor, column_out: Tensor, dY: Tensor, X: Tensor, w: Tensor, rows: bool, columns: bool
) -> None:
    _check(dY, X, w)
    dtype = score_dtype(dY, X)
    for name, out, wanted, size in (
        ("rows", row_out, rows, dY.shape[1]), ("columns", column_out, columns, X.shape[1])
    ):  # fmt: skip
        if wanted:
            check_target(out, name, (size,), dtype, dY.device)
    _run(dY, X, w, rows, columns, (row_out, column_out))


# --- blocks and elements --------------------------------------------------------------------------


def blocks(dY: Tensor, X: Tensor, w: Tensor, edge: int) -> Tensor:
    """Sensitivity of every `edge` x `edge` block: sum_t w[t] |dY[t, rows]|^2 |X[t, columns]|^2.

    Args:
        dY: [T, n] gradient of the output; n a multiple of `edge`.
        X: [T, k] input, same device; k a multiple of `edge`.
        w: [T] weight of each token.
        edge: b.

    Returns:
        [n/b * k/b], row-major over the grid of blocks; dtype as for `rows`.

    Raises:
        KernelInputError: shapes, dtypes or devices that do not fit.
    """
    compute = _run_blocks if plainly(dY, X, w) else _blocks
    return compute(dY, X, w, edge)


def elements(dY: Tensor, X: Tensor, w: Tensor) -> Tensor:
    """Sensitivity of every entry: sum_t w[t] dY[t, r]^2 X[t, c]^2. As large as W itself.

    Args, dtypes and errors as for `rows`.

    Returns:
        [n * k], row-major.
    """
    return blocks(dY, X, w, 1)


def _run_blocks(dY: Tensor, X: Tensor, w: Tensor, edge: int) -> Tensor:
    _check(dY, X, w)
    sizes = {"tokens": dY.shape[0], "n": dY.shape[1], "k": X.shape[1]}
    if edge < 1 or sizes["n"] % edge or sizes["k"] % edge:
        raise KernelInputError(
            f"expected sizes that are multiples of the block edge {edge}, got {sizes['n']} and "
            f"{sizes['k']}; choose an edge that divides both."
        )
    dtype = torch.promote_types(dY.dtype, X.dtype)
    if edge == 1:
        chosen = dispatch.decide(problem.ELEMENTS.name, dY.device, dtype, **sizes)
    else:
        chosen = dispatch.decide(problem.BLOCKS.name, dY.device, dtype, **sizes, edge=edge)
    return _PLAIN[chosen.implementation].blocks(dY, X, w, edge)


@torch.library.custom_op("sparseft::unit_scores_blocks", mutates_args=())
def _blocks(dY: Tensor, X: Tensor, w: Tensor, edge: int) -> Tensor:
    return _run_blocks(dY, X, w, edge)


@_blocks.register_fake
def _(dY: Tensor, X: Tensor, w: Tensor, edge: int) -> Tensor:
    size = (dY.shape[1] // edge) * (X.shape[1] // edge)
    return dY.new_empty(size, dtype=score_dtype(dY, X))


def _blocks_backward(ctx: Any, to_blocks: Tensor) -> tuple[Tensor | None, ...]:
    """With the energies A [T, n/b] and B [T, k/b] of a token's blocks, and the direction
    G [n/b, k/b] of the result: the sum is w (A G) B, over all blocks of each token."""
    dY, X, w = ctx.saved_tensors
    edge, dtype = ctx.edge, score_dtype(dY, X)
    y, x = (matrix.to(dtype).reshape(matrix.shape[0], -1, edge) for matrix in (dY, X))
    A, B = y.square().sum(2), x.square().sum(2)  # [T, n/b], [T, k/b]
    G = to_blocks.reshape(A.shape[1], B.shape[1])
    weight = w.to(dtype)[:, None]
    of_rows, of_columns = B @ G.t(), A @ G  # [T, n/b], [T, k/b]
    return (
        (2 * (weight * of_rows)[:, :, None] * y).reshape(dY.shape).to(dY.dtype)
        if ctx.needs_input_grad[0]
        else None,
        (2 * (weight * of_columns)[:, :, None] * x).reshape(X.shape).to(X.dtype)
        if ctx.needs_input_grad[1]
        else None,
        (A * of_rows).sum(1).to(w.dtype) if ctx.needs_input_grad[2] else None,
        None,
    )


def _blocks_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    dY, X, w, ctx.edge = inputs
    ctx.save_for_backward(dY, X, w)


_blocks.register_autograd(_blocks_backward, setup_context=_blocks_context)
