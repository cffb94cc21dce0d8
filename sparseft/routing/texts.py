"""What of a dialogue turn is embedded: the state so far and the last exchange."""

from __future__ import annotations

from sparseft.routing.expert import Prediction
from sparseft.routing.router import Query
from sparseft.routing.states import State
from sparseft.routing.turns import Context

__all__ = ["query_of", "state_text"]


def state_text(state: State) -> str:
    """A state as words, slots in order of their names."""
    return ", ".join(f"{slot.replace('-', ' ')} {state[slot]}" for slot in sorted(state))


def query_of(context: Context, said: Prediction | None = None) -> Query:
    """A context as routers see it (OrchestraLLM's input: previous state, agent, user).

    Args:
        said: the small model's answer, where a router needs it.
    """
    parts = (
        f"[state] {state_text(context.previous)}" if context.previous else "",
        f"[system] {context.system}" if context.system else "",
        f"[user] {context.user}",
    )
    name = f"{context.dialogue}/{context.number}"
    text = " ".join(filter(None, parts))
    if said is None:
        return Query(name, text, context.dialogue)
    return Query(name, text, context.dialogue, said.score, state_text(said.delta))
