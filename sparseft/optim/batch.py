"""Which parameters of an optimizer one kernel launch can step, and where their values stand."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sparseft.sparse.registry import Owner, references_of
from sparseft_kernels.dispatch import VARIABLE
from sparseft_kernels.entries import Entries

__all__ = ["Batch", "Group", "Owners", "collect", "may_launch", "scalar_rate"]

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
            for owner in owners if entries is not None else ():
                # Tied modules share the weight that was written.
                own = None if len(owners) == 1 else owner.destination(parameter)
                if own is None or (entries is not None and own.weight is entries.weight):
                    owner.mark_written(parameter)


class Owners(dict[int, Any]):
    """The registry's references for an optimizer's parameters, by id: a look-up for each step."""

    def of(self, parameter: Tensor) -> list[Owner]:
        """The living modules that own a parameter."""
        references = self.get(id(parameter))
        if references is None:
            references = self[id(parameter)] = references_of(parameter)
        return [owner for owner in [reference() for reference in references] if owner is not None]


def may_launch(groups: Sequence[Group]) -> bool:
    """Whether a kernel can be in question at all: a look that costs next to nothing."""
    return VARIABLE in os.environ or any(p.is_cuda for group in groups for p in group["params"])


def collect(
    groups: Sequence[Group], unfit: Callable[[Group], str | None], known: Owners
) -> tuple[list[Batch], list[tuple[Tensor, Entries | None, str]]]:
    """Sort an optimizer's parameters into batches by device, and those that fit none.

    Args:
        groups: the optimizer's.
        unfit: why a whole group cannot be launched, or None.
        known: kept with the optimizer.

    Returns:
        The batches; and every other parameter with a gradient, where it stands, and why it is left.
    """
    batches: dict[torch.device, Batch] = {}
    left: list[tuple[Tensor, Entries | None, str]] = []
    number = -1
    for place, group in enumerate(groups):
        group_reason = unfit(group)
        for parameter in group["params"]:
            number += 1
            gradient = parameter.grad
            if gradient is None:
                continue
            owners = known.of(parameter)
            entries = None
            for owner in owners:
                entries = entries or owner.destination(parameter)
            reason = group_reason or _unfit(parameter, gradient, entries)
            if reason is not None:
                left.append((parameter, entries, reason))
                continue
            device = parameter.device
            batch = batches.get(device) or batches.setdefault(device, Batch(device))
            batch.parameters.append(parameter)
            batch.gradients.append(gradient.contiguous())
            batch.entries.append(entries)
            batch.owners.append(owners)
            batch.groups.append(place)
            batch.numbers.append(number)
    return list(batches.values()), left


def _unfit(parameter: Tensor, gradient: Tensor, entries: Entries | None) -> str | None:
    if parameter.dtype != torch.float32 or gradient.dtype != torch.float32:
        return f"values of {parameter.dtype} with gradients of {gradient.dtype}"
    if type(parameter) not in _PLAIN or type(gradient) is not Tensor:
        return f"values of type {type(parameter).__name__}"
    if gradient.layout != torch.strided or not parameter.is_contiguous():
        return "values or gradients that are not contiguous"
    if entries is not None:
        weight = entries.weight
        if weight.dtype not in _WEIGHTS or type(weight) not in _PLAIN:
            return f"a weight of {weight.dtype} and type {type(weight).__name__}"
        if not weight.is_contiguous() or weight.device != parameter.device:
            return "a weight that is not contiguous, or on another device than its values"
    return None


def scalar_rate(rate: float | Tensor, device: torch.device) -> float | Tensor:
    """A learning rate as the kernels take it: a number, or a float32 scalar on the device."""
    if not isinstance(rate, Tensor):
        return float(rate)
    if rate.device.type == "cpu" and device.type != "cpu":
        return float(rate)
    return rate.detach().to(device=device, dtype=torch.float32)
