"""The order of batches: a pure function of (seed, epoch), rows of similar length together."""

from __future__ import annotations

import numpy as np

__all__ = ["bucketed", "chunks", "longest_first"]

_MEGA_BATCH = 32  # batches whose rows are sorted by length together


def bucketed(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Shuffled batches with little padding.

    Rows are permuted, sorted by length within 32 batches at a time, and the batches permuted.

    Args:
        lengths: [N], tokens of each row.
        batch_size: rows of a batch; the last one of an epoch may be smaller.

    Returns:
        The positions of the rows of each batch.
    """
    random = np.random.default_rng([seed, epoch])
    rows = random.permutation(len(lengths))
    span = _MEGA_BATCH * batch_size
    batches: list[np.ndarray] = []
    for start in range(0, len(rows), span):
        part = rows[start : start + span]
        batches += chunks(part[np.argsort(-lengths[part], kind="stable")], batch_size)
    return [batches[i] for i in random.permutation(len(batches))]


def longest_first(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """All rows from the longest to the shortest."""
    return chunks(np.argsort(-lengths, kind="stable"), batch_size)


def chunks(rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """The rows in their order, `batch_size` at a time."""
    return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
