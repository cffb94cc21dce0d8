"""The exchange as torch sees it: checks, dispatch, fake results. In place, without derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from sparseft_kernels import dispatch
from sparseft_kernels.delta_swap import problem, reference
from sparseft_kernels.entries import STRUCTURES, Entries, check_entries
from sparseft_kernels.entries.layout import check_compact
from sparseft_kernels.errors import KernelInputError

__all__ = ["read_", "swap_", "write_"]

_DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
_READ, _WRITE, _SWAP = 1, 2, 3


def swap_(entries: Sequence[Entries], buffers: Sequence[Tensor]) -> None:
    """Exchange the entries of a model's weights with compact buffers, bit for bit.

    NaN payloads and the sign of zero stay; calling it twice changes nothing.

    Args:
        entries: of bfloat16, float16, float32 or float64 weights on one device; no two share an
            entry.
        buffers: one contiguous tensor of the compact shape and the weight's dtype for each.

    Raises:
        KernelInputError: sizes, dtypes or devices that do not fit.
    """
    _exchange(entries, buffers, _SWAP)


def write_(entries: Sequence[Entries], buffers: Sequence[Tensor]) -> None:
    """Copy compact buffers into the entries of the weights, bit for bit; see `swap_`."""
    _exchange(entries, buffers, _WRITE)


def read_(entries: Sequence[Entries], buffers: Sequence[Tensor]) -> None:
    """Copy the entries of the weights into compact buffers, bit for bit; see `swap_`."""
    _exchange(entries, buffers, _READ)


def _exchange(entries: Sequence[Entries], buffers: Sequence[Tensor], direction: int) -> None:
    if len(entries) != len(buffers):
        raise KernelInputError(
            f"expected a buffer for each of {len(entries)} entries, got {len(buffers)}."
        )
    for one, buffer in zip(entries, buffers, strict=True):
        _check(one, buffer, buffers[0].device)
    plain = (Tensor, Parameter)
    if (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and all(type(one.weight) in plain for one in entries)
        and all(type(buffer) in plain for buffer in buffers)
    ):
        _run(entries, buffers, direction)
        changed = [one.weight for one in entries] if direction & _WRITE else []
        changed += buffers if direction & _READ else []
        torch.autograd.graph.increment_version(changed)
        return
    structures = [n for one in entries for n in (STRUCTURES.index(one.structure), one.edge)]
    weights, indices = [one.weight for one in entries], [one.index for one in entries]
    call = {_SWAP: _swap, _WRITE: _write, _READ: _read}[direction]
    call(weights, list(buffers), indices, structures)


def _check(entries: Entries, buffer: Tensor, device: torch.device) -> None:
    check_entries(entries)
    dtype = entries.weight.dtype
    if dtype not in _DTYPES:
        raise KernelInputError(
            f"expected weights of bfloat16, float16, float32 or float64, got {dtype}."
        )
    check_compact(buffer, entries, dtype, "a buffer")
    if not buffer.is_contiguous() or buffer.device != device:
        raise KernelInputError(
            f"expected contiguous buffers on one device, got strides {buffer.stride()} on "
            f"{buffer.device} and another on {device}."
        )


def _run(entries: Sequence[Entries], buffers: Sequence[Tensor], direction: int) -> None:
    if not entries:
        return
    chosen = dispatch.decide(
        problem.SWAP.name,
        buffers[0].device,
        # Integers move: a table of float32 serves other widths.
        buffers[0].dtype if buffers[0].dtype in dispatch.TRITON_DTYPES else torch.float32,
        tensors=len(buffers),
        values=sum(buffer.numel() for buffer in buffers),
    )
    if chosen.implementation == "triton":
        from sparseft_kernels.delta_swap import triton_kernel

        to_weight, to_buffer = bool(direction & _WRITE), bool(direction & _READ)
        triton_kernel.exchange(entries, buffers, to_weight, to_buffer, chosen.config)
    else:
        plain = {_SWAP: reference.swap, _WRITE: reference.write_, _READ: reference.read_}
        plain[direction](entries, buffers)


# --- torch's form: lists of tensors and of numbers -----------------------------------------------


def _run_lists(
    weights: Sequence[Tensor], buffers: Sequence[Tensor], indices: Sequence[Tensor],
    structures: Sequence[int], direction: int,
) -> None:  # fmt: skip
    entries = [
        Entries(weight, STRUCTURES[structures[2 * i]], index, structures[2 * i + 1])
        for i, (weight, index) in enumerate(zip(weights, indices, strict=True))
    ]
    _run(entries, buffers, direction)


@torch.library.custom_op("sparseft::delta_swap_", mutates_args=("weights", "buffers"))
def _swap(
    weights: Sequence[Tensor], buffers: Sequence[Tensor], indices: Sequence[Tensor],
    structures: Sequence[int],
) -> None:  # fmt: skip
    _run_lists(weights, buffers, indices, structures, _SWAP)


@torch.library.custom_op("sparseft::delta_write_", mutates_args=("weights",))
def _write(
    weights: Sequence[Tensor], buffers: Sequence[Tensor], indices: Sequence[Tensor],
    structures: Sequence[int],
) -> None:  # fmt: skip
    _run_lists(weights, buffers, indices, structures, _WRITE)


@torch.library.custom_op("sparseft::delta_read_", mutates_args=("buffers",))
def _read(
    weights: Sequence[Tensor], buffers: Sequence[Tensor], indices: Sequence[Tensor],
    structures: Sequence[int],
) -> None:  # fmt: skip
    _run_lists(weights, buffers, indices, structures, _READ)


def _nothing(*args: Any) -> None:
    return None


_swap.register_fake(_nothing)
_write.register_fake(_nothing)
_read.register_fake(_nothing)
