"""The updates as torch sees them: checks, dispatch, fake results.

They change tensors in place and have no derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from sparseft_kernels import dispatch
from sparseft_kernels.entries import STRUCTURES, Entries, check_entries
from sparseft_kernels.entries.layout import check_compact
from sparseft_kernels.errors import KernelInputError
from sparseft_kernels.sparse_adamw import reference
from sparseft_kernels.sparse_adamw.common import AdamWOptions, Common, SGDOptions

__all__ = ["adamw_", "decide", "sgd_"]

_OPTIONS = 5  # numbers of a group
_WEIGHTS = (torch.bfloat16, torch.float16, torch.float32)


def adamw_(
    values: Sequence[Tensor],
    gradients: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    steps: Sequence[Tensor],
    entries: Sequence[Entries | None],
    options: Sequence[AdamWOptions],
    *,
    groups: Sequence[int] | None = None,
    clip: Tensor | None = None,
    seed: int | None = None,
    numbers: Sequence[int] | None = None,
) -> None:
    """One AdamW step on the compact values of a model, in place, and through to its weights.

    The numbers are torch.optim.AdamW's (Loshchilov & Hutter 2019, arXiv 1711.05101) within float32
    rounding. The host waits for nothing; a CUDA graph can hold the call.

    Args:
        values: float32, contiguous, on one device: compact values, or any other parameters.
        gradients, exp_avgs, exp_avg_sqs: the same, of equal sizes.
        steps: float32 scalars: steps taken so far, zeros at first; advanced by one.
        entries: where each tensor's values stand (bfloat16, float16 or float32 weights), or None.
        options: of each parameter group.
        groups: the group of each tensor; all 0 by default.
        clip: float32 scalar on the device by which every gradient is multiplied.
        seed: rounds stochastically into bfloat16 weights, from this seed in [0, 2^63); without one
            values are rounded to nearest, ties to even.
        numbers: of the tensors, for the random draws; their places by default.

    Raises:
        KernelInputError: sizes, dtypes or devices that do not fit; a seed with float16 weights.
    """
    common = _common(values, entries, options, groups, clip, seed, numbers)
    _check(values, ("gradients", gradients), ("exp_avgs", exp_avgs), ("exp_avg_sqs", exp_avg_sqs))
    _check_steps(steps, values)
    if _directly(values, gradients, clip):
        _run_adamw(values, gradients, exp_avgs, exp_avg_sqs, steps, common)
        _changed(values, exp_avgs, exp_avg_sqs, steps, common)
        return
    _adamw(
        list(values), list(gradients), list(exp_avgs), list(exp_avg_sqs), list(steps),
        *_packed(common),
    )  # fmt: skip


def sgd_(
    values: Sequence[Tensor],
    gradients: Sequence[Tensor],
    momenta: Sequence[Tensor | None],
    fresh: Sequence[bool],
    entries: Sequence[Entries | None],
    options: Sequence[SGDOptions],
    *,
    groups: Sequence[int] | None = None,
    clip: Tensor | None = None,
    seed: int | None = None,
    steps: Sequence[Tensor] | None = None,
    numbers: Sequence[int] | None = None,
) -> None:
    """One SGD step on the compact values of a model, in place, and through to its weights.

    Momentum, dampening, Nesterov and weight decay are torch.optim.SGD's.

    Args:
        values, gradients: as for `adamw_`.
        momenta: buffers of equal sizes; None where the group has no momentum.
        fresh: whether a buffer is new: it then becomes the gradient, as in torch.
        entries, options, groups, clip, seed, numbers: as for `adamw_`.
        steps: as for `adamw_`; needed with a seed alone, whose draws they number.

    Raises:
        KernelInputError: sizes, dtypes or devices that do not fit; a seed with float16 weights or
            without steps; momentum without a buffer.
    """
    common = _common(values, entries, options, groups, clip, seed, numbers)
    _check(values, ("gradients", gradients), ("momenta", momenta))
    counters: Sequence[Tensor | None] = [None] * len(values) if steps is None else steps
    if steps is not None:
        _check_steps(steps, values)
    elif seed is not None:
        raise KernelInputError("expected steps with a seed, got none; pass float32 scalars.")
    for group, buffer in zip(common.groups, momenta, strict=True):
        if buffer is None and common.options[group][1] != 0:
            raise KernelInputError("expected a buffer for every tensor with momentum, got None.")
    if _directly(values, gradients, clip):
        _run_sgd(values, gradients, momenta, fresh, counters, common)
        _changed(values, momenta, (), counters, common)
        return
    kept = [buffer for buffer in momenta if buffer is not None]
    slots = _slots(momenta)
    flags = [int(flag) for flag in fresh]
    _sgd(
        list(values), list(gradients), kept, slots, flags, list(steps or ()), *_packed(common)
    )  # fmt: skip


# --- checks --------------------------------------------------------------------------------------


def _common(
    values: Sequence[Tensor], entries: Sequence[Entries | None],
    options: Sequence[AdamWOptions] | Sequence[SGDOptions], groups: Sequence[int] | None,
    clip: Tensor | None, seed: int | None, numbers: Sequence[int] | None,
) -> Common:  # fmt: skip
    rates = [row.lr if isinstance(row.lr, Tensor) else None for row in options]
    rows = [
        (0.0 if rate is not None else float(row[0]), *map(float, row[1:]))
        for row, rate in zip(options, rates, strict=True)
    ]
    groups = [0] * len(values) if groups is None else groups
    numbers = range(len(values)) if numbers is None else numbers
    if not len(values) == len(entries) == len(groups) == len(numbers):
        raise KernelInputError(
            "expected one of entries, groups and numbers for each tensor, got "
            f"{len(values)}, {len(entries)}, {len(groups)} and {len(numbers)}."
        )
    if seed is not None and not 0 <= seed < 2**63:
        raise KernelInputError(f"expected a seed in [0, 2^63), got {seed}.")
    for scalar in (clip, *rates):
        if scalar is not None and values:
            _check_scalar(scalar, values[0].device)
    for one, tensor in zip(entries, values, strict=True):
        if one is not None:
            _check_place(one, tensor, seed)
    return Common(entries, rows, rates, groups, numbers, clip, seed)


def _check_place(entries: Entries, values: Tensor, seed: int | None) -> None:
    check_entries(entries)
    check_compact(values, entries, torch.float32, "values")
    dtype = entries.weight.dtype
    if dtype not in _WEIGHTS:
        raise KernelInputError(
            f"expected weights of bfloat16, float16 or float32, got {dtype}; "
            "use torch's own optimizer."
        )
    if seed is not None and dtype == torch.float16:
        raise KernelInputError(
            "expected bfloat16 (or float32) weights for stochastic rounding, got float16; "
            "round to nearest."
        )


def _check_scalar(scalar: Tensor, device: torch.device) -> None:
    if scalar.dtype != torch.float32 or scalar.numel() != 1 or scalar.device != device:
        raise KernelInputError(
            f"expected clip and learning rate as float32 scalars on {device}, got {scalar.dtype} "
            f"{tuple(scalar.shape)} on {scalar.device}; move and cast them."
        )


def _check(
    values: Sequence[Tensor], *others: tuple[str, Sequence[Tensor] | Sequence[Tensor | None]]
) -> None:
    device = values[0].device if values else None
    for name, tensors in (("values", values), *others):
        if len(tensors) != len(values):
            raise KernelInputError(f"expected {len(values)} {name}, got {len(tensors)}.")
        for tensor, value in zip(tensors, values, strict=True):
            if tensor is None:
                continue
            if (
                tensor.dtype != torch.float32
                or tensor.device != device
                or not tensor.is_contiguous()
                or tensor.numel() != value.numel()
            ):
                raise KernelInputError(
                    f"expected {name} as contiguous float32 tensors on {device}, one for each of "
                    f"values and as large, got {tensor.dtype} {tuple(tensor.shape)} on "
                    f"{tensor.device} for {tuple(value.shape)}."
                )


def _check_steps(steps: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    if len(steps) != len(values):
        raise KernelInputError(f"expected {len(values)} steps, got {len(steps)}.")
    for step, value in zip(steps, values, strict=True):
        _check_scalar(step, value.device)


# --- choice and calls ----------------------------------------------------------------------------


def _directly(values: Sequence[Tensor], gradients: Sequence[Tensor], clip: Tensor | None) -> bool:
    """Whether to go round the dispatcher, which costs more than the kernel; see `eager`."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    plain = (Tensor, Parameter)
    return all(type(tensor) in plain for tensor in values) and all(
        type(tensor) is Tensor for tensor in gradients
    ) and type(clip) in (Tensor, type(None))  # fmt: skip


