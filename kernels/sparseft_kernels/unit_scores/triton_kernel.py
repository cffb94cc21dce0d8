"""Row and column scores in Triton: one launch over X and dY, then one over its partial sums.

Legend: T tokens, n output features, k input features, S programs. A row's score needs the whole
|X[t]|^2 before dY[t] counts, and a column's the whole |dY[t]|^2 before X[t] does. So each program
owns a run of tokens with all their features, and touches each token twice while it is near:

- `whole_rows` holds a token's dY and X in registers between the two touches, and the sums of all
  its tokens, too: both matrices are read once, from DRAM;
- `feature_tiles`, for rows too long for that, walks over the features of a few tokens twice: the
  second walk finds them in the L1 or L2 cache. Its sums live in the partial result, which only this
  program writes.

Each program leaves its sums in partial [S, n + k]; `add_partials` adds them in a fixed order. No
atomics, so two runs give the same bits. Sums are float32.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparseft_kernels.device import multiprocessors, on_device
from sparseft_kernels.tokens.triton_kernel import needs_64_bits, token_offsets

__all__ = ["rows_and_columns"]

Config = Mapping[str, int]

# A program of fewer tokens leaves more bytes of partial sums than it reads of activations.
_FEWEST_TOKENS = 8
_ADD_SPLITS, _ADD_FEATURES = 32, 64


@triton.jit
def _squares(place, inside):
    """The squares of numbers in memory, float32; zero outside."""
    value = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    return value * value


@triton.jit
def whole_rows(
    dY, X, w, partial, T, n, k, stride_Yt, stride_Yf, stride_Xt, stride_Xf, stride_w, split_tokens,
    width, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr,
    BT: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """partial[s] = the scores of program s's tokens; BN >= n and BK >= k."""
    split = tl.program_id(0)
    r, c, step = tl.arange(0, BN), tl.arange(0, BK), tl.arange(0, BT)
    first = split * split_tokens
    last = tl.minimum(first + split_tokens, T)
    dY_offsets = token_offsets(step, r, stride_Yt, stride_Yf, WIDE)  # [BT, BN]
    X_offsets = token_offsets(step, c, stride_Xt, stride_Xf, WIDE)  # [BT, BK]
    dY += first.to(tl.int64) * stride_Yt
    X += first.to(tl.int64) * stride_Xt
    w += first.to(tl.int64) * stride_w
    row_sums = tl.zeros((BT, BN), tl.float32)
    column_sums = tl.zeros((BT, BK), tl.float32)
    for start in tl.range(first, last, BT, num_stages=STAGES):
        here = step < last - start  # [BT]
        weight = tl.load(w + step * stride_w, mask=here, other=0.0).to(tl.float32)  # [BT]
        y = _squares(dY + dY_offsets, here[:, None] & (r < n)[None, :])  # [BT, BN]
        x = _squares(X + X_offsets, here[:, None] & (c < k)[None, :])  # [BT, BK]
        dY += tl.full((), BT, tl.int64) * stride_Yt
        X += tl.full((), BT, tl.int64) * stride_Xt
        w += tl.full((), BT, tl.int64) * stride_w
        if ROWS:
            row_sums += (weight * tl.sum(x, 1))[:, None] * y
        if COLUMNS:
            column_sums += (weight * tl.sum(y, 1))[:, None] * x
    partial += split.to(tl.int64) * width
    if ROWS:
        tl.store(partial + r, tl.sum(row_sums, 0), mask=r < n)
        partial += n
    if COLUMNS:
        tl.store(partial + c, tl.sum(column_sums, 0), mask=c < k)


@triton.jit
def _norms(A, offsets, here, features, stride_f, BT: tl.constexpr, BF: tl.constexpr):
    """|A[t]|^2 of BT tokens: [BT]."""
    f = tl.arange(0, BF)
    total = tl.zeros((BT, BF), tl.float32)
    for begin in range(0, features, BF):
        total += _squares(A + offsets, here[:, None] & (f < features - begin)[None, :])
        A += tl.full((), BF, tl.int64) * stride_f
    return tl.sum(total, 1)


@triton.jit
def _add_scores(
    A, offsets, here, scale, partial, features, stride_f, more, BF: tl.constexpr
):  # fmt: skip
    """partial[f] = sum of scale[t] A[t, f]^2 over BT tokens; more: added to what is there."""
    f = tl.arange(0, BF)
    for begin in range(0, features, BF):
        inside = f < features - begin
        square = _squares(A + offsets, here[:, None] & inside[None, :])
        total = tl.sum(scale[:, None] * square, 0)  # [BF]
        if more:
            total += tl.load(partial + f, mask=inside, other=0.0)
        tl.store(partial + f, total, mask=inside)
        A += tl.full((), BF, tl.int64) * stride_f
        partial += BF


