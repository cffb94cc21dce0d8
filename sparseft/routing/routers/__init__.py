"""The routers, each a file's idea."""

from sparseft.routing.routers.classifier import Classifier, SimilarityRanking
from sparseft.routing.routers.neighbours import MajorityVote, WeightedVote
from sparseft.routing.routers.simple import AlwaysLarge, AlwaysSmall, Cascade, Chance, Oracle
from sparseft.routing.routers.verifier import Verifier

__all__ = [
    "AlwaysLarge",
    "AlwaysSmall",
    "Cascade",
    "Chance",
    "Classifier",
    "MajorityVote",
    "Oracle",
    "SimilarityRanking",
    "Verifier",
    "WeightedVote",
]
