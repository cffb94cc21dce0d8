"""What an update of many tensors shares, whichever optimizer it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from sparseft_kernels.entries import Entries

__all__ = ["AdamWOptions", "Common", "SGDOptions"]


class AdamWOptions(NamedTuple):
    """One parameter group's; `lr` may be a float32 scalar on the values' device."""

    lr: float | Tensor = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 1e-2


class SGDOptions(NamedTuple):
    """One parameter group's; `lr` may be a float32 scalar on the values' device."""

    lr: float | Tensor = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False


class Common(NamedTuple):
    """Beside the tensors of the optimizer's state.

    Attributes:
        entries: where each tensor's values stand, or None.
        options: one row of numbers for each group, as AdamWOptions or SGDOptions have them.
        rates: one learning rate for each group, or None where it is the first option.
        groups: the group of each tensor.
        numbers: the number of each tensor, for random rounding.
        clip: float32 scalar that multiplies every gradient.
        seed: of stochastic rounding into bfloat16; None rounds to nearest.
    """

    entries: Sequence[Entries | None]
    options: Sequence[Sequence[float]]
    rates: Sequence[Tensor | None]
    groups: Sequence[int]
    numbers: Sequence[int]
    clip: Tensor | None = None
    seed: int | None = None