def _changed(
    values: Sequence[Tensor], first: Sequence[Tensor | None], second: Sequence[Tensor],
    steps: Sequence[Tensor | None], common: Common,
) -> None:  # fmt: skip
    """Tell autograd what the dispatcher would have told it."""
    tensors = [*values, *first, *second, *steps]
    tensors += [one.weight for one in common.entries if one is not None]
    torch.autograd.graph.increment_version([tensor for tensor in tensors if tensor is not None])


def decide(
    name: str, values: Sequence[Tensor], entries: Sequence[Entries | None]
) -> dispatch.Decision:
    """Which implementation an update of these tensors takes; they share one device.

    Args:
        name: "adamw" or "sgd".
        values, entries: as for `adamw_`.
    """
    counts = [tensor.numel() for tensor in values]
    written = sum(
        count * one.weight.element_size()
        for count, one in zip(counts, entries, strict=True)
        if one is not None
    )
    return dispatch.decide(
        f"sparse_adamw.{name}", values[0].device, torch.float32,
        tensors=len(values), values=sum(counts), weight_bytes=written,
    )  # fmt: skip


def _run_adamw(
    values: Sequence[Tensor], gradients: Sequence[Tensor], exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor], steps: Sequence[Tensor], common: Common,
) -> None:  # fmt: skip
    if not values:
        return
    chosen = decide("adamw", values, common.entries)
    if chosen.implementation == "triton":
        from sparseft_kernels.sparse_adamw import triton_kernel

        triton_kernel.adamw(
            values, gradients, exp_avgs, exp_avg_sqs, steps, common, chosen.config
        )  # fmt: skip
    else:
        reference.adamw(values, gradients, exp_avgs, exp_avg_sqs, steps, common)


