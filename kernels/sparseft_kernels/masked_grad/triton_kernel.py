"""Compact weight gradients in Triton.

Legend: T tokens, n output features, k input features, m selected, b block edge, S splits of the
tokens. Sums are float32. Where the result has too few tiles to fill the device, the tokens are
split, each split writes a partial result [S, …] of its own, and a second kernel adds the splits in
order: no atomics, so two runs give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from sparseft_kernels.device import multiprocessors, on_device, widen
from sparseft_kernels.tokens.triton_kernel import needs_64_bits, token_offsets

__all__ = ["blocks", "columns", "elements", "rows"]

Config = Mapping[str, int]

# Programs wanted for each multiprocessor before the tokens are split no further.
_WAVES = 2
_REDUCE_BLOCK = 1024
_MATRICES = 4  # that one launch of `blocks` takes

# Index tensor -> (what it was sorted for, its order by tile).
_tile_orders: WeakIdKeyDictionary = WeakIdKeyDictionary()


@triton.jit
def _dot(a, b, total, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """total + a^T b. WIDEN is for Triton's interpreter, which multiplies bfloat16 as integers."""
    if WIDEN:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(tl.trans(a), b, total, input_precision=PRECISION)


@triton.jit
def gathered_product(
    A, B, index, out, bias_out,
    T, m, k, stride_At, stride_Af, stride_Bt, stride_Bf, split_tokens,
    GATHER: tl.constexpr, BIAS: tl.constexpr, ACCUMULATE: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr, WIDE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BT: tl.constexpr,
    GROUP: tl.constexpr,
):  # fmt: skip
    """out[s, i, j] (+)= sum of A[t, index[i]] B[t, j] over the tokens of split s."""
    tile, split = tl.program_id(0), tl.program_id(1)
    tiles_m, tiles_n = tl.cdiv(m, BM), tl.cdiv(k, BN)
    # GROUP rows of tiles are walked together, so that neighbours find B in the L2 cache.
    first_m = tile // (GROUP * tiles_n) * GROUP
    height = tl.minimum(tiles_m - first_m, GROUP)
    tile_m = first_m + tile % (GROUP * tiles_n) % height
    tile_n = tile % (GROUP * tiles_n) // height
    i = tile_m * BM + tl.arange(0, BM)  # [BM]
    j = tile_n * BN + tl.arange(0, BN)  # [BN]
    feature = i
    if GATHER:
        feature = tl.load(index + i, mask=i < m, other=0)
    step = tl.arange(0, BT)  # [BT]
    first = split * split_tokens
    last = tl.minimum(first + split_tokens, T)
    A_offsets = token_offsets(step, feature, stride_At, stride_Af, WIDE)  # [BT, BM]
    B_offsets = token_offsets(step, j, stride_Bt, stride_Bf, WIDE)  # [BT, BN]
    A += first.to(tl.int64) * stride_At
    B += first.to(tl.int64) * stride_Bt
    total = tl.zeros((BM, BN), tl.float32)
    sums = tl.zeros((BM, 16), tl.float32)
    # In two steps: the interpreter of Triton 3.6 has no bfloat16 constants.
    ones = tl.full((BT, 16), 1.0, tl.float32).to(B.dtype.element_ty)
    for start in range(first, last, BT):
        here = (step < last - start)[:, None]  # [BT, 1]
        a = tl.load(A + A_offsets, mask=here & (i < m)[None, :], other=0.0)  # [BT, BM]
        b = tl.load(B + B_offsets, mask=here & (j < k)[None, :], other=0.0)  # [BT, BN]
        A += tl.full((), BT, tl.int64) * stride_At
        B += tl.full((), BT, tl.int64) * stride_Bt
        total = _dot(a, b, total, PRECISION, WIDEN)
        if BIAS:
            # Column sums through the matrix unit: cheaper than a reduction across threads.
            sums = _dot(a, ones, sums, PRECISION, WIDEN)
    split_row = split.to(tl.int64) * m
    place = out + (split_row + i.to(tl.int64))[:, None] * k + j[None, :]
    inside = (i < m)[:, None] & (j < k)[None, :]
    if ACCUMULATE:
        total += tl.load(place, mask=inside, other=0.0)
    tl.store(place, total, mask=inside)
    if BIAS:  # noqa: SIM102 (BIAS is known when the kernel is compiled, the tile is not)
        if tile_n == 0:
            bias = tl.sum(sums, 1) / 16  # sixteen equal columns
            bias_place = bias_out + split_row + i
            if ACCUMULATE:
                bias += tl.load(bias_place, mask=i < m, other=0.0)
            tl.store(bias_place, bias, mask=i < m)


