"""Where compact values stand in their weight: the address arithmetic that kernels share.

A program works on one chunk of one tensor. Divisions are of 32-bit numbers, counted from the
chunk's first value; addresses are 64-bit, so weights and tensors beyond 2^31 entries are safe.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sparseft_kernels.entries.layout import BLOCKS, COLUMNS
from sparseft_kernels.entries.tables import FIELDS

__all__ = ["entry_offsets", "field", "pointer", "quad_offsets"]

_FIELDS = tl.constexpr(len(FIELDS))
_INDEX, _WIDE = tl.constexpr(FIELDS.index("index")), tl.constexpr(FIELDS.index("wide"))
_KIND, _INNER = tl.constexpr(FIELDS.index("kind")), tl.constexpr(FIELDS.index("inner"))
_STRIDE, _EDGE = tl.constexpr(FIELDS.index("stride")), tl.constexpr(FIELDS.index("edge"))
_WIDTH, _GRID = tl.constexpr(FIELDS.index("width")), tl.constexpr(FIELDS.index("grid"))
_COLUMNS, _BLOCKS = tl.constexpr(COLUMNS), tl.constexpr(BLOCKS)


@triton.jit
def field(table, tensor, FIELD: tl.constexpr):
    """One number of a tensor's row; of several rows where `tensor` is a block."""
    return tl.load(table + tensor * _FIELDS + FIELD)


@triton.jit
def pointer(table, tensor, FIELD: tl.constexpr, DTYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """An address of a tensor's row, as a pointer."""
    address = field(table, tensor, FIELD).to(tl.pointer_type(DTYPE))
    if ALIGNED:
        address = tl.multiple_of(address, 16)
    return address


@triton.jit
def quad_offsets(table, tensor, first, inside, BLOCK: tl.constexpr):
    """Where the values first, first + 1, … stand: [BLOCK / 4, 4] int64, four neighbours in a row.

    For tensors whose row says `quads`; `first` is a multiple of 4, `inside` [BLOCK / 4].
    """
    quads = entry_offsets(table, tensor, first // 4, inside, BLOCK // 4)
    return quads[:, None] * 4 + tl.arange(0, 4)[None, :]


@triton.jit
def entry_offsets(table, tensor, first, inside, BLOCK: tl.constexpr):
    """Where the values first, first + 1, … stand in their weight: [BLOCK] int64.

    In quads, where the tensor's row counts so. `inside` is false for values beyond the last; their
    offsets mean nothing.
    """
    kind = field(table, tensor, _KIND)
    inner, stride = field(table, tensor, _INNER), field(table, tensor, _STRIDE)
    start = first // inner
    local = (first - start * inner).to(tl.int32) + tl.arange(0, BLOCK)  # [BLOCK]
    size = inner.to(tl.int32)
    down = local // size
    j = local - down * size  # [BLOCK]
    i = start + down  # [BLOCK] int64
    place = i
    if kind == _COLUMNS:
        place = j.to(tl.int64)
    index = field(table, tensor, _INDEX)
    if field(table, tensor, _WIDE) != 0:
        found = tl.load(index.to(tl.pointer_type(tl.int64)) + place, mask=inside, other=0)
    else:
        narrow = tl.load(index.to(tl.pointer_type(tl.int32)) + place, mask=inside, other=0)
        found = narrow.to(tl.int64)
    if kind == _COLUMNS:
        offsets = i * stride + found
    elif kind == _BLOCKS:
        width = field(table, tensor, _WIDTH).to(tl.int32)
        grid = field(table, tensor, _GRID).to(tl.int32)
        block = found.to(tl.int32)
        block_row = block // grid
        row = j // width
        column = (block - block_row * grid) * width + (j - row * width)
        height = field(table, tensor, _EDGE)
        offsets = (block_row * height + row) * stride + column
    else:
        offsets = found * stride + j
    return offsets
