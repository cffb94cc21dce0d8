"""torch's optimizers, and after each step the trained values stand in their weights.

State exists for the compact values alone, and weight decay touches nothing else. The numbers are
torch.optim's own, because the update is torch.optim's own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from sparseft.sparse.registry import write_through

__all__ = ["SparseAdamW", "SparseSGD"]


class SparseAdamW(torch.optim.AdamW):
    """`torch.optim.AdamW` (Loshchilov & Hutter 2019, arXiv 1711.05101) with write-through.

    Takes any parameters and all of AdamW's options: `sparseft.trainable(model)` holds compact
    values and the head.
    """

    writes_through = True

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One AdamW step on the compact values; their weights hold the result afterwards."""
        loss: float | None = super().step(closure)
        write_through(self.param_groups)
        return loss


class SparseSGD(torch.optim.SGD):
    """`torch.optim.SGD` with write-through; all of its options."""

    writes_through = True

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One SGD step on the compact values; their weights hold the result afterwards."""
        loss: float | None = super().step(closure)
        write_through(self.param_groups)
        return loss