@triton.jit
def grouped_blocks(
    dY_0, dY_1, dY_2, dY_3, index_0, index_1, index_2, index_3, end_0, end_1, end_2,
    stride_t0, stride_t1, stride_t2, stride_t3, stride_f0, stride_f1, stride_f2, stride_f3,
    X, out, T, m, grid_columns, stride_Xt, stride_Xf, split_tokens,
    ACCUMULATE: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr, WIDE: tl.constexpr,
    EDGE: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    """out[s, p] (+)= the p-th selected block of up to four matrices that share X."""
    p, split = tl.program_id(0), tl.program_id(1)
    dY, index = dY_0, index_0
    stride_t, stride_f, begin = stride_t0, stride_f0, 0
    if p >= end_2:
        dY, index, stride_t, stride_f, begin = dY_3, index_3, stride_t3, stride_f3, end_2
    elif p >= end_1:
        dY, index, stride_t, stride_f, begin = dY_2, index_2, stride_t2, stride_f2, end_1
    elif p >= end_0:
        dY, index, stride_t, stride_f, begin = dY_1, index_1, stride_t1, stride_f1, end_0
    block = tl.load(index + (p - begin)).to(tl.int64)
    block_row = block // grid_columns
    block_column = block - block_row * grid_columns
    edge = tl.arange(0, EDGE)  # [b]
    dY += block_row * EDGE * stride_f
    X += block_column * EDGE * stride_Xf
    step = tl.arange(0, BT)  # [BT]
    dY_offsets = token_offsets(step, edge, stride_t, stride_f, WIDE)  # [BT, b]
    X_offsets = token_offsets(step, edge, stride_Xt, stride_Xf, WIDE)  # [BT, b]
    first = split * split_tokens
    last = tl.minimum(first + split_tokens, T)
    dY += first.to(tl.int64) * stride_t
    X += first.to(tl.int64) * stride_Xt
    total = tl.zeros((EDGE, EDGE), tl.float32)
    for start in range(first, last, BT):
        here = (step < last - start)[:, None]  # [BT, 1]
        a = tl.load(dY + dY_offsets, mask=here, other=0.0)  # [BT, b]
        b = tl.load(X + X_offsets, mask=here, other=0.0)  # [BT, b]
        dY += tl.full((), BT, tl.int64) * stride_t
        X += tl.full((), BT, tl.int64) * stride_Xt
        total = _dot(a, b, total, PRECISION, WIDEN)
    place = out + (split.to(tl.int64) * m + p) * EDGE * EDGE + edge[:, None] * EDGE + edge[None, :]
    if ACCUMULATE:
        total += tl.load(place)
    tl.store(place, total)


@triton.jit
def tile_elements(
    dY, X, index, order, tile_start, out,
    T, m, n, k, stride_Yt, stride_Yf, stride_Xt, stride_Xf, split_tokens,
    ACCUMULATE: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr, WIDE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr,
    BT: tl.constexpr, BE: tl.constexpr,
):  # fmt: skip
    """Each program computes one tile of dW in registers; only its selected entries leave it."""
    tile, split = tl.program_id(0), tl.program_id(1)
    entry, stop = tl.load(tile_start + tile), tl.load(tile_start + tile + 1)
    if entry < stop:
        tiles_n = tl.cdiv(k, BN)
        row, column = tile // tiles_n * BM, tile % tiles_n * BN
        i, j = row + tl.arange(0, BM), column + tl.arange(0, BN)
        step = tl.arange(0, BT)  # [BT]
        dY_offsets = token_offsets(step, i, stride_Yt, stride_Yf, WIDE)  # [BT, BM]
        X_offsets = token_offsets(step, j, stride_Xt, stride_Xf, WIDE)  # [BT, BN]
        first = split * split_tokens
        last = tl.minimum(first + split_tokens, T)
        dY += first.to(tl.int64) * stride_Yt
        X += first.to(tl.int64) * stride_Xt
        total = tl.zeros((BM, BN), tl.float32)
        for start in range(first, last, BT):
            here = (step < last - start)[:, None]  # [BT, 1]
            a = tl.load(dY + dY_offsets, mask=here & (i < n)[None, :], other=0.0)  # [BT, BM]
            b = tl.load(X + X_offsets, mask=here & (j < k)[None, :], other=0.0)  # [BT, BN]
            dY += tl.full((), BT, tl.int64) * stride_Yt
            X += tl.full((), BT, tl.int64) * stride_Xt
            total = _dot(a, b, total, PRECISION, WIDEN)
        flat = tl.reshape(total, (BM * BN,))
        while entry < stop:
            e = entry + tl.arange(0, BE)
            slot = tl.load(order + e, mask=e < stop, other=0)
            number = tl.load(index + slot, mask=e < stop, other=0).to(tl.int64)
            r = number // k
            local = (r - row) * BN + (number - r * k - column)
            local = tl.where(e < stop, local, 0).to(tl.int32)
            value = tl.gather(flat, local, 0)
            place = out + split.to(tl.int64) * m + slot
            if ACCUMULATE:
                value += tl.load(place, mask=e < stop, other=0.0)
            tl.store(place, value, mask=e < stop)
            entry += BE


@triton.jit
def direct_elements(
    dY, X, index, out, T, m, k, stride_Yt, stride_Yf, stride_Xt, stride_Xf, split_tokens,
    ACCUMULATE: tl.constexpr, WIDE: tl.constexpr, BE: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    """One dot product over the tokens for each selected entry: for very few entries."""
    e, split = tl.program_id(0) * BE + tl.arange(0, BE), tl.program_id(1)
    number = tl.load(index + e, mask=e < m, other=0).to(tl.int64)
    row = number // k
    step = tl.arange(0, BT)  # [BT]
    dY_offsets = token_offsets(step, row, stride_Yt, stride_Yf, WIDE)  # [BT, BE]
    X_offsets = token_offsets(step, number - row * k, stride_Xt, stride_Xf, WIDE)  # [BT, BE]
    first = split * split_tokens
    last = tl.minimum(first + split_tokens, T)
    dY += first.to(tl.int64) * stride_Yt
    X += first.to(tl.int64) * stride_Xt
    total = tl.zeros((BT, BE), tl.float32)
    for start in range(first, last, BT):
        here = (step < last - start)[:, None] & (e < m)[None, :]
        a = tl.load(dY + dY_offsets, mask=here, other=0.0)
        b = tl.load(X + X_offsets, mask=here, other=0.0)
        dY += tl.full((), BT, tl.int64) * stride_Yt
        X += tl.full((), BT, tl.int64) * stride_Xt
        total += a.to(tl.float32) * b.to(tl.float32)
    value = tl.sum(total, 0)
    place = out + split.to(tl.int64) * m + e
    if ACCUMULATE:
        value += tl.load(place, mask=e < m, other=0.0)
    tl.store(place, value, mask=e < m)


@triton.jit
def sum_splits(partial, out, size, splits, ACCUMULATE: tl.constexpr, BLOCK: tl.constexpr):
    """out (+)= partial[0] + partial[1] + …, in this order."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    source = partial + place
    total = tl.zeros((BLOCK,), tl.float32)
    for _ in range(splits):
        total += tl.load(source, mask=place < size, other=0.0)
        source += size
    if ACCUMULATE:
        total += tl.load(out + place, mask=place < size, other=0.0)
    tl.store(out + place, total, mask=place < size)


def rows(
    dY: Tensor, X: Tensor, index: Tensor, bias: bool, config: Config,
    into: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As reference.rows; added to `into` where that is given."""
    return _product(dY, X, index, bias, config, into)


def columns(dY: Tensor, X_selected: Tensor, config: Config, into: Tensor | None = None) -> Tensor:
    """As reference.columns; added to `into` where that is given."""
    pair = None if into is None else (into, into.new_empty(0))
    return _product(dY, X_selected, None, False, config, pair)[0]


def _product(
    A: Tensor, B: Tensor, index: Tensor | None, bias: bool, config: Config,
    into: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    tokens, k = B.shape
    m = A.shape[1] if index is None else index.numel()
    out = A.new_empty(m, k, dtype=torch.float32) if into is None else into[0]
    sums = A.new_empty(m if bias else 0, dtype=torch.float32) if into is None else into[1]
    if m == 0 or k == 0:
        return out, sums
    index = None if index is None else index.contiguous()
    BM, BN, BT = config["BM"], config["BN"], config["BT"]
    tiles = triton.cdiv(m, BM) * triton.cdiv(k, BN)
    splits, split_tokens = _splits(tokens, tiles, BT, A)
    target, bias_target = out, sums
    if splits > 1:
        target = A.new_empty(splits, m, k, dtype=torch.float32)
        bias_target = A.new_empty(splits, sums.numel(), dtype=torch.float32)
    with on_device(A):
        gathered_product[(tiles, splits)](
            A, B, index, target, bias_target,
            tokens, m, k, A.stride(0), A.stride(1), B.stride(0), B.stride(1), split_tokens,
            GATHER=index is not None, BIAS=bias, ACCUMULATE=into is not None and splits == 1,
            PRECISION=_precision(A), WIDEN=widen(A), WIDE=needs_64_bits(BT, None, A, B),
            BM=BM, BN=BN, BT=BT, GROUP=config["GROUP"],
            num_warps=config["num_warps"], num_stages=config["num_stages"],
        )  # fmt: skip
        if splits > 1:
            _sum(target, out, into is not None)
            if bias:
                _sum(bias_target, sums, into is not None)
    return out, sums


def blocks(
    dY: Sequence[Tensor], X: Tensor, index: Sequence[Tensor], edge: int, config: Config,
    into: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Blocks of matrices that share X, one launch for every four: [m_0 + m_1 + …, b, b]."""
    total = sum(part.numel() for part in index)
    out = X.new_empty(total, edge, edge, dtype=torch.float32) if into is None else into
    done = 0
    for start in range(0, len(dY), _MATRICES):
        group, parts = dY[start : start + _MATRICES], index[start : start + _MATRICES]
        m = sum(part.numel() for part in parts)
        if m:
            _blocks(group, X, parts, edge, config, out[done : done + m], into is not None)
        done += m
    return out


def _blocks(
    dY: Sequence[Tensor], X: Tensor, index: Sequence[Tensor], edge: int, config: Config,
    out: Tensor, accumulate: bool,
) -> None:  # fmt: skip
    m, tokens = out.shape[0], X.shape[0]
    ends = [sum(part.numel() for part in index[: i + 1]) for i in range(_MATRICES - 1)]
    padding, index = _MATRICES - len(dY), [part.contiguous() for part in index]
    matrices, parts = [*dY, *[dY[0]] * padding], [*index, *[index[0]] * padding]
    BT = config["BT"]
    splits, split_tokens = _splits(tokens, m, BT, X)
    target = out
    if splits > 1:
        target = X.new_empty(splits, m, edge, edge, dtype=torch.float32)
    with on_device(X):
        grouped_blocks[(m, splits)](
            *matrices, *parts, *ends,
            *(a.stride(0) for a in matrices), *(a.stride(1) for a in matrices),
            X, target, tokens, m, X.shape[1] // edge, X.stride(0), X.stride(1), split_tokens,
            ACCUMULATE=accumulate and splits == 1, PRECISION=_precision(X), WIDEN=widen(X),
            WIDE=needs_64_bits(BT, None, X, *dY), EDGE=edge, BT=BT,
            num_warps=config["num_warps"], num_stages=config["num_stages"],
        )  # fmt: skip
        if splits > 1:
            _sum(target, out, accumulate)


def elements(
    dY: Tensor, X: Tensor, index: Tensor, config: Config, into: Tensor | None = None
) -> Tensor:
    """As reference.elements; by tiles of dW, or entry by entry where the settings say DIRECT."""
    m, (tokens, k) = index.numel(), X.shape
    out = X.new_empty(m, dtype=torch.float32) if into is None else into
    if m == 0:
        return out
    entries = index.contiguous()
    BT, BE = config["BT"], config["BE"]
    direct = bool(config.get("DIRECT", 0))
    BM, BN = config.get("BM", 1), config.get("BN", 1)
    tiles = triton.cdiv(m, BE) if direct else triton.cdiv(dY.shape[1], BM) * triton.cdiv(k, BN)
    splits, split_tokens = _splits(tokens, tiles, BT, X)
    target = out if splits == 1 else X.new_empty(splits, m, dtype=torch.float32)
    accumulate = into is not None and splits == 1
    strides = (dY.stride(0), dY.stride(1), X.stride(0), X.stride(1))
    launch = {"num_warps": config["num_warps"], "num_stages": config["num_stages"]}
    with on_device(X):
        if direct:
            direct_elements[(tiles, splits)](
                dY, X, entries, target, tokens, m, k, *strides, split_tokens,
                ACCUMULATE=accumulate, WIDE=needs_64_bits(BT, None, X, dY), BE=BE, BT=BT, **launch,
            )  # fmt: skip
        else:
            order, tile_start = _by_tile(index, dY.shape[1], k, BM, BN)
            tile_elements[(tiles, splits)](
                dY, X, entries, order, tile_start, target,
                tokens, m, dY.shape[1], k, *strides, split_tokens,
                ACCUMULATE=accumulate, PRECISION=_precision(X), WIDEN=widen(X),
                WIDE=needs_64_bits(BT, None, X, dY), BM=BM, BN=BN, BT=BT, BE=BE,
                **launch,
            )  # fmt: skip
        if splits > 1:
            _sum(target, out, into is not None)
    return out


def _by_tile(index: Tensor, n: int, k: int, BM: int, BN: int) -> tuple[Tensor, Tensor]:
    """The entries in order of their tile [m], and where each tile's begin [tiles + 1].

    Sorted once for each index tensor and kept as long as it lives; the host waits for nothing.
    """
    key = (index._version, n, k, BM, BN)
    kept: tuple[Any, tuple[Tensor, Tensor]] | None = _tile_orders.get(index)
    if kept is not None and kept[0] == key:
        return kept[1]
    tiles_n = triton.cdiv(k, BN)
    row = torch.div(index, k, rounding_mode="floor")
    tile = torch.div(row, BM, rounding_mode="floor") * tiles_n
    tile = (tile + torch.div(index - row * k, BN, rounding_mode="floor")).to(torch.int32)
    tile, order = torch.sort(tile, stable=True)
    every = torch.arange(triton.cdiv(n, BM) * tiles_n + 1, device=index.device, dtype=torch.int32)
    found = (order.to(torch.int32), torch.searchsorted(tile, every, out_int32=True))
    _tile_orders[index] = (key, found)
    return found


def _splits(tokens: int, tiles: int, BT: int, like: Tensor) -> tuple[int, int]:
    """How many splits of the tokens, and how many tokens each: a function of sizes and device."""
    wanted = triton.cdiv(_WAVES * multiprocessors(like.device), max(1, tiles))
    steps = triton.cdiv(tokens, BT)
    # A split of fewer than four steps costs more in partial sums than it gains.
    splits = max(1, min(wanted, steps // 4))
    split_tokens = triton.cdiv(steps, splits) * BT
    return max(1, triton.cdiv(tokens, max(1, split_tokens))), split_tokens


def _sum(partial: Tensor, out: Tensor, accumulate: bool) -> None:
    size = out.numel()
    sum_splits[(triton.cdiv(size, _REDUCE_BLOCK),)](
        partial, out, size, partial.shape[0], ACCUMULATE=accumulate, BLOCK=_REDUCE_BLOCK
    )


def _precision(like: Tensor) -> str:
    """What torch's own float32 products do on this device: full float32 unless told otherwise."""
    exact = like.dtype != torch.float32 or torch.get_float32_matmul_precision() == "highest"
    return "ieee" if exact else "tf32"
