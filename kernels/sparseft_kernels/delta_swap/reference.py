"""Moving entries between weights and compact buffers in plain torch, bit for bit.

Everything moves as integers of the same width, so NaN payloads and the sign of zero stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparseft_kernels.entries import Entries, read, write

__all__ = ["INTEGERS", "read_", "swap", "write_"]

# By bytes of a number.
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _integers(tensor: Tensor) -> Tensor:
    return tensor.view(INTEGERS[tensor.element_size()])


def swap(entries: Sequence[Entries], buffers: Sequence[Tensor]) -> None:
    """Exchange each weight's entries with its buffer, in place."""
    for (weight, structure, index, edge), buffer in zip(entries, buffers, strict=True):
        bits = read(_integers(weight), structure, index, edge)
        write_([Entries(weight, structure, index, edge)], [buffer])
        _integers(buffer).copy_(bits.reshape(buffer.shape))


def read_(entries: Sequence[Entries], buffers: Sequence[Tensor]) -> None:
    """Copy each weight's entries into its buffer."""
    for (weight, structure, index, edge), buffer in zip(entries, buffers, strict=True):
        bits = read(_integers(weight), structure, index, edge)
        _integers(buffer).copy_(bits.reshape(buffer.shape))


def write_(entries: Sequence[Entries], buffers: Sequence[Tensor]) -> None:
    """Copy each buffer into its weight's entries."""
    for one, buffer in zip(entries, buffers, strict=True):
        bits = _integers(buffer).reshape(one.shape)
        write(_integers(one.weight), one.structure, one.index, one.edge, bits)
