"""The area under a curve, and how far a saliency's areas lie from random orders'.

Legend: N texts, P + 1 points, R random orders, D resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparseft.errors import ConfigError

__all__ = ["Comparison", "against_random", "area"]

_CHUNK_ELEMENTS = 4_000_000  # drawn counts held at once: about 32 MB


@dataclass(frozen=True)
class Comparison:
    """Mean areas, and their difference with its 95% interval.

    Attributes:
        mean: of the saliency.
        random: of the random orders.
        difference: mean - random.
        low: lower end of the interval of the difference.
        high: upper end of it.
    """

    mean: float
    random: float
    difference: float
    low: float
    high: float


def area(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """The area under curves [N, P + 1] of equal steps from 0 to 1, by trapezoids: [N]."""
    middle = (curves[:, 1:] + curves[:, :-1]) / 2
    return np.asarray(middle.mean(axis=1), dtype=np.float64)


def against_random(
    areas: NDArray[np.float64],
    random: NDArray[np.float64],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Paired bootstrap: a resample draws texts and random orders anew, for both the same texts.

    Args:
        areas: of the saliency, [N].
        random: of the random orders, [R, N].
        resamples: D; the interval holds their 2.5th to 97.5th percentile.
        seed: of the draws.

    Raises:
        ConfigError: shapes that do not fit together, no text, or no resample.
    """
    if random.ndim != 2 or random.shape[1:] != areas.shape or not random.size or resamples < 1:
        raise ConfigError(
            "expected areas [texts] and [orders, texts] of at least one text and order, and a "
            f"resample or more, got {areas.shape}, {random.shape} and {resamples}; correct them."
        )
    orders, texts = random.shape
    generator = np.random.default_rng(seed)
    size = max(1, _CHUNK_ELEMENTS // texts)
    differences = []
    for first in range(0, resamples, size):
        drawn = min(size, resamples - first)
        of_text = generator.multinomial(texts, np.full(texts, 1 / texts), drawn) / texts
        of_order = generator.multinomial(orders, np.full(orders, 1 / orders), drawn) / orders
        differences.append(of_text @ areas - (of_text * (of_order @ random)).sum(1))
    low, high = np.percentile(np.concatenate(differences), [2.5, 97.5])
    mean, other = float(areas.mean()), float(random.mean())
    return Comparison(mean, other, mean - other, float(low), float(high))
