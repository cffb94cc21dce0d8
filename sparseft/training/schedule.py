"""The optimizer that all methods share, and its learning rate over the steps."""

from __future__ import annotations

import math
from typing import Any

import torch

from sparseft.errors import ConfigError
from sparseft.methods import Prepared
from sparseft.optim import SparseAdamW

__all__ = ["make_optimizer", "schedule_factor"]


def make_optimizer(
    prepared: Prepared, lr: float, head_lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW with the same hyper-parameters for every method; body and head are two groups,
    each where there is one.

    Both kinds are torch's fused AdamW where the device has it; the sparse one also writes the
    compact values into their weights.

    Raises:
        ConfigError: the method asked for an unknown optimizer.
    """
    groups: list[dict[str, Any]] = []
    if prepared.body:
        groups.append({"params": prepared.body, "lr": lr})
    if prepared.head:
        groups.append({"params": prepared.head, "lr": head_lr})
    kinds = {"adamw": torch.optim.AdamW, "sparse_adamw": SparseAdamW}
    if prepared.optimizer not in kinds:
        raise ConfigError(
            f"expected optimizer adamw or sparse_adamw, got {prepared.optimizer!r}; "
            "change the method."
        )
    fused = groups[0]["params"][0].device.type in ("cpu", "cuda", "mps", "xpu")
    optimizer = kinds[prepared.optimizer](groups, lr=lr, weight_decay=weight_decay, fused=fused)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return optimizer


def schedule_factor(step: int, steps: int, warmup_share: float, schedule: str) -> float:
    """The learning rate of optimizer step `step` (from 0) of `steps`, as a share of the peak.

    It rises linearly to 1 at the last warm-up step; then "linear" falls to 0 just after the last
    step, and "constant" stays.
    """
    warmup = math.ceil(warmup_share * steps)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return (steps - step) / (steps - warmup)
