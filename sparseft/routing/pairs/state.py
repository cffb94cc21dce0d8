"""Task-aware grades: contexts whose dialogue states are alike should be near.

After OrchestraLLM (Lee et al., NAACL 2024) and the retriever of IC-DST (Hu et al., Findings of
EMNLP 2022): the similarity of two states is the mean of the F1 of their slots and of their
slot-value pairs, and that of two turns compares what they change and the state before.

Legend: N turns, S different slots or slot-value pairs of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from sparseft.errors import ConfigError, DataError
from sparseft.routing.metrics import state_similarity
from sparseft.routing.pairs.grades import Between, Grades
from sparseft.routing.router import Query
from sparseft.routing.states import State, difference
from sparseft.routing.texts import query_of
from sparseft.routing.turns import Context, Turn, dialogues_of

__all__ = ["change_similarity", "gold_grades", "state_grades"]


def change_similarity(a: State, b: State) -> float:
    """The mean of F1 over slots and F1 over slot-value pairs, 0 … 1; 1 where both are empty."""
    slots = 2 * len(a.keys() & b.keys()) / (len(a) + len(b)) if a or b else 1.0
    return (slots + state_similarity(a, b)) / 2


def state_grades(
    queries: Sequence[Query],
    before: Sequence[State],
    changes: Sequence[State],
    *,
    change_weight: float = 0.5,
    facts: Mapping[str, object] | None = None,
) -> Grades:
    """Grades of N contexts.

    Args:
        queries: as a router sees them.
        before: the state before each turn.
        changes: what each turn changes, in gold; it is in the grades alone, not in the texts.
        change_weight: of the changes' similarity; the rest is that of the states before.

    Raises:
        DataError: not as many states as queries, or fewer than two dialogues.
        ConfigError: a weight outside 0 … 1.
    """
    if not len(queries) == len(before) == len(changes):
        raise DataError(
            f"expected a state and a change for each of {len(queries)} queries, got "
            f"{len(before)} and {len(changes)}."
        )
    if not 0 <= change_weight <= 1:
        raise ConfigError(f"expected a change_weight from 0 to 1, got {change_weight}; change it.")
    state, change = _similarity(before), _similarity(changes)

    def between(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return change_weight * change(rows, columns) + (1 - change_weight) * state(rows, columns)

    return Grades(
        tuple(query.text for query in queries),
        tuple(query.group for query in queries),
        between,
        facts={"grades": "state", "change_weight": change_weight, **(facts or {})},
    )


def gold_grades(turns: Sequence[Turn], *, change_weight: float = 0.5) -> Grades:
    """Grades of training dialogues, whose states before each turn are the gold ones.

    Raises:
        DataError, ConfigError: as `state_grades`.
    """
    queries, before, changes = [], [], []
    for own in dialogues_of(turns).values():
        previous: State = {}
        for turn in own:
            context = Context(turn.dialogue, turn.number, turn.system, turn.user, previous)
            queries.append(query_of(context))
            before.append(previous)
            changes.append(difference(previous, turn.state))
            previous = turn.state
    return state_grades(queries, before, changes, change_weight=change_weight)


def _similarity(states: Sequence[State]) -> Between:
    slots = _overlap(states, lambda state: state)
    pairs = _overlap(states, lambda state: state.items())
    return lambda rows, columns: (slots(rows, columns) + pairs(rows, columns)) / 2


def _overlap(states: Sequence[State], items: Callable[[State], Iterable[object]]) -> Between:
    """F1 of sets for any rows, from one matrix of which set holds what, bool [N, S]."""
    number: dict[object, int] = {}
    for state in states:
        for item in items(state):
            number.setdefault(item, len(number))
    holds = np.zeros((len(states), max(1, len(number))), dtype=bool)
    for row, state in enumerate(states):
        holds[row, [number[item] for item in items(state)]] = True
    sizes = holds.sum(axis=1).astype(np.float32)

    def between(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        shared = holds[rows].astype(np.float32) @ holds[columns].astype(np.float32).T
        total = sizes[rows][:, None] + sizes[columns][None, :]
        return np.where(total > 0, 2 * shared / np.maximum(total, 1), np.float32(1))

    return between
