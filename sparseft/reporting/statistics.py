"""Paired comparisons over seeds and test rows, and the correction for making many of them.

Legend: R resamples, N test rows, S seeds, C columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseft.errors import ResultError

__all__ = [
    "Comparison",
    "RowScores",
    "compare_all",
    "holm",
    "mean_and_sd",
    "resampled_values",
    "seed_weights",
    "two_sided_p",
]

_CHUNK_ELEMENTS = 4_000_000  # resampled row numbers held at once: about 64 MB


@dataclass(frozen=True)
class RowScores:
    """The parts of a metric that is a ratio of sums over test rows.

    Accuracy is correct / 1; micro-F1 is 2 tp / (2 tp + fp + fn).

    Attributes:
        ids: int64 [N], which test rows these are; ascending.
        numerator: float64 [N].
        denominator: float64 [N].
    """

    ids: NDArray[np.int64]
    numerator: NDArray[np.float64]
    denominator: NDArray[np.float64]

    @classmethod
    def of(cls, ids: NDArray[Any], labels: NDArray[Any], predictions: NDArray[Any]) -> RowScores:
        """Scores of class indices [N] (accuracy) or of multi-hot rows [N, labels] (micro-F1).

        Raises:
            ResultError: the shapes do not fit together, or an id occurs twice.
        """
        ids, labels, predictions = np.asarray(ids), np.asarray(labels), np.asarray(predictions)
        fits = ids.ndim == 1 and labels.shape == predictions.shape and labels.ndim in (1, 2)
        if not fits or len(ids) != len(labels) or len(ids) == 0:
            raise ResultError(
                "expected test_ids [rows] with test_labels and test_predictions of one shape, got "
                f"{ids.shape}, {labels.shape} and {predictions.shape}; run it again."
            )
        order = np.argsort(ids, kind="stable")
        ids = ids[order].astype(np.int64)
        if np.any(ids[1:] == ids[:-1]):
            raise ResultError("expected every test id once, got one twice; run it again.")
        labels, predictions = labels[order], predictions[order]
        if labels.ndim == 1:
            correct = (labels == predictions).astype(np.float64)
            return cls(ids, correct, np.ones_like(correct))
        truth, guess = labels.astype(bool), predictions.astype(bool)
        twice_hits = 2.0 * (truth & guess).sum(axis=1)
        return cls(ids, twice_hits, truth.sum(axis=1) + guess.sum(axis=1).astype(np.float64))

    @property
    def value(self) -> float:
        """The metric over all rows; 0 where nothing was there to find and nothing was found."""
        total = float(self.denominator.sum())
        return float(self.numerator.sum()) / total if total else 0.0


@dataclass(frozen=True)
class Comparison:
    """How far one method's mean lies from the reference's, on the same seeds and rows.

    Attributes:
        difference: method − reference, as a share (0.01 is one point).
        low: lower end of the 95% interval.
        high: upper end of it.
        p: two-sided, not corrected.
        p_holm: corrected over the methods compared with it.
        seeds: how many seeds both have.
    """

    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    seeds: int


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and the sample standard deviation (n − 1); None for the latter of one value."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if array.size > 1 else None


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979), at most 1."""
    ordered = sorted(p_values, key=lambda name: (p_values[name], name))
    corrected: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(ordered):
        highest = max(highest, min(1.0, (len(ordered) - rank) * p_values[name]))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}


