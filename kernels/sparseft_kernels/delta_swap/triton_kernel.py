"""Moving entries between all weights of a model and their compact buffers, in one launch.

Numbers move as integers of their width, through no arithmetic, so every bit stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparseft_kernels.device import on_device
from sparseft_kernels.entries import Entries
from sparseft_kernels.entries.tables import FIELDS, WEIGHT_CODES, chunk_table, tensor_table
from sparseft_kernels.entries.triton_kernel import entry_offsets, field, pointer, quad_offsets

__all__ = ["exchange"]

Config = Mapping[str, int]

_VALUE, _COUNT = tl.constexpr(FIELDS.index("value")), tl.constexpr(FIELDS.index("count"))
_WEIGHT, _CODE = tl.constexpr(FIELDS.index("weight")), tl.constexpr(FIELDS.index("code"))
_QUADS, _ALIGNED = tl.constexpr(FIELDS.index("quads")), tl.constexpr(FIELDS.index("aligned"))
_FLOAT32 = tl.constexpr(WEIGHT_CODES[torch.float32])
_FLOAT64 = tl.constexpr(WEIGHT_CODES[torch.float64])


@triton.jit
def _move(
    table, tensor, place, offsets, inside,
    TO_WEIGHT: tl.constexpr, TO_BUFFER: tl.constexpr, DTYPE: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    buffer = pointer(table, tensor, _VALUE, DTYPE, ALIGNED) + place
    weight = pointer(table, tensor, _WEIGHT, DTYPE, ALIGNED) + offsets
    # Both are read before either is written.
    if TO_BUFFER:
        taken = tl.load(weight, mask=inside, other=0)
    if TO_WEIGHT:
        given = tl.load(buffer, mask=inside, other=0)
        tl.store(weight, given, mask=inside)
    if TO_BUFFER:
        tl.store(buffer, taken, mask=inside)


@triton.jit
def _move_width(
    table, tensor, place, offsets, inside,
    TO_WEIGHT: tl.constexpr, TO_BUFFER: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    code = field(table, tensor, _CODE)
    if code == _FLOAT64:
        _move(table, tensor, place, offsets, inside, TO_WEIGHT, TO_BUFFER, tl.int64, ALIGNED)
    elif code == _FLOAT32:
        _move(table, tensor, place, offsets, inside, TO_WEIGHT, TO_BUFFER, tl.int32, ALIGNED)
    else:
        _move(table, tensor, place, offsets, inside, TO_WEIGHT, TO_BUFFER, tl.int16, ALIGNED)


@triton.jit
def exchange_chunk(
    table, chunks, TO_WEIGHT: tl.constexpr, TO_BUFFER: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """One chunk of one buffer."""
    chunk = chunks + tl.program_id(0).to(tl.int64) * 2
    tensor = tl.load(chunk)
    first = tl.multiple_of(tl.load(chunk + 1), BLOCK)
    count = field(table, tensor, _COUNT)
    if (field(table, tensor, _QUADS) != 0) & (field(table, tensor, _ALIGNED) != 0):
        start = first + tl.arange(0, BLOCK // 4) * 4  # [BLOCK / 4]
        some = start < count
        quads = quad_offsets(table, tensor, first, some, BLOCK)  # [BLOCK / 4, 4]
        four = start[:, None] + tl.arange(0, 4)[None, :]
        _move_width(table, tensor, four, quads, some[:, None], TO_WEIGHT, TO_BUFFER, True)
    else:
        place = first + tl.arange(0, BLOCK)
        inside = place < count
        if field(table, tensor, _QUADS) != 0:
            some = first + tl.arange(0, BLOCK // 4) * 4 < count
            quads = quad_offsets(table, tensor, first, some, BLOCK)
            offsets = tl.reshape(quads, (BLOCK,))
        else:
            offsets = entry_offsets(table, tensor, first, inside, BLOCK)
        _move_width(table, tensor, place, offsets, inside, TO_WEIGHT, TO_BUFFER, False)


def exchange(
    entries: Sequence[Entries], buffers: Sequence[Tensor], to_weight: bool, to_buffer: bool,
    config: Config,
) -> None:  # fmt: skip
    """Both ways: swap. One way: write into the weights, or read from them."""
    device, BLOCK = buffers[0].device, config["BLOCK"]
    count = [buffer.numel() for buffer in buffers]
    addresses = {"value": [buffer.data_ptr() for buffer in buffers]}
    with on_device(buffers[0]):
        table = tensor_table(device, count, addresses, entries)
        chunks = chunk_table(device, count, BLOCK)
        if len(chunks):
            exchange_chunk[(len(chunks),)](
                table, chunks, TO_WEIGHT=to_weight, TO_BUFFER=to_buffer, BLOCK=BLOCK,
                num_warps=config["num_warps"],
            )  # fmt: skip
