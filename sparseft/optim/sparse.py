"""torch's optimizers, and after each step the trained values stand in their weights.

State exists for the compact values alone, and weight decay touches nothing else. The numbers are
torch.optim's own, because the update is torch.optim's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from sparseft.sparse.registry import owner_of

__all__ = ["SparseAdamW", "SparseSGD"]


def _write_through(groups: Iterable[dict[str, Any]]) -> None:
    written = set()
    for group in groups:
        for parameter in group["params"]:
            owner = owner_of(parameter)
            # A module may own two parameters (weight and bias values): write it once.
            if owner is not None and id(owner) not in written and parameter.grad is not None:
                written.add(id(owner))
                owner.write_through()


class SparseAdamW(torch.optim.AdamW):
    """`torch.optim.AdamW` (Loshchilov & Hutter 2019, arXiv 1711.05101) with write-through.

    Takes any parameters and all of AdamW's options: `sparseft.trainable(model)` holds compact
    values and the head.
    """

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One AdamW step on the compact values; their weights hold the result afterwards."""
        loss: float | None = super().step(closure)  # type: ignore[arg-type,assignment]
        _write_through(self.param_groups)
        return loss


class SparseSGD(torch.optim.SGD):
    """`torch.optim.SGD` with write-through; all of its options."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One SGD step on the compact values; their weights hold the result afterwards."""
        loss: float | None = super().step(closure)  # type: ignore[arg-type,assignment]
        _write_through(self.param_groups)
        return loss
