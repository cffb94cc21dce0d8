"""A router's curve: quality against cost and against the share of large calls.

Definitions: PGR, APGR and CPT are RouteLLM's (Ong et al. 2024), AIQ is RouterBench's (Hu et al.
2024), between the small model's cost and the large model's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Ends", "Point", "aiq", "apgr", "cpt", "gap_closed"]


@dataclass(frozen=True)
class Point:
    """One threshold: the share of queries that the large model answers, cost and quality."""

    share: float
    cost: float
    quality: float


@dataclass(frozen=True)
class Ends:
    """The two models alone, and the oracle's quality where it is known."""

    small: Point
    large: Point
    oracle: float | None = None


def aiq(points: Sequence[Point], ends: Ends) -> float:
    """Average improvement in quality: the mean height of the hull between the two ends' costs.

    The hull is the least concave, non-decreasing function over the points and the small model
    alone; from its last point on it is flat. Points dearer than the large model alone count where
    they are cheaper by mixing, and not beyond. nan where both ends cost the same.
    """
    low, high = ends.small.cost, ends.large.cost
    if not high > low:
        return math.nan
    chain = _hull([(ends.small.cost, ends.small.quality), *((p.cost, p.quality) for p in points)])
    costs, heights = np.array(chain).T
    grid = np.unique(np.clip(np.concatenate([costs, [low, high]]), low, high))
    return float(np.trapezoid(np.interp(grid, costs, heights), grid) / (high - low))


def apgr(points: Sequence[Point], ends: Ends) -> float:
    """Average performance gap recovered, over the share of large calls from 0 to 1.

    nan where the large model is not better than the small: the gap would be divided by nothing.
    """
    gap = ends.large.quality - ends.small.quality
    if gap <= 0:
        return math.nan
    shares, heights = _by_share(points, ends)
    return float(np.trapezoid((heights - ends.small.quality) / gap, shares))


def cpt(points: Sequence[Point], ends: Ends, target: float) -> float:
    """Call-performance threshold: the least share of large calls that recovers `target` of the gap.

    nan where the large model is not better than the small.
    """
    gap = ends.large.quality - ends.small.quality
    if gap <= 0:
        return math.nan
    shares, heights = _by_share(points, ends)
    wanted = ends.small.quality + target * gap
    for position, height in enumerate(heights):
        if height >= wanted:
            if position == 0:
                return float(shares[0])
            before, rise = heights[position - 1], height - heights[position - 1]
            step = shares[position] - shares[position - 1]
            return float(shares[position - 1] + step * (wanted - before) / rise)
    return 1.0


def gap_closed(quality: float, ends: Ends) -> float:
    """The share of the way from the better model alone to the oracle; nan without an oracle."""
    best = max(ends.small.quality, ends.large.quality)
    if ends.oracle is None or ends.oracle <= best:
        return math.nan
    return (quality - best) / (ends.oracle - best)


def _by_share(points: Sequence[Point], ends: Ends) -> tuple[np.ndarray, np.ndarray]:
    inner = sorted((p.share, p.quality) for p in points if 0 < p.share < 1)
    rows = [(0.0, ends.small.quality), *inner, (1.0, ends.large.quality)]
    shares, heights = np.array(rows).T
    return shares, heights


def _hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The upper concave chain that never falls, by rising cost."""
    best: dict[float, float] = {}
    for cost, quality in points:
        best[cost] = max(quality, best.get(cost, -math.inf))
    chain: list[tuple[float, float]] = []
    for cost, quality in sorted(best.items()):
        if chain and quality <= chain[-1][1]:
            continue
        while len(chain) > 1 and _turns_up(chain[-2], chain[-1], (cost, quality)):
            chain.pop()
        chain.append((cost, quality))
    return chain


def _turns_up(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[1] - a[1]) * (c[0] - b[0]) <= (c[1] - b[1]) * (b[0] - a[0])
