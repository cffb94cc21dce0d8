"""Seeded draws of rows: stratified shares, few-shot subsets, and validation splits.

Every draw names its own stream of random numbers, so adding one draw never changes another, and
every result is a sorted array of positions.
"""

from __future__ import annotations

import numpy as np

from sparseft.errors import ConfigError, DataError

__all__ = ["generator", "shots", "shots_multi_label", "strata_of", "stratified"]

_STREAMS = {"train": 1, "validation": 2, "validation_rows": 3, "test_rows": 4}


def generator(seed: int, stream: str) -> np.random.Generator:
    """The random numbers of one draw.

    Raises:
        ConfigError: the seed is negative.
    """
    if seed < 0:
        raise ConfigError(f"expected a seed of 0 or greater, got {seed}; change the seed.")
    return np.random.default_rng([seed, _STREAMS[stream]])


def strata_of(labels: np.ndarray) -> np.ndarray:
    """One class for each row, int64 [rows], to stratify by.

    Of several labels it is the rarest one of the row, for the common ones come along by themselves;
    a row without any label has the class -1.
    """
    if labels.ndim == 1:
        return labels
    counts = labels.sum(axis=0, dtype=np.int64)
    frequency = np.where(labels > 0, counts[None, :], np.iinfo(np.int64).max)
    return np.where(labels.any(axis=1), frequency.argmin(axis=1), -1)


def _allocate(sizes: np.ndarray, count: int, least: int, keep: int) -> np.ndarray:
    """How many of `count` draws each stratum gets, by largest remainder."""
    most = np.maximum(sizes - keep, 0)
    quota = count * sizes / sizes.sum()
    given = np.clip(np.floor(quota).astype(np.int64), np.minimum(least, most), most)
    while given.sum() < count and (given < most).any():
        given[np.where(given < most, quota - given, -np.inf).argmax()] += 1
    while given.sum() > count and (given > np.minimum(least, most)).any():
        given[np.where(given > np.minimum(least, most), given - quota, -np.inf).argmax()] -= 1
    return given


def stratified(
    strata: np.ndarray, count: int, random: np.random.Generator, *, least: int = 0, keep: int = 0
) -> np.ndarray:
    """Positions of `count` rows with the class shares of all rows, sorted, int64 [count].

    Args:
        strata: the class of each row, int64 [rows].
        least: draw at least so many rows of each class (where it has them).
        keep: leave at least so many rows of each class undrawn; fewer than `count` rows are drawn
            where that forbids more.
    """
    if len(strata) == 0:
        return np.zeros(0, np.int64)
    classes, sizes = np.unique(strata, return_counts=True)
    given = _allocate(sizes, count, least, keep)
    drawn = [
        random.permutation(np.flatnonzero(strata == c))[:n]
        for c, n in zip(classes, given, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def shots(labels: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Positions of `count` rows of each class, all of a class that has fewer; sorted.

    With the same seed a larger `count` only adds rows.
    """
    drawn = [random.permutation(np.flatnonzero(labels == c))[:count] for c in np.unique(labels)]
    return np.sort(np.concatenate(drawn))


def shots_multi_label(labels: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Positions of rows such that each label occurs `count` times where it does at all; sorted.

    Labels are filled from the rarest to the commonest; a row counts for all its labels, so common
    labels can occur more often than `count`.

    Args:
        labels: uint8 [rows, labels].

    Raises:
        DataError: no row has a label.
    """
    if not labels.any():
        raise DataError("expected rows with labels to draw from, got none; check the label column.")
    chosen = np.zeros(len(labels), bool)
    for label in np.argsort(labels.sum(axis=0, dtype=np.int64), kind="stable"):
        candidates = random.permutation(np.flatnonzero(labels[:, label]))
        missing = count - int(chosen[candidates].sum())
        if missing > 0:
            chosen[candidates[~chosen[candidates]][:missing]] = True
    return np.flatnonzero(chosen)
