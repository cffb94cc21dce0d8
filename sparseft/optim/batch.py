"""Which parameters of an optimizer one kernel launch can step, and where their values stand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sparseft.sparse.registry import Owner, owners_of
from sparseft_kernels.dispatch import VARIABLE
from sparseft_kernels.entries import Entries

__all__ = ["Batch", "Group", "collect", "may_launch", "scalar_rate"]

Group = dict[str, Any]

_PLAIN = (Tensor, nn.Parameter)
_WEIGHTS = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(eq=False)
class Batch:
    """Parameters with gradients on one device, in the order of the optimizer's groups."""

    device: torch.device
    parameters: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    entries: list[Entries | None] = field(default_factory=list)
    owners: list[Sequence[Owner]] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)  # of each parameter
    numbers: list[int] = field(default_factory=list)  # among all parameters of the optimizer

    def mark_written(self) -> None:
        """Tell the modules that their weights hold the new values."""
        for parameter, entries, owners in zip(
            self.parameters, self.entries, self.owners, strict=True
        ):
            if entries is None:
                continue
            for owner in owners:
                own = owner.destination(parameter)
                if own is not None and own.weight is entries.weight:
                    owner.mark_written(parameter)


def may_launch(groups: Sequence[Group]) -> bool:
    """Whether a kernel can be in question at all: a look that costs next to nothing."""
    return VARIABLE in os.environ or any(p.is_cuda for group in groups for p in group["params"])


def collect(
    groups: Sequence[Group], unfit: Callable[[Group], str | None]
) -> tuple[list[Batch], list[tuple[Tensor, Entries | None, str]]]:
    """Sort an optimizer's parameters into batches by device, and those that fit none.

    Args:
        groups: the optimizer's.
        unfit: why a whole group cannot be launched, or None.

    Returns:
        The batches; and every other parameter with a gradient, where it stands, and why it is left.
    """
    batches: dict[torch.device, Batch] = {}
    left: list[tuple[Tensor, Entries | None, str]] = []
    for number, place, parameter in _with_gradients(groups):
        owners = owners_of(parameter)
        destinations = (owner.destination(parameter) for owner in owners)
        entries = next((one for one in destinations if one is not None), None)
        reason = unfit(groups[place]) or _unfit(parameter, entries)
        if reason is not None:
            left.append((parameter, entries, reason))
            continue
        assert parameter.grad is not None
        batch = batches.setdefault(parameter.device, Batch(parameter.device))
        batch.parameters.append(parameter)
        batch.gradients.append(parameter.grad.contiguous())
        batch.entries.append(entries)
        batch.owners.append(owners)
        batch.groups.append(place)
        batch.numbers.append(number)
    return list(batches.values()), left


def _with_gradients(groups: Sequence[Group]) -> Iterator[tuple[int, int, Tensor]]:
    number = 0
    for place, group in enumerate(groups):
        for parameter in group["params"]:
            if parameter.grad is not None:
                yield number, place, parameter
            number += 1


def _unfit(parameter: Tensor, entries: Entries | None) -> str | None:
    gradient = parameter.grad
    assert gradient is not None
    if parameter.dtype != torch.float32 or gradient.dtype != torch.float32:
        return f"values of {parameter.dtype} with gradients of {gradient.dtype}"
    if type(parameter) not in _PLAIN or type(gradient) is not Tensor:
        return f"values of type {type(parameter).__name__}"
    if gradient.layout != torch.strided or not parameter.is_contiguous():
        return "values or gradients that are not contiguous"
    if entries is not None and entries.weight.dtype not in _WEIGHTS:
        return f"a weight of {entries.weight.dtype}"
    if entries is not None and not entries.weight.is_contiguous():
        return "a weight that is not contiguous"
    return None


def scalar_rate(rate: float | Tensor, device: torch.device) -> float | Tensor:
    """A learning rate as the kernels take it: a number, or a float32 scalar on the device."""
    if not isinstance(rate, Tensor):
        return float(rate)
    if rate.device.type == "cpu" and device.type != "cpu":
        return float(rate)
    return rate.detach().to(device=device, dtype=torch.float32)
