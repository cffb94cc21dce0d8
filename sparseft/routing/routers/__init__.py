"""The routers, each a file's idea."""

from sparseft.routing.routers.classifier import Classifier, SimilarityRanking
from sparseft.routing.routers.neighbours import MajorityVote, WeightedVote
from sparseft.routing.routers.simple import AlwaysLarge, AlwaysSmall, Cascade, Chance, Oracle

__all__ = [
    "AlwaysLarge",
    "AlwaysSmall",
    "Cascade",
    "Chance",
    "Classifier",
    "MajorityVote",
    "Oracle",
    "SimilarityRanking",
    "WeightedVote",
]