def compare_all(
    reference: Mapping[int, RowScores],
    others: Mapping[str, Mapping[int, RowScores]],
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Compare each of `others` with `reference` by a paired bootstrap over seeds and test rows.

    One resample draws seeds with replacement and test rows with replacement, for both methods the
    same ones. Seeds that were tested on the same rows share one draw of rows (a row that is hard is
    hard for all of them); seeds with rows of their own get their own draw. The interval holds the
    2.5th to 97.5th percentile; p is twice the smaller share of resamples on either side of 0.

    Args:
        reference: the scores of each seed.
        others: for each method, the scores of each seed. Methods without a common seed are left
            out of the answer.
        resamples: R; the smallest p that can be found is 2 / (R + 1).
        seed: of the draws. The answer depends on nothing else: not on the order of the methods.

    Raises:
        ResultError: a method and the reference were tested on different rows for one seed.
    """
    common = {
        name: sorted(set(scores) & set(reference))
        for name, scores in others.items()
        if set(scores) & set(reference)
    }
    for name, seeds in common.items():
        for number in seeds:
            if not np.array_equal(others[name][number].ids, reference[number].ids):
                raise ResultError(
                    f"expected {name} and the reference to be tested on the same rows for seed "
                    f"{number}, got different test_ids; run both on the same data."
                )
    resampled = resampled_values({"": reference, **others}, resamples, seed)
    compared: dict[str, Comparison] = {}
    for name, seeds in common.items():
        observed = np.mean([others[name][s].value - reference[s].value for s in seeds])
        differences = np.stack(
            [resampled[name, s] - resampled["", s] for s in seeds], axis=1
        )  # [R, S]
        weights = seed_weights(len(seeds), resamples, seed)  # [R, S]
        means = (differences * weights).sum(axis=1)  # [R]
        low, high = np.percentile(means, [2.5, 97.5])
        compared[name] = Comparison(
            difference=float(observed),
            low=float(low),
            high=float(high),
            p=two_sided_p(means),
            p_holm=1.0,
            seeds=len(seeds),
        )
    corrected = holm({name: found.p for name, found in compared.items()})
    return {
        name: Comparison(**{**vars(found), "p_holm": corrected[name]})
        for name, found in compared.items()
    }


def two_sided_p(means: NDArray[np.float64]) -> float:
    """Twice the smaller share of resampled means [R] on either side of 0, at most 1."""
    # The observed sample counts as one resample, so p is never 0; rounding noise counts as a tie.
    below = int((means <= 1e-12).sum()) + 1
    above = int((means >= -1e-12).sum()) + 1
    return min(1.0, 2.0 * min(below, above) / (len(means) + 1))


def seed_weights(seeds: int, resamples: int, seed: int | Sequence[int]) -> NDArray[np.float64]:
    """How much each of S seeds counts in each resample: [R, S], rows that add up to 1."""
    generator = np.random.default_rng([*([seed] if isinstance(seed, int) else seed), 1])
    return generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds


def resampled_values(
    methods: Mapping[str, Mapping[int, RowScores]], resamples: int, seed: int
) -> dict[tuple[str, int], NDArray[np.float64]]:
    """The metric [R] of each method and seed under row draws that equal row sets share."""
    by_rows: dict[bytes, list[tuple[str, int]]] = {}
    for name, scores in methods.items():
        for number, score in scores.items():
            key = hashlib.sha256(score.ids.tobytes()).digest()
            by_rows.setdefault(key, []).append((name, number))
    values: dict[tuple[str, int], NDArray[np.float64]] = {}
    for key, members in by_rows.items():
        scores_of = [methods[name][number] for name, number in members]
        # A draw belongs to its row set, so that adding a method or a seed changes no other's.
        generator = np.random.default_rng([seed, 2, int.from_bytes(key[:8], "little")])
        columns = np.stack(
            [part for score in scores_of for part in (score.numerator, score.denominator)], axis=1
        )  # [N, C], C = 2 x members
        totals = np.concatenate(
            [counts @ columns for counts in _row_counts(len(columns), resamples, generator)]
        )  # [R, C]
        for place, member in enumerate(members):
            numerator, denominator = totals[:, 2 * place], totals[:, 2 * place + 1]
            values[member] = np.divide(
                numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0
            )
    return values


def _row_counts(
    rows: int, resamples: int, generator: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """How often each of `rows` rows was drawn, [some, rows] at a time, `resamples` in all."""
    done = 0
    while done < resamples:
        size = min(resamples - done, max(1, _CHUNK_ELEMENTS // rows))
        drawn = generator.integers(0, rows, size=(size, rows))
        drawn += np.arange(size)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(float)
        done += size
