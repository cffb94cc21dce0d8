"""Compact embedding gradient in Triton: a segment reduction over the sorted tokens.

Legend: T tokens, d width, m selected rows, L tokens of a chunk. `slot` [T] is the row of each
token among the selected ones, m if it is not there; sorted, row i's tokens are [starts[i],
starts[i + 1]).

A frequent token must not make one program add all of its gradients. So the sorted tokens are cut
at every multiple of L, too: a row is the piece that begins at starts[i] and the pieces that begin
at the multiples of L inside it. These are at most m + ceil(T / L), whatever the ids are: the host
needs to know nothing of them. First pieces go to the result, the others to partial
[ceil(T / L), d], and a second kernel adds these to their row in order. No atomics, so two runs give
the same bits; sums are float32.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparseft_kernels.device import on_device

__all__ = ["embedding_rows"]

Config = Mapping[str, int]

_SEARCH_BLOCK = 256


@triton.jit
def find_slots(ids, index, slot, T, m, stride_i, steps, BLOCK: tl.constexpr):
    """slot[t] = the place of ids[t] in the ascending index, or m: a binary search."""
    t = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    wanted = tl.load(ids + t * stride_i, mask=t < T, other=-1).to(tl.int64)
    low = tl.zeros((BLOCK,), tl.int32)
    high = tl.zeros((BLOCK,), tl.int32) + m
    for _ in range(steps):
        middle = (low + high) // 2
        searching = low < high
        here = tl.load(index + middle, mask=searching, other=0).to(tl.int64)
        low = tl.where(searching & (here < wanted), middle + 1, low)
        high = tl.where(searching & (here >= wanted), middle, high)
    found = tl.load(index + low, mask=low < m, other=-1).to(tl.int64)
    tl.store(slot + t, tl.where((low < m) & (found == wanted), low, m), mask=t < T)


@triton.jit
def add_pieces(
    dY, order, slot, starts, out, partial, T, m, d, stride_t, stride_f,
    ACCUMULATE: tl.constexpr, L: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """out[i] (+)= the first piece of row i; partial[j] = the piece that begins at token j L."""
    piece = tl.program_id(0)
    j = tl.program_id(1) * BD + tl.arange(0, BD)  # [BD]
    is_first = piece < m
    row = piece
    if is_first:
        begin = tl.load(starts + row)
    else:
        begin = (piece - m) * L
        row = tl.load(slot + begin)
    place = out + row.to(tl.int64) * d
    inside = row < m
    if inside & (piece >= m):
        # A row that begins at this very token has it in its first piece.
        inside = tl.load(starts + row) < begin
        place = partial + (piece - m).to(tl.int64) * d
    if inside:
        stop = tl.minimum(tl.load(starts + row + 1), (begin // L + 1) * L)
        step = tl.arange(0, BT)
        total = tl.zeros((BT, BD), tl.float32)
        for first in range(begin, stop, BT):
            here = step < stop - first  # [BT]
            token = tl.load(order + first + step, mask=here, other=0).to(tl.int64)
            source = dY + (token * stride_t)[:, None] + (j.to(tl.int64) * stride_f)[None, :]
            value = tl.load(source, mask=here[:, None] & (j < d)[None, :], other=0.0)
            total += value.to(tl.float32)
        result = tl.sum(total, 0)  # [BD]
        if ACCUMULATE:  # noqa: SIM102 (known when the kernel is compiled, the piece is not)
            if is_first:
                result += tl.load(place + j, mask=j < d, other=0.0)
        tl.store(place + j, result, mask=j < d)


@triton.jit
def add_chunks(
    partial, slot, starts, out, T, m, d, L: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr
):
    """out[i] += the further pieces of row i, in order; by the program of the first of them."""
    chunk = tl.program_id(0)
    row = tl.load(slot + chunk * L)
    if row < m:
        begin = tl.load(starts + row)
        # The first multiple of L inside the row, not at its beginning.
        if begin // L + 1 == chunk:
            j = tl.program_id(1) * BD + tl.arange(0, BD)  # [BD]
            count = tl.cdiv(tl.load(starts + row + 1), L) - chunk
            step = tl.arange(0, BC)
            source = partial + (chunk + step).to(tl.int64)[:, None] * d + j[None, :]
            total = tl.zeros((BC, BD), tl.float32)
            for done in range(0, count, BC):
                here = (step < count - done)[:, None] & (j < d)[None, :]
                total += tl.load(source, mask=here, other=0.0)
                source += BC * d
            place = out + row.to(tl.int64) * d + j
            result = tl.load(place, mask=j < d, other=0.0) + tl.sum(total, 0)
            tl.store(place, result, mask=j < d)


def embedding_rows(
    dY: Tensor, ids: Tensor, index: Tensor, config: Config, into: Tensor | None = None
) -> Tensor:
    """As reference.embedding_rows; added to `into` where that is given."""
    (tokens, d), m = dY.shape, index.numel()
    if m == 0 or d == 0 or tokens == 0:
        return dY.new_zeros(m, d, dtype=torch.float32) if into is None else into
    out = dY.new_empty(m, d, dtype=torch.float32) if into is None else into
    L = config["L"]
    BD = max(16, min(config["BD"], triton.next_power_of_2(d)))
    chunks, tiles = triton.cdiv(tokens, L), triton.cdiv(d, BD)
    unsorted = torch.empty(tokens, dtype=torch.int32, device=dY.device)
    partial = dY.new_empty(chunks, d, dtype=torch.float32)
    with on_device(dY):
        find_slots[(triton.cdiv(tokens, _SEARCH_BLOCK),)](
            ids,
            index.contiguous(),
            unsorted,
            tokens,
            m,
            ids.stride(0),
            m.bit_length(),
            BLOCK=_SEARCH_BLOCK,
        )
        # Stable: the order of summation is that of the tokens.
        slot, order = torch.sort(unsorted, stable=True)
        every = torch.arange(m + 1, device=dY.device, dtype=torch.int32)
        starts = torch.searchsorted(slot, every, out_int32=True)  # [m + 1]
        add_pieces[(m + chunks, tiles)](
            dY, order, slot, starts, out, partial, tokens, m, d, dY.stride(0), dY.stride(1),
            ACCUMULATE=into is not None, L=L, BT=config["BT"], BD=BD,
            num_warps=config["num_warps"], num_stages=config["num_stages"],
        )  # fmt: skip
        if chunks > 1:
            BC = config["BC"]
            narrow = min(BD, config["BDC"])
            add_chunks[(chunks, triton.cdiv(d, narrow))](
                partial, slot, starts, out, tokens, m, d, L=L, BC=BC, BD=narrow
            )
    return out
