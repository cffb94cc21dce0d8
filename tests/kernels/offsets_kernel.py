"""A kernel that does nothing but compute addresses."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparseft_kernels.entries import Entries
from sparseft_kernels.entries.tables import FIELDS, tensor_table
from sparseft_kernels.entries.triton_kernel import entry_offsets, field, quad_offsets

_QUADS = tl.constexpr(FIELDS.index("quads"))


@triton.jit
def _offsets(table, out, first, count, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    inside = first + place < count
    if field(table, 0, _QUADS) != 0:
        some = first + tl.arange(0, BLOCK // 4) * 4 < count
        found = tl.reshape(quad_offsets(table, 0, first, some, BLOCK), (BLOCK,))
    else:
        found = entry_offsets(table, 0, first, inside, BLOCK)
    tl.store(out + place, found, mask=inside)


def offsets(entries: Entries, block: int) -> Tensor:
    """Of all values, chunk by chunk."""
    count = int(torch.Size(entries.shape).numel())
    device = entries.weight.device
    table = tensor_table(device, [count], {}, [entries])
    out = torch.full((count + block,), -1, dtype=torch.int64, device=device)
    for first in range(0, count, block):
        _offsets[(1,)](table, out[first:], first, count, BLOCK=block)
    return out[:count]


def offsets_of(
    addressing: tuple[int, ...], index: Tensor, count: int, first: int, block: int
) -> Tensor:
    """Of one chunk of a tensor whose weight does not exist."""
    row = dict.fromkeys(FIELDS, 0)
    row |= {"index": index.data_ptr(), "wide": int(index.dtype == torch.int64)}
    row |= dict(
        zip(("kind", "inner", "stride", "edge", "width", "grid"), addressing, strict=True)
    )  # fmt: skip
    table = torch.tensor(list(row.values()), dtype=torch.int64, device=index.device)
    out = torch.full((block,), -1, dtype=torch.int64, device=index.device)
    _offsets[(1,)](table, out, first, count, BLOCK=block)
    return out
