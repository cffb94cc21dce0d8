"""The bootstrap by dialogue of everything that is read off a router's curve.

Legend: K thresholds, N turns, G dialogues, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sparseft.routing.scores.curve import Ends, Point

__all__ = ["Measured", "interval", "points_of", "resample"]


@dataclass(frozen=True)
class Measured:
    """One router's runs, a row for each threshold, or a model alone, in one row.

    Attributes:
        right: bool [K, N], by whichever metric.
        large: bool [K, N].
        cost: float64 [K, N].
    """

    right: np.ndarray
    large: np.ndarray
    cost: np.ndarray


def resample(groups: Sequence[str], resamples: int, seed: int) -> np.ndarray:
    """How often each turn counts in each resample, float64 [R, N]; dialogues are drawn whole."""
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    found: np.ndarray = drawn[:, place].astype(np.float64)
    return found


def points_of(measured: Measured, weights: np.ndarray | None = None) -> list[Point]:
    """The curve's points, weighed by turn [N]; None: all alike."""
    count = measured.right.shape[1]
    own = np.full(count, 1 / count) if weights is None else weights / weights.sum()
    shares, costs = measured.large @ own, measured.cost @ own
    return [
        Point(float(share), float(cost), float(quality))
        for share, cost, quality in zip(shares, costs, measured.right @ own, strict=True)
    ]


def interval(
    measured: Sequence[Measured],
    small: Measured,
    large: Measured,
    figure: Callable[[Sequence[list[Point]], Ends], float],
    weights: np.ndarray,
) -> tuple[float, float]:
    """The 95% percentile interval of a figure of one router's curve, or of several paired ones.

    Args:
        figure: of the routers' points and the ends; nan in a resample leaves it out.
        weights: see `resample`.
    """
    found = []
    for own in weights:
        ends = Ends(points_of(small, own)[0], points_of(large, own)[0])
        found.append(figure([points_of(each, own) for each in measured], ends))
    values = np.array(found)
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
