"""Routers: who gets a query, the small model or the large one.

A router knows nothing of dialogues: it sees texts, and where there is one the small model's own
confidence. So the same routers serve turns, classified texts and compliance records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

__all__ = ["Query", "Router"]


@dataclass(frozen=True)
class Query:
    """What a router sees.

    Attributes:
        id: unique among the queries of one run.
        text: what the retriever embeds.
        group: what is drawn together in a bootstrap and split together into pools: a dialogue, or
            the query itself.
        confidence: the small model's, higher is surer; None unless the router `needs_confidence`,
            or where the model gives none.
        answer: what the small model said, as text; None unless the router `needs_confidence`.
    """

    id: str
    text: str
    group: str
    confidence: float | None = None
    answer: str | None = None


@runtime_checkable
class Router(Protocol):
    """Says how much the large model is wanted.

    Attributes:
        name: of the router, for records.
        needs_confidence: whether the small model must have answered before (a cascade), so that
            its call is paid for even where the large model answers.
    """

    name: str
    needs_confidence: bool

    def scores(self, queries: Sequence[Query]) -> np.ndarray:
        """How much each query wants the large model, float64 [N]; any scale, higher is more.

        A query goes to the large model where its score is at least the threshold.
        """
        ...