@triton.jit
def feature_tiles(
    dY, X, w, partial, T, n, k, stride_Yt, stride_Yf, stride_Xt, stride_Xf, stride_w, split_tokens,
    width, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr,
    BT: tl.constexpr, BF: tl.constexpr,
):  # fmt: skip
    """partial[s] = the scores of program s's tokens, of which there is one at least."""
    split = tl.program_id(0)
    f, step = tl.arange(0, BF), tl.arange(0, BT)
    first = split * split_tokens
    last = tl.minimum(first + split_tokens, T)
    dY_offsets = token_offsets(step, f, stride_Yt, stride_Yf, WIDE)  # [BT, BF]
    X_offsets = token_offsets(step, f, stride_Xt, stride_Xf, WIDE)  # [BT, BF]
    dY += first.to(tl.int64) * stride_Yt
    X += first.to(tl.int64) * stride_Xt
    w += first.to(tl.int64) * stride_w
    partial += split.to(tl.int64) * width
    for start in range(first, last, BT):
        here = step < last - start  # [BT]
        weight = tl.load(w + step * stride_w, mask=here, other=0.0).to(tl.float32)  # [BT]
        more = start > first
        place = partial
        if ROWS:
            scale = weight * _norms(X, X_offsets, here, k, stride_Xf, BT, BF)
            _add_scores(dY, dY_offsets, here, scale, place, n, stride_Yf, more, BF)
            place += n
        if COLUMNS:
            scale = weight * _norms(dY, dY_offsets, here, n, stride_Yf, BT, BF)
            _add_scores(X, X_offsets, here, scale, place, k, stride_Xf, more, BF)
        # Sums that one thread has stored may be loaded by another for the next tokens.
        tl.debug_barrier()
        dY += tl.full((), BT, tl.int64) * stride_Yt
        X += tl.full((), BT, tl.int64) * stride_Xt
        w += tl.full((), BT, tl.int64) * stride_w


@triton.jit
def add_partials(
    partial, rows, columns, splits, n, k, width,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, ACCUMULATE: tl.constexpr,
    BS: tl.constexpr, BF: tl.constexpr,
):  # fmt: skip
    """rows and columns (+)= the sums of partial [S, n + k] over S, always in the same order."""
    tile = tl.program_id(0)
    out, features = rows, n
    if COLUMNS:
        out, features = columns, k
    if ROWS and COLUMNS:
        row_tiles = tl.cdiv(n, BF)
        if tile < row_tiles:
            out, features = rows, n
        else:
            tile -= row_tiles
            partial += n
    f, s = tile * BF + tl.arange(0, BF), tl.arange(0, BS)
    offsets = s.to(tl.int64)[:, None] * width + f[None, :]
    total = tl.zeros((BS, BF), tl.float32)
    for start in range(0, splits, BS):
        inside = (s < splits - start)[:, None] & (f < features)[None, :]
        total += tl.load(partial + offsets, mask=inside, other=0.0)
        partial += tl.full((), BS, tl.int64) * width
    score = tl.sum(total, 0)
    if ACCUMULATE:
        score += tl.load(out + f, mask=f < features, other=0.0)
    tl.store(out + f, score, mask=f < features)


def rows_and_columns(
    dY: Tensor, X: Tensor, w: Tensor, rows: bool, columns: bool, config: Config,
    into: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As reference.rows_and_columns; added to `into` where that is given."""
    (tokens, n), k = dY.shape, X.shape[1]
    if into is not None:
        row_out, column_out = into
    else:
        row_out, column_out = (
            X.new_empty(size if wanted else 0, dtype=torch.float32)
            for size, wanted in ((n, rows), (k, columns))
        )
    if tokens == 0 or n == 0 or k == 0:
        return (row_out, column_out) if into else (row_out.zero_(), column_out.zero_())
    width = n * rows + k * columns
    BT, warps = config["BT"], config["num_warps"]
    splits, split_tokens = _splits(tokens, BT, config["PROGRAMS"], X)
    partial = X.new_empty(splits, width, dtype=torch.float32)
    strides = (dY.stride(0), dY.stride(1), X.stride(0), X.stride(1), w.stride(0))
    with on_device(X):
        if config.get("WHOLE", 0):
            BN, BK = triton.next_power_of_2(n), triton.next_power_of_2(k)
            whole_rows[(splits,)](
                dY, X, w, partial, tokens, n, k, *strides, split_tokens, width,
                ROWS=rows, COLUMNS=columns, WIDE=needs_64_bits(BT, max(BN, BK), dY, X),
                BT=BT, BN=BN, BK=BK, STAGES=config["num_stages"], num_warps=warps,
            )  # fmt: skip
        else:
            BF = config["BF"]
            feature_tiles[(splits,)](
                dY, X, w, partial, tokens, n, k, *strides, split_tokens, width,
                ROWS=rows, COLUMNS=columns, WIDE=needs_64_bits(BT, BF, dY, X), BT=BT, BF=BF,
                num_warps=warps, num_stages=config["num_stages"],
            )  # fmt: skip
        tiles = sum(triton.cdiv(size, _ADD_FEATURES) for size in (n * rows, k * columns))
        add_partials[(tiles,)](
            partial, row_out if rows else column_out, column_out if columns else row_out,
            splits, n, k, width, ROWS=rows, COLUMNS=columns, ACCUMULATE=into is not None,
            BS=_ADD_SPLITS, BF=_ADD_FEATURES,
        )  # fmt: skip
    return row_out, column_out


def _splits(tokens: int, BT: int, programs: int, like: Tensor) -> tuple[int, int]:
    """How many programs, and how many tokens each: as many as run at once, all equally long."""
    wanted = programs * multiprocessors(like.device)
    split_tokens = max(triton.cdiv(tokens, wanted), _FEWEST_TOKENS)
    split_tokens = triton.cdiv(split_tokens, BT) * BT
    return triton.cdiv(tokens, split_tokens), split_tokens
