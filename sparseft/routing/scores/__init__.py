"""Quality against cost: curves, what is read off them, and intervals."""

from sparseft.routing.scores.bootstrap import Measured, interval, points_of, resample
from sparseft.routing.scores.curve import Ends, Point, aiq, apgr, cpt, gap_closed

__all__ = [
    "Ends",
    "Measured",
    "Point",
    "aiq",
    "apgr",
    "cpt",
    "gap_closed",
    "interval",
    "points_of",
    "resample",
]
