"""Intervals of proportions, and the bootstrap by transcript.

Legend: R resamples, T transcripts, N rows (a transcript's record of one run), C columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseft.compliance.transcript import Json
from sparseft.errors import ConfigError

__all__ = ["Resampled", "Sheet", "clopper_pearson", "proportion", "two_sided_p", "wilson"]

Array = NDArray[np.float64]
Statistic = Callable[[Mapping[str, Array]], Array]

_Z95 = 1.959963984540054
_CHUNK_ELEMENTS = 4_000_000  # drawn places held at once: about 32 MB


def wilson(successes: float, total: float, z: float = _Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (JASA 22, 1927); 95% by default.

    Unlike the bootstrap's it is no point at 0 and at 1. Counts may be means over runs.

    Raises:
        ConfigError: not 0 <= successes <= total.
    """
    _check_counts(successes, total)
    if total == 0:
        return 0.0, 1.0
    rate, spread = successes / total, z * z / total
    centre = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(rate * (1 - rate) / total + spread / (4 * total))
    # At the ends the sum misses 0 and 1 by rounding.
    low = 0.0 if successes == 0 else max(0.0, min(centre - half, rate))
    high = 1.0 if successes == total else min(1.0, max(centre + half, rate))
    return low, high


def clopper_pearson(
    successes: float, total: float, confidence: float = 0.95
) -> tuple[float, float]:
    """The exact interval of a proportion (Biometrika 26, 1934): it covers at least `confidence`.

    Raises:
        ConfigError: not 0 <= successes <= total.
    """
    _check_counts(successes, total)
    tail = (1 - confidence) / 2
    low, high = 0.0, 1.0
    if successes > 0:
        low = _beta_quantile(tail, successes, total - successes + 1)
    if successes < total:
        high = _beta_quantile(1 - tail, successes + 1, total - successes)
    return low, high


def proportion(successes: float, total: float, runs: int = 1) -> dict[str, Json]:
    """Plain data of a proportion: value, Wilson's low and high, count and total.

    Args:
        runs: over which both were added up. The interval takes their means, as if every transcript
            had been judged once: several runs on it are no new evidence of other transcripts.
    """
    low, high = wilson(successes / runs, total / runs)
    return {
        "value": successes / total if total else None,
        "low": low if total else None,
        "high": high if total else None,
        "count": int(successes),
        "total": int(total),
    }


def two_sided_p(differences: Array) -> float:
    """Twice the smaller share of resampled differences [R] on either side of 0, at most 1."""
    # The observed sample counts as one resample, so p is never 0; rounding noise is a tie.
    below = int((differences <= 1e-12).sum()) + 1
    above = int((differences >= -1e-12).sum()) + 1
    return min(1.0, 2.0 * min(below, above) / (len(differences) + 1))


class Sheet:
    """Columns whose sums give every metric; transcripts are drawn once for all of them."""

    def __init__(self) -> None:
        self._columns: dict[str, Array] = {}

    def add(
        self, name: str, values: NDArray[Any], cluster: NDArray[np.int64], base: float = 1.0
    ) -> None:
        """A column of one value for each row, divided by `base`.

        Args:
            values: [N].
            cluster: [N], the transcript of each row, from 0 to T - 1; all rows of a transcript are
                drawn together.
        """
        summed = np.bincount(cluster, weights=np.asarray(values, dtype=np.float64))
        self._columns[name] = summed / base  # [T]

    def resample(self, resamples: int, seed: int) -> Resampled:
        """Sums of all columns over all transcripts, and over `resamples` draws with replacement."""
        names = list(self._columns)
        table = np.stack([self._columns[name] for name in names], axis=1)  # [T, C]
        count = len(table)
        generator = np.random.default_rng([seed, count])
        parts, done = [], 0
        while done < resamples:
            size = min(resamples - done, max(1, _CHUNK_ELEMENTS // count))
            drawn = generator.integers(0, count, size=(size, count))
            drawn += np.arange(size)[:, None] * count
            counts = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
            parts.append(counts.astype(np.float64) @ table)
            done += size
        sums = np.concatenate(parts) if parts else np.zeros((0, len(names)))  # [R, C]
        return Resampled(
            {name: table[:, place].sum(keepdims=True) for place, name in enumerate(names)},
            {name: sums[:, place] for place, name in enumerate(names)},
        )


@dataclass(frozen=True)
class Resampled:
    """Sums by column: over all transcripts [1], and over each resample [R]."""

    totals: Mapping[str, Array]
    samples: Mapping[str, Array]

    def value(self, statistic: Statistic) -> float:
        """The statistic of all transcripts; NaN where it is not defined."""
        return float(statistic(self.totals)[0])

    def draws(self, statistic: Statistic) -> Array:
        """The statistic of the resamples where it is defined, at most [R]."""
        found = np.asarray(statistic(self.samples), dtype=np.float64)
        return found[np.isfinite(found)]

    def estimate(self, statistic: Statistic) -> dict[str, Json]:
        """Plain data: value, and the 2.5th and 97.5th percentile as low and high."""
        value, drawn = self.value(statistic), self.draws(statistic)
        if not math.isfinite(value):
            return {"value": None, "low": None, "high": None}
        if not len(drawn):
            return {"value": value, "low": None, "high": None}
        low, high = np.percentile(drawn, [2.5, 97.5])
        return {"value": value, "low": float(low), "high": float(high)}

    def difference(self, statistic: Statistic) -> dict[str, Json]:
        """`estimate` of a difference, with its two-sided p."""
        drawn = self.draws(statistic)
        found = self.estimate(statistic)
        return {**found, "p": two_sided_p(drawn) if found["low"] is not None else None}


def _check_counts(successes: float, total: float) -> None:
    if not 0 <= successes <= total:
        raise ConfigError(
            f"expected 0 <= successes <= total, got {successes} of {total}; change them."
        )


def _beta_quantile(share: float, a: float, b: float) -> float:
    """Where the beta distribution's cumulative share is `share`, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        if _beta_cumulative(middle, a, b) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta_cumulative(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function (DLMF 8.17.22), by Lentz's continued fraction."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta_cumulative(1.0 - x, b, a)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(logarithm + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    fraction, upper, lower = 1.0, 1.0, 0.0
    for place in range(1, 2000):
        m, odd = divmod(place - 1, 2)
        if place == 1:
            term = 1.0
        elif not odd:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        lower = 1.0 / (1.0 + term * lower or tiny)
        upper = 1.0 + term / upper or tiny
        fraction *= upper * lower
        if place > 1 and abs(upper * lower - 1.0) < 1e-15:
            break
    return front * (fraction - 1.0)
