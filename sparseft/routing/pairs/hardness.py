"""Hardness-aware grades: contexts that systems get right equally often should be near.

Which turns are hard is mostly the same for all systems, so a turn's hardness can be learned from
published systems on dialogues that no pool and no test knows; the pool then says what hardness
means for the two models at hand.

Legend: N turns, K systems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparseft.compliance.jsonl import strict_json
from sparseft.errors import DataError
from sparseft.routing.dialogues.multiwoz import SEPARATOR
from sparseft.routing.metrics import turn_exact
from sparseft.routing.pairs.grades import Grades
from sparseft.routing.router import Query
from sparseft.routing.states import State, difference
from sparseft.routing.texts import query_of
from sparseft.routing.turns import Context, Turn, TurnId, dialogues_of

__all__ = ["hardness_grades", "published_hardness", "read_published"]


def hardness_grades(
    queries: Sequence[Query],
    hardness: np.ndarray,
    *,
    facts: Mapping[str, object] | None = None,
) -> Grades:
    """1 minus the difference of two contexts' hardness.

    Args:
        queries: N contexts as a router sees them.
        hardness: float [N] in 0 … 1, the share of systems that get each wrong.

    Raises:
        DataError: not as many values as queries, or one outside 0 … 1.
    """
    values = np.asarray(hardness, dtype=np.float32)
    if values.shape != (len(queries),) or not ((values >= 0) & (values <= 1)).all():
        raise DataError(
            f"expected a hardness from 0 to 1 for each of {len(queries)} queries, got "
            f"{values.shape}; give the share of systems that get each wrong."
        )

    def between(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        found: np.ndarray = 1 - np.abs(values[rows][:, None] - values[columns][None, :])
        return found

    return Grades(
        tuple(query.text for query in queries),
        tuple(query.group for query in queries),
        between,
        facts={"grades": "hardness", **(facts or {})},
    )


def read_published(path: str | Path) -> dict[str, dict[TurnId, State]]:
    """Predicted states by system and turn.

    Args:
        path: a parquet file with system_name, dialogue_id, turn_id and pred_state (a JSON object).

    Raises:
        DataError: the file is missing or damaged, or a state is no object of texts.
    """
    import pyarrow
    import pyarrow.parquet

    columns = ["system_name", "dialogue_id", "turn_id", "pred_state"]
    try:
        rows = pyarrow.parquet.read_table(path, columns=columns).to_pylist()
    except (OSError, pyarrow.ArrowException, KeyError) as error:
        raise DataError(
            f"expected a parquet file of predicted states at {path}, got: {error}; check the path."
        ) from error
    found: dict[str, dict[TurnId, State]] = {}
    for number, row in enumerate(rows):
        state = _state(row["pred_state"], f"row {number} of {path}")
        found.setdefault(row["system_name"], {})[row["dialogue_id"], row["turn_id"]] = state
    return found


def published_hardness(
    turns: Sequence[Turn], states: Mapping[str, Mapping[TurnId, State]]
) -> tuple[list[Query], np.ndarray]:
    """Contexts with the share of systems that get what the turn changes wrong.

    The state before a turn is that of one of the systems, another one from dialogue to dialogue in
    turn, since routers see predicted states, too. A turn without a single system is left out.

    Args:
        turns: with gold.
        states: predicted, by system; a system need not have every turn.

    Returns:
        N queries and their hardness, float64 [N]; values are compared normalised.

    Raises:
        DataError: no system has any of the turns.
    """
    names = sorted(states)
    queries: list[Query] = []
    hardness: list[float] = []
    for place, (_, own) in enumerate(sorted(dialogues_of(turns).items())):
        wrong = np.stack([_wrong(own, states[name]) for name in names])  # [K, turns]
        shown = states[names[place % len(names)]]
        previous: State = {}
        for number, turn in enumerate(own):
            known = wrong[:, number][~np.isnan(wrong[:, number])]
            if known.size:
                context = Context(turn.dialogue, turn.number, turn.system, turn.user, previous)
                queries.append(query_of(context))
                hardness.append(float(known.mean()))
            previous = shown.get(turn.id, previous)
    if not queries:
        raise DataError(
            f"expected predictions of the {len(turns)} turns, got none by {len(names)} systems; "
            "align the files by dialogue and turn."
        )
    return queries, np.array(hardness)


def _wrong(turns: Sequence[Turn], states: Mapping[TurnId, State]) -> np.ndarray:
    """Whether a system errs in what each turn changes, 0, 1 or nan where it is not known."""
    deltas: dict[TurnId, State] = {}
    known = np.zeros(len(turns), dtype=bool)
    before: State | None = {}
    for place, turn in enumerate(turns):
        after = states.get(turn.id)
        known[place] = after is not None and before is not None
        deltas[turn.id] = difference(before or {}, after or {}) if known[place] else {}
        before = after
    right = turn_exact(turns, deltas, normalise=True, separator=SEPARATOR).right
    return np.where(known, ~right, np.nan)


def _state(text: Any, where: str) -> State:
    try:
        value = strict_json(str(text).encode(), "a state in JSON")
    except (DataError, ValueError) as error:
        raise DataError(f"{error} It is in {where}.") from error
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise DataError(f"expected a state of texts in {where}, got {text!r}; correct it.")
    return value
