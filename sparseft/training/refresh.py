"""Refreshing the trained units within the training loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseft.methods import Prepared
from sparseft.saliency.tokens import ConstructWeights
from sparseft.sparse.refresh import Refreshed, RefreshOptions, refresh
from sparseft.training.averaging import Average
from sparseft.training.devices import synchronize
from sparseft.training.progress import Progress

__all__ = ["Refresher"]


@dataclass(frozen=True)
class Refresher:
    """Exchanges flat units while a training runs; see `sparseft.sparse.refresh`.

    `batches(count, draw)` gives training batches, others for each draw; `seed` is the run's;
    `constructs` are those that the analysis had.
    """

    options: RefreshOptions
    batches: Callable[[int, int], list[dict[str, Tensor]]]
    seed: int
    constructs: ConstructWeights | None = None

    def run(
        self,
        prepared: Prepared,
        optimizer: torch.optim.Optimizer,
        average: Average | None,
        progress: Progress,
    ) -> float:
        """Refresh now, and let the optimizer, the average and `progress` follow; the seconds."""
        device = prepared.body[0].device
        synchronize(device)
        start = time.perf_counter()
        draw = progress.refreshes + 1
        done = refresh(
            prepared.model,
            optimizer,
            self.batches(self.options.batches, draw),
            self.options,
            seed=_seed(self.seed, draw),
            constructs=self.constructs,
        )
        prepared.selection = done.selection
        if average is not None:
            _follow(average, done)
        progress.refreshes += 1
        progress.exchanged_units += done.exchanged
        synchronize(device)
        seconds = time.perf_counter() - start
        progress.refresh_seconds += seconds
        return seconds


def _seed(seed: int, draw: int) -> int:
    # The random control's first choice was drawn from the seed itself.
    return seed * 1_000_003 + draw


def _follow(average: Average, done: Refreshed) -> None:
    """New entries have been the base's in all steps so far, so that is their mean."""
    moves = {id(move.parameter): move for move in done.moves}

    def change(parameter: Tensor, mean: Tensor) -> Tensor:
        move = moves.get(id(parameter))
        return mean if move is None else move.carry(mean, move.fresh)

    average.transform(change)
