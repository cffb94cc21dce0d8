"""Turns of task-oriented dialogues: what is known of them, and what may be seen of them.

A `Turn` carries the gold; a `Context` is all that experts and routers ever get, and has no field
that gold could be put in: its previous state is the *predicted* one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparseft.routing.states import State

__all__ = ["Context", "Turn", "TurnId", "dialogues_of"]

TurnId = tuple[str, int]  # dialogue, number of the user's turn from 0


@dataclass(frozen=True)
class Turn:
    """One user turn with its gold.

    Attributes:
        dialogue: the dialogue's id.
        number: of the user's turn, from 0.
        system: the system's utterance before it; empty at turn 0.
        user: the user's utterance.
        state: the gold belief state after the turn.
        delta: what the turn changed of it.
        domains: the domains (or services) of the turn.
    """

    dialogue: str
    number: int
    system: str
    user: str
    state: State
    delta: State
    domains: tuple[str, ...] = ()

    @property
    def id(self) -> TurnId:
        """Dialogue and number."""
        return self.dialogue, self.number


@dataclass(frozen=True)
class Context:
    """What is seen of a turn when it is routed and answered.

    Attributes:
        dialogue, number, system, user: as in `Turn`.
        previous: the state predicted so far, by whichever experts answered.
        history: the earlier (system, user) utterances of the dialogue, oldest first.
    """

    dialogue: str
    number: int
    system: str
    user: str
    previous: State
    history: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> TurnId:
        """Dialogue and number."""
        return self.dialogue, self.number


def dialogues_of(turns: Sequence[Turn]) -> dict[str, list[Turn]]:
    """Turns by dialogue in order of their numbers; dialogues in order of appearance."""
    found: dict[str, list[Turn]] = {}
    for turn in turns:
        found.setdefault(turn.dialogue, []).append(turn)
    return {name: sorted(rows, key=lambda turn: turn.number) for name, rows in found.items()}