def _run_sgd(
    values: Sequence[Tensor], gradients: Sequence[Tensor], momenta: Sequence[Tensor | None],
    fresh: Sequence[bool], steps: Sequence[Tensor | None], common: Common,
) -> None:  # fmt: skip
    if not values:
        return
    chosen = decide("sgd", values, common.entries)
    if chosen.implementation == "triton":
        from sparseft_kernels.sparse_adamw import triton_kernel

        triton_kernel.sgd(values, gradients, momenta, fresh, steps, common, chosen.config)
    else:
        reference.sgd(values, gradients, momenta, fresh, steps, common)


# --- torch's form: lists of tensors and of numbers -----------------------------------------------


def _slots(tensors: Sequence[Any]) -> list[int]:
    """The place of each tensor among those that are no None, or -1."""
    taken = iter(range(len(tensors)))
    return [-1 if tensor is None else next(taken) for tensor in tensors]


def _packed(common: Common) -> tuple[Any, ...]:
    entries = [one for one in common.entries if one is not None]
    rates = [rate for rate in common.rates if rate is not None]
    layout = [
        number
        for slot, group, place in zip(
            _slots(common.entries), common.groups, common.numbers, strict=True
        )
        for number in (slot, group, place)
    ]
    return (
        [one.weight for one in entries],
        [one.index for one in entries],
        [number for one in entries for number in (STRUCTURES.index(one.structure), one.edge)],
        layout,
        [number for row in common.options for number in row],
        rates,
        _slots(common.rates),
        common.clip,
        -1 if common.seed is None else common.seed,
    )


def _unpacked(
    weights: Sequence[Tensor], indices: Sequence[Tensor], structures: Sequence[int],
    layout: Sequence[int], options: Sequence[float], rates: Sequence[Tensor],
    rate_slots: Sequence[int], clip: Tensor | None, seed: int,
) -> Common:  # fmt: skip
    entries = [
        Entries(weight, STRUCTURES[structures[2 * i]], index, structures[2 * i + 1])
        for i, (weight, index) in enumerate(zip(weights, indices, strict=True))
    ]
    return Common(
        [None if slot < 0 else entries[slot] for slot in layout[::3]],
        [options[i : i + _OPTIONS] for i in range(0, len(options), _OPTIONS)],
        [None if slot < 0 else rates[slot] for slot in rate_slots],
        layout[1::3],
        layout[2::3],
        clip,
        None if seed < 0 else seed,
    )


@torch.library.custom_op(
    "sparseft::sparse_adamw_",
    mutates_args=("values", "exp_avgs", "exp_avg_sqs", "steps", "weights"),
)
def _adamw(
    values: Sequence[Tensor], gradients: Sequence[Tensor], exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor], steps: Sequence[Tensor],
    weights: Sequence[Tensor], indices: Sequence[Tensor], structures: Sequence[int],
    layout: Sequence[int], options: Sequence[float], rates: Sequence[Tensor],
    rate_slots: Sequence[int], clip: Tensor | None, seed: int,
) -> None:  # fmt: skip
    common = _unpacked(
        weights, indices, structures, layout, options, rates, rate_slots, clip, seed
    )  # fmt: skip
    _run_adamw(values, gradients, exp_avgs, exp_avg_sqs, steps, common)


@_adamw.register_fake
def _(*args: Any) -> None:
    return None


@torch.library.custom_op(
    "sparseft::sparse_sgd_", mutates_args=("values", "momenta", "steps", "weights")
)
def _sgd(
    values: Sequence[Tensor], gradients: Sequence[Tensor], momenta: Sequence[Tensor],
    momentum_slots: Sequence[int], fresh: Sequence[int], steps: Sequence[Tensor],
    weights: Sequence[Tensor], indices: Sequence[Tensor], structures: Sequence[int],
    layout: Sequence[int], options: Sequence[float], rates: Sequence[Tensor],
    rate_slots: Sequence[int], clip: Tensor | None, seed: int,
) -> None:  # fmt: skip
    common = _unpacked(
        weights, indices, structures, layout, options, rates, rate_slots, clip, seed
    )  # fmt: skip
    buffers = [None if slot < 0 else momenta[slot] for slot in momentum_slots]
    flags = [bool(flag) for flag in fresh]
    _run_sgd(values, gradients, buffers, flags, steps or [None] * len(values), common)


@_sgd.register_fake
def _(*args: Any) -> None:
    return None
