"""Small tables on the device that let one launch work on many tensors.

A table is uploaded once for each content: as long as addresses, sizes and settings stay the same,
the same device tensor is used again, and nothing is copied. The upload is asynchronous (pinned
memory), so the host never waits. Tables that a CUDA graph has captured are kept for good, since
its replays read them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor

from sparseft_kernels.entries.layout import NOWHERE, Entries

__all__ = ["FIELDS", "WEIGHT_CODES", "chunk_table", "number_table", "tensor_table"]

# One row of a tensor table. Addresses of the tensor, its numbers, and the entries it belongs to.
FIELDS = (
    "value",  # compact values
    "gradient",
    "first",  # first moment, or momentum
    "second",  # second moment
    "step",  # float32 step counter
    "rate",  # float32 learning rate on the device; 0: it stands in the options
    "count",  # compact values
    "aligned",  # whether values, gradients and moments begin at multiples of 16 bytes
    "group",  # row of options
    "number",  # of the tensor, for random rounding
    "fresh",  # whether the momentum is new
    "weight",
    "index",
    "code",  # of the weight's dtype
    "wide",  # whether the index is int64
    "quads",  # whether what follows counts in quads, and the weight is aligned for them
    "kind",  # this and the rest: Entries.addressing
    "inner",
    "stride",
    "edge",
    "width",
    "grid",
)
WEIGHT_CODES = {torch.bfloat16: 1, torch.float16: 2, torch.float32: 3, torch.float64: 4}
_OWN = FIELDS[: FIELDS.index("weight")]
_ALIGNED = ("value", "gradient", "first", "second")
_NOWHERE = (0, 0, 0, 0, 0, NOWHERE, 1, 1, 1, 1, 1)

_KEPT = 256
_tables: OrderedDict[Hashable, Tensor] = OrderedDict()
# Host and device tensors that the replays of CUDA graphs read.
_captured: list[Tensor] = []
# Pinned memory by size and dtype, for a capture: there none can be had.
_spare: dict[tuple[int, torch.dtype], Tensor] = {}


def tensor_table(
    device: torch.device,
    count: Sequence[int],
    fields: Mapping[str, Sequence[int]],
    entries: Sequence[Entries | None],
) -> Tensor:
    """[tensors, FIELDS] int64: one row for each tensor of compact values.

    Args:
        count: compact values of each.
        fields: its addresses (`data_ptr()`) and numbers by name; what is left out is 0.
        entries: where the values stand, or None for values that stand in no weight.
    """
    zeros = [0] * len(count)
    addresses = [fields.get(name, zeros) for name in _ALIGNED]
    aligned = [int(not any(a & 15 for a in row)) for row in zip(*addresses, strict=True)]
    columns = {**dict.fromkeys(_OWN, zeros), **fields, "count": count, "aligned": aligned}
    own = zip(*(columns[name] for name in _OWN), strict=True)
    places = (_NOWHERE if one is None else _place(one) for one in entries)
    content = tuple(chain.from_iterable(map(chain, own, places)))
    return _table(device, content, torch.int64, lambda: content).view(len(count), len(FIELDS))


def _place(entries: Entries) -> tuple[int, ...]:
    weight, index = entries.weight, entries.index
    address = weight.data_ptr()
    quads = entries.has_quads and address & 15 == 0
    return (
        address,
        index.data_ptr(),
        WEIGHT_CODES[weight.dtype],
        int(index.dtype == torch.int64),
        int(quads),
        *entries.addressing(quads),
    )


def number_table(device: torch.device, numbers: Sequence[float]) -> Tensor:
    """[numbers] float64."""
    content = tuple(numbers)
    return _table(device, content, torch.float64, lambda: content)


def chunk_table(device: torch.device, count: Sequence[int], size: int) -> Tensor:
    """[chunks, 2] int64: which tensor, and its first value there. Empty tensors have no chunk."""

    def build() -> Tensor:
        chunks = (torch.tensor(count, dtype=torch.int64) + (size - 1)) // size  # [tensors]
        tensor = torch.repeat_interleave(chunks)  # [chunks]
        start = torch.repeat_interleave(chunks.cumsum(0) - chunks, chunks)
        return torch.stack([tensor, (torch.arange(len(tensor)) - start) * size], 1).view(-1)

    return _table(device, ("chunks", size, *count), torch.int64, build).view(-1, 2)


def _table(
    device: torch.device,
    key: Hashable,
    dtype: torch.dtype,
    build: Callable[[], Sequence[float] | Tensor],
) -> Tensor:
    key = (device, dtype, key)
    found = _tables.get(key)
    capturing = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
    if found is None:
        content = build()
        host = content if isinstance(content, Tensor) else torch.tensor(content, dtype=dtype)
        found = _upload(host, device, capturing)
        _tables[key] = found
        if len(_tables) > _KEPT:
            _tables.popitem(last=False)
    else:
        _tables.move_to_end(key)
    if capturing:
        _captured.append(found)
    return found


def _upload(host: Tensor, device: torch.device, capturing: bool) -> Tensor:
    if device.type != "cuda":
        return host.to(device)
    size = (host.numel(), host.dtype)
    if capturing:
        # The copy becomes part of the graph and reads this memory at each replay.
        spare = _spare.pop(size, None)
        host = host if spare is None else spare.copy_(host)
        _captured.append(host)
    else:
        if size not in _spare:
            _spare[size] = torch.empty_like(host, pin_memory=True)
        host = host.pin_memory()
    return torch.empty_like(host, device=device).copy_(host, non_blocking=True)
