"""Quality against cost: curves, what is read off them, and intervals."""

from sparseft.routing.scores.bootstrap import Measured, interval, points_of, resample
from sparseft.routing.scores.curve import Ends, Point, aiq, apgr, cpt, gap_closed
from sparseft.routing.scores.figures import RouterFigures, ends_of, figures_of

__all__ = [
    "Ends",
    "Measured",
    "Point",
    "RouterFigures",
    "aiq",
    "apgr",
    "cpt",
    "ends_of",
    "figures_of",
    "gap_closed",
    "interval",
    "points_of",
    "resample",
]
