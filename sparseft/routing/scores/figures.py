"""What is read off the curves of all routers of one pair, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparseft.routing.scores.bootstrap import Measured, interval, points_of
from sparseft.routing.scores.curve import Ends, Point, aiq, apgr, cpt, gap_closed

__all__ = ["RouterFigures", "ends_of", "figures_of"]


@dataclass(frozen=True)
class RouterFigures:
    """One router's.

    Attributes:
        aiq, apgr, cpt50, cpt80: of the whole curve, see `sparseft.routing.scores.curve`.
        share, quality: at the wanted budget.
        cost: there, as a share of the large model's alone.
        above_large: quality there minus the large model's alone.
        gap_closed: of the way from the better model alone to the oracle, there.
        aiq_interval, above_interval: 95%, bootstrap by dialogue.
        points: one a rate.
    """

    router: str
    aiq: float
    aiq_interval: tuple[float, float]
    apgr: float
    cpt50: float
    cpt80: float
    share: float
    quality: float
    cost: float
    above_large: float
    above_interval: tuple[float, float]
    gap_closed: float
    points: tuple[Point, ...]


def ends_of(ends: Mapping[str, Measured], weights: np.ndarray | None = None) -> Ends:
    """Small alone, large alone and the oracle, by those names."""
    small, large = (points_of(ends[name], weights)[0] for name in ("small alone", "large alone"))
    return Ends(small, large, points_of(ends["oracle"], weights)[0].quality)


def figures_of(
    curves: Mapping[str, Measured],
    ends: Mapping[str, Measured],
    budget: int,
    weights: np.ndarray,
) -> list[RouterFigures]:
    """Figures of each router, in order.

    Args:
        curves: by router.
        ends: see `ends_of`.
        budget: the number of the rate that is read off.
        weights: of `resample`.
    """
    small, large = ends["small alone"], ends["large alone"]
    known = ends_of(ends)

    def above(found: Sequence[list[Point]], own: Ends) -> float:
        return found[0][budget].quality - own.large.quality

    def area(found: Sequence[list[Point]], own: Ends) -> float:
        return aiq(found[0], own)

    rows = []
    for name, measured in curves.items():
        points = points_of(measured)
        half = points[budget]
        rows.append(
            RouterFigures(
                name,
                aiq(points, known),
                interval([measured], small, large, area, weights),
                apgr(points, known),
                cpt(points, known, 0.5),
                cpt(points, known, 0.8),
                half.share,
                half.quality,
                half.cost / known.large.cost,
                half.quality - known.large.quality,
                interval([measured], small, large, above, weights),
                gap_closed(half.quality, known),
                tuple(points),
            )
        )
    return rows
