"""Batches of texts with the wanted similarity of every two, in an order of (seed, epoch).

Legend: B texts of a batch, L tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from sparseft.routing.pairs.grades import Grades
from sparseft.routing.retriever import SentenceEncoder

__all__ = ["GradedBatches"]


class GradedBatches:
    """What the training loop reads: input_ids, attention_mask [B, L] and labels [B, B].

    Rows are not sorted by length: how alike a long and a short context are has to be seen, too.
    Where the grades have sides, an epoch has all rows of the rarest and as many of each other.

    Args:
        grades: of at least two texts.
        encoder: its tokenizer, length and device.
        batch_size: B; batches are of nearly equal sizes, so that none has a single text.
        seed: of the order.
    """

    def __init__(
        self, grades: Grades, encoder: SentenceEncoder, batch_size: int, seed: int
    ) -> None:
        self.grades = grades
        self.encoder = encoder
        self._seed = seed
        self._epoch = 0
        sides = grades.sides
        self._sides = (
            [np.arange(len(grades))]
            if sides is None
            else [np.flatnonzero(sides == side) for side in np.unique(sides)]
        )
        self._each = min(map(len, self._sides))
        rows = self._each * len(self._sides)
        self._batches = max(1, round(rows / batch_size))

    def __len__(self) -> int:
        return self._batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration follows."""
        self._epoch = epoch

    def batches(self, start: int = 0) -> Iterator[dict[str, torch.Tensor]]:
        """The batches of the chosen epoch from number `start` on."""
        rng = np.random.default_rng([self._seed, self._epoch])
        rows = np.concatenate([rng.permutation(side)[: self._each] for side in self._sides])
        for part in np.array_split(rng.permutation(rows), self._batches)[start:]:
            yield self.collate(part)

    def every_text(self, batch_size: int = 64) -> Iterator[dict[str, torch.Tensor]]:
        """All texts once, the longest first, without labels."""
        order = np.argsort([-len(text) for text in self.grades.texts], kind="stable")
        for start in range(0, len(order), batch_size):
            yield self.encoder.encode(
                [self.grades.texts[row] for row in order[start : start + batch_size]]
            )

    def collate(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """The batch of some rows int64 [B]."""
        batch = self.encoder.encode([self.grades.texts[row] for row in rows])
        labels = torch.from_numpy(self.grades.matrix(rows))
        return {**batch, "labels": labels.to(batch["input_ids"].device)}
