"""Batches of rows of like length, in an order that is a function of (seed, epoch).

Legend: N rows of a split, B of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from sparseft.data.order import bucketed, longest_first

__all__ = ["BucketedBatches"]


class BucketedBatches(ABC):
    """What loaders share whose rows are encoded once; a subclass gives `collate`.

    Args:
        lengths: tokens of each row, int64 [N].
        batch_size: rows of a batch, 1 or more.
        seed: of the order; None keeps one order, the longest rows first.
        device: where the batches are put.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        seed: int | None,
        device: torch.device | str,
    ) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.epoch = 0
        self._seed = seed

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.lengths)

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return -(-self.rows // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration follows."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.batches()

    def batches(self, start: int = 0) -> Iterator[dict[str, Any]]:
        """The batches of the chosen epoch from number `start` on."""
        if self._seed is None:
            order = longest_first(self.lengths, self.batch_size)
        else:
            order = bucketed(self.lengths, self.batch_size, self._seed, self.epoch)
        for rows in order[start:]:
            yield self.collate(rows)

    @abstractmethod
    def collate(self, rows: np.ndarray) -> dict[str, Any]:
        """The batch of the rows at the positions `rows`, int64 [B]."""
