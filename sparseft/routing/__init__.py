"""Routing each turn to a small or a large model: experts, pools, retrievers, routers, scores."""

from sparseft.routing.expert import Expert, Prediction
from sparseft.routing.router import Query, Router
from sparseft.routing.states import DELETE, State, applied, difference
from sparseft.routing.turns import Context, Turn, TurnId, dialogues_of

__all__ = [
    "DELETE",
    "Context",
    "Expert",
    "Prediction",
    "Query",
    "Router",
    "State",
    "Turn",
    "TurnId",
    "applied",
    "dialogues_of",
    "difference",
]
