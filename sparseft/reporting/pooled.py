"""One comparison over several data sets: the mean over them of paired differences.

Legend: R resamples, S seeds of a data set.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sparseft.errors import ResultError
from sparseft.reporting.statistics import (
    Comparison,
    RowScores,
    holm,
    resampled_values,
    seed_weights,
    two_sided_p,
)

__all__ = ["compare_pooled"]

ByData = Mapping[str, Mapping[int, RowScores]]  # data set -> seed -> scores


def compare_pooled(
    reference: ByData, others: Mapping[str, ByData], resamples: int = 10_000, seed: int = 0
) -> dict[str, Comparison]:
    """Compare each of `others` with `reference` on the mean over data sets.

    Each data set counts alike. One resample draws seeds and test rows anew within every data set,
    for both methods the same ones, as `compare_all` does for one data set; the data sets
    themselves are fixed, so an interval speaks of these data sets, not of others.

    Args:
        reference: the scores of each data set and seed.
        others: for each method the same; only common data sets and seeds count.
        resamples: R; the smallest p that can be found is 2 / (R + 1).
        seed: of the draws.

    Returns:
        For each method with a data set in common: difference is method - reference; `seeds` counts
        the pairs of all data sets.

    Raises:
        ResultError: a method and the reference were tested on different rows.
    """
    means: dict[str, list[np.ndarray]] = {}
    observed: dict[str, list[float]] = {}
    pairs: dict[str, int] = {}
    for data in sorted(reference):
        mine = {name: found[data] for name, found in others.items() if data in found}
        common = {name: sorted(set(s) & set(reference[data])) for name, s in mine.items()}
        common = {name: seeds for name, seeds in common.items() if seeds}
        for name, seeds in common.items():
            for number in seeds:
                if not np.array_equal(mine[name][number].ids, reference[data][number].ids):
                    raise ResultError(
                        f"expected {name} and the reference to be tested on the same rows of "
                        f"{data}, seed {number}, got different test_ids; run both on the same data."
                    )
        values = resampled_values({"": reference[data], **mine}, resamples, seed)
        for name, seeds in common.items():
            differences = np.stack([values[name, s] - values["", s] for s in seeds], axis=1)
            weights = seed_weights(len(seeds), resamples, [seed, *data.encode()])  # [R, S]
            means.setdefault(name, []).append((differences * weights).sum(axis=1))
            observed.setdefault(name, []).append(
                float(np.mean([mine[name][s].value - reference[data][s].value for s in seeds]))
            )
            pairs[name] = pairs.get(name, 0) + len(seeds)
    pooled = {name: np.mean(parts, axis=0) for name, parts in means.items()}  # [R]
    p = {name: two_sided_p(values) for name, values in pooled.items()}
    corrected = holm(p)
    return {
        name: Comparison(
            float(np.mean(observed[name])),
            float(np.percentile(values, 2.5)),
            float(np.percentile(values, 97.5)),
            p[name],
            corrected[name],
            pairs[name],
        )
        for name, values in pooled.items()
    }
