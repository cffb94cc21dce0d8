"""Experts: whatever reads a turn and says how it changes the dialogue's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from sparseft.routing.states import State
from sparseft.routing.turns import Context

__all__ = ["Expert", "Prediction"]


@dataclass(frozen=True)
class Prediction:
    """An expert's answer to one turn.

    Attributes:
        delta: what the turn changes of the state; empty where the expert failed.
        score: mean log-probability of the answer's tokens, or another confidence that grows with
            certainty; None where the expert gives none.
        prompt_tokens, answer_tokens: as counted by the expert's tokenizer; 0 where unknown.
        seconds: of the call; 0 where unknown.
        price: of the call, in the currency of the expert's prices.
        problem: why there is no answer; empty where there is one.
        notes: further facts for the record.
    """

    delta: State
    score: float | None = None
    prompt_tokens: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0
    price: float = 0.0
    problem: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Expert(Protocol):
    """Reads turns.

    Attributes:
        name: of the expert, for records.
        trained_on: ids of the dialogues that it was trained on; pools refuse them.
    """

    name: str
    trained_on: frozenset[str]

    def predict(self, contexts: Sequence[Context]) -> list[Prediction]:
        """One prediction a context, in order.

        A failed call is a `Prediction` with a `problem`, never an exception.
        """
        ...
