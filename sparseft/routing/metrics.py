"""Scores of dialogue state tracking over turns with gold.

`turn_exact` is the turn-level belief's accuracy (TLB, as in OrchestraLLM: Lee et al., NAACL 2024),
`state_exact` the joint goal accuracy (JGA: Henderson et al., SIGDIAL 2014). Both compare values
as they are written, or normalised by `sparseft.routing.values`; a result says which.
`joint_goal_accuracy` is SGD's own, after the official evaluation: google-research/google-research,
schema_guided_dst/metrics.py and evaluate.py.

Several accepted values of a gold slot stand in one text, joined by a separator that is passed in
(MultiWOZ and SGD: a vertical bar); any one of them, or the whole text, is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from sparseft.errors import DataError
from sparseft.routing.dialogues.fuzzy import token_sort_ratio
from sparseft.routing.dialogues.schemas import Service
from sparseft.routing.states import State
from sparseft.routing.turns import Turn, TurnId
from sparseft.routing.values import normalised

__all__ = [
    "Exact",
    "GoalScores",
    "SlotScores",
    "joint_goal_accuracy",
    "slot_scores",
    "state_exact",
    "state_similarity",
    "turn_exact",
]

Predicted = Mapping[TurnId, State]


@dataclass(frozen=True)
class Exact:
    """Which turns are wholly right.

    Attributes:
        metric: turn_exact or state_exact.
        normalise: whether values were normalised.
        right: bool [N], in the order of the gold turns.
    """

    metric: Literal["turn_exact", "state_exact"]
    normalise: bool
    right: np.ndarray

    @property
    def name(self) -> str:
        """The metric with how values were compared: state_exact_strict, turn_exact_normalised."""
        return _named(self.metric, self.normalise)

    @property
    def rate(self) -> float:
        """The share of right turns, from 0 to 1; nan without turns."""
        return float(self.right.mean()) if self.right.size else float("nan")


@dataclass(frozen=True)
class SlotScores:
    """Slots with values, counted over all turns (micro average).

    Attributes:
        of: what was compared: states or deltas.
        normalise: whether values were normalised.
        right, predicted, gold: numbers of slots.
    """

    of: Literal["state", "delta"]
    normalise: bool
    right: int
    predicted: int
    gold: int

    @property
    def name(self) -> str:
        """What was compared and how: slots_state_strict, slots_delta_normalised."""
        return _named(f"slots_{self.of}", self.normalise)

    @property
    def precision(self) -> float:
        """Right among predicted slots; 1 where none was predicted."""
        return self.right / self.predicted if self.predicted else 1.0

    @property
    def recall(self) -> float:
        """Right among gold slots; 1 where there is none."""
        return self.right / self.gold if self.gold else 1.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 1 where there are no slots at all."""
        return _f1(self.right, self.predicted, self.gold)


@dataclass(frozen=True)
class GoalScores:
    """SGD's joint goal accuracy by frame or turn.

    Attributes:
        per: what one score is of.
        fuzzy: whether values of slots that are not categorical were matched fuzzily.
        ids: of the scores: the turn and its service, or "" where a score is of a whole turn.
        scores: float64 [M], from 0 to 1.
    """

    per: Literal["frame", "turn"]
    fuzzy: bool
    ids: tuple[tuple[TurnId, str], ...]
    scores: np.ndarray

    @property
    def name(self) -> str:
        """Such as joint_goal_frame_fuzzy."""
        return f"joint_goal_{self.per}_{'fuzzy' if self.fuzzy else 'strict'}"

    @property
    def mean(self) -> float:
        """Over frames or turns; nan without any."""
        return float(self.scores.mean()) if self.scores.size else float("nan")


def state_exact(
    gold: Sequence[Turn],
    predicted: Predicted,
    *,
    normalise: bool,
    separator: str | None = None,
) -> Exact:
    """Whether each turn's whole predicted state is the gold one (DST joint goal).

    Args:
        gold: N turns.
        predicted: the state after each of them, by id.
        separator: of several accepted gold values; None: a gold value is one value.

    Raises:
        DataError: the ids differ, or gold holds a turn twice.
    """
    pairs = _aligned(gold, predicted, "state")
    right = [_same(turn.state, state, normalise, separator) for turn, state in pairs]
    return Exact("state_exact", normalise, np.array(right, dtype=bool))


def turn_exact(
    gold: Sequence[Turn],
    predicted: Predicted,
    *,
    normalise: bool,
    separator: str | None = None,
) -> Exact:
    """Whether each turn's predicted delta is the gold one (TLB).

    A delta that restates what the tracker's own state already had is wrong here: give
    `difference(previous, applied(previous, delta))`. A gold delta may restate as well, where the
    new value shares an accepted or normalised form with the old one (SGD's gold gathers ways to
    say a value; so do corrections of an annotation): a prediction may then leave the slot out.

    Args:
        gold: N turns; with normalisation or a separator whole dialogues, for their states before.
        predicted: the delta of each of them, by id.
        separator: as in `state_exact`.

    Raises:
        DataError: the ids differ, gold holds a turn twice, or lacks the turn before one.
    """
    pairs = _aligned(gold, predicted, "delta")
    states = {turn.id: turn.state for turn in gold}
    lenient = normalise or separator is not None
    right = []
    for turn, delta in pairs:
        before = _before(turn, states) if lenient else {}
        optional = {
            slot
            for slot in turn.delta.keys() & before.keys()
            if _forms(slot, turn.delta[slot], normalise, separator)
            & _forms(slot, before[slot], normalise, separator)
        }
        right.append(_same(turn.delta, delta, normalise, separator, optional))
    return Exact("turn_exact", normalise, np.array(right, dtype=bool))


def slot_scores(
    gold: Sequence[Turn],
    predicted: Predicted,
    *,
    of: Literal["state", "delta"],
    normalise: bool,
    separator: str | None = None,
) -> SlotScores:
    """Precision, recall and F1 of slots; one with a wrong value is both too much and missing.

    Args:
        of: what `predicted` holds by id: states or deltas; a removed slot of a delta counts.
        separator: as in `state_exact`.

    Raises:
        DataError: the ids differ, or gold holds a turn twice.
    """
    counts = np.zeros(3, dtype=np.int64)
    for turn, found in _aligned(gold, predicted, of):
        wanted = turn.state if of == "state" else turn.delta
        right = sum(
            _accepted(slot, wanted[slot], value, normalise, separator)
            for slot, value in found.items()
            if slot in wanted
        )
        counts += right, len(found), len(wanted)
    return SlotScores(of, normalise, *map(int, counts))


def state_similarity(a: State, b: State) -> float:
    """F1 of two states' slots with equal values, symmetric, from 0 to 1; 1 where both are empty.

    The part over slots and values of IC-DST's similarity (Hu et al., Findings of EMNLP 2022).
    """
    return _f1(len(a.items() & b.items()), len(a), len(b))


def joint_goal_accuracy(
    gold: Sequence[Turn],
    predicted: Predicted,
    schemas: Mapping[str, Service],
    *,
    fuzzy: bool = True,
    per: Literal["frame", "turn"] = "frame",
    separator: str = "|",
) -> GoalScores:
    """SGD's joint goal accuracy: a product over all slots of a frame's service.

    A slot scores 1 where neither state has it and 0 where one alone does. Else a categorical slot
    scores 1 or 0, and another one the best `token_sort_ratio` with an accepted value. As in the
    official evaluation, slots of services that the turn has no frame of, and predicted slots that
    their service does not have, are left out, and of several predicted values the first counts.

    Args:
        gold: turns whose domains are the services of their frames, as `read_sgd` gives them.
        predicted: the state after each of them, by id.
        schemas: by service.
        fuzzy: False: other slots too must be equal to an accepted value.
        per: frame: the published figure; turn: the product over a turn's frames.

    Raises:
        DataError: the ids differ, gold holds a turn twice, a turn has no domains, or a service or
            a gold slot is not in the schemas.
    """
    scores: list[float] = []
    ids: list[tuple[TurnId, str]] = []
    for turn, state in _aligned(gold, predicted, "state"):
        if not turn.domains:
            raise DataError(
                f"expected the services of the turn's frames in the domains of {turn.id}, got "
                "none; read the turns with read_sgd."
            )
        frames = [
            _frame(turn, state, _service(schemas, name, turn), fuzzy, separator)
            for name in turn.domains
        ]
        if per == "turn":
            scores.append(float(np.prod(frames)))
            ids.append((turn.id, ""))
        else:
            scores += frames
            ids += [(turn.id, name) for name in turn.domains]
    return GoalScores(per, fuzzy, tuple(ids), np.array(scores, dtype=np.float64))


# --- alignment


def _aligned(gold: Sequence[Turn], predicted: Predicted, what: str) -> Iterator[tuple[Turn, State]]:
    ids = [turn.id for turn in gold]
    known = set(ids)
    if len(known) != len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise DataError(f"expected each gold turn once, got {twice} again; remove one.")
    missing = [each for each in ids if each not in predicted]
    if missing:
        raise DataError(
            f"expected a predicted {what} of each of {len(ids)} gold turns, got none of "
            f"{len(missing)} such as {missing[0]}; predict them, or score the turns that both have."
        )
    unknown = [each for each in predicted if each not in known]
    if unknown:
        raise DataError(
            f"expected predictions of the {len(ids)} gold turns alone, got {len(unknown)} others "
            f"such as {unknown[0]}; score the turns that both have, numbered alike."
        )
    return ((turn, predicted[turn.id]) for turn in gold)


def _before(turn: Turn, states: Mapping[TurnId, State]) -> State:
    if turn.number == 0:
        return {}
    before = states.get((turn.dialogue, turn.number - 1))
    if before is None:
        raise DataError(
            f"expected whole dialogues, got turn {turn.id} without the one before it; give every "
            "turn, and choose among the results."
        )
    return before


# --- values


def _same(
    gold: State,
    found: State,
    normalise: bool,
    separator: str | None,
    optional: Collection[str] = (),
) -> bool:
    if not found.keys() <= gold.keys():
        return False
    return all(
        _accepted(slot, value, found[slot], normalise, separator)
        if slot in found
        else slot in optional
        for slot, value in gold.items()
    )


def _accepted(slot: str, gold: str, found: str, normalise: bool, separator: str | None) -> bool:
    if gold == found:
        return True
    plain = normalised(slot, found) if normalise else found
    return plain in _forms(slot, gold, normalise, separator)


@lru_cache(maxsize=1 << 16)
def _forms(slot: str, value: str, normalise: bool, separator: str | None) -> frozenset[str]:
    parts = [value] if separator is None else value.split(separator)
    return frozenset(normalised(slot, part) if normalise else part for part in parts)


def _f1(right: int, predicted: int, gold: int) -> float:
    return 2 * right / (predicted + gold) if predicted + gold else 1.0


def _named(metric: str, normalise: bool) -> str:
    return f"{metric}_{'normalised' if normalise else 'strict'}"


# --- SGD


def _service(schemas: Mapping[str, Service], name: str, turn: Turn) -> Service:
    service = schemas.get(name)
    if service is None:
        raise DataError(
            f"expected a schema of the service {name!r} of turn {turn.id}, got those of "
            f"{', '.join(sorted(schemas)) or 'none'}; read_schemas reads them all."
        )
    unknown = [
        slot
        for slot in turn.state
        if slot.startswith(f"{name}-") and slot[len(name) + 1 :] not in service.slots
    ]
    if unknown:
        raise DataError(
            f"expected gold slots of the schema of {name}, got {unknown[0]!r} in turn {turn.id}; "
            "use the schemas of the same data."
        )
    return service


def _frame(turn: Turn, state: State, service: Service, fuzzy: bool, separator: str) -> float:
    product = 1.0
    for slot in service.slots.values():
        name = f"{service.name}-{slot.name}"
        if (name in turn.state) != (name in state):
            return 0.0
        if name not in state:
            continue
        accepted = turn.state[name].split(separator)
        found = state[name].split(separator)[0]
        if slot.categorical:
            product *= float(accepted[0] == found)
        elif fuzzy:
            product *= max(token_sort_ratio(each, found) for each in accepted)
        else:
            product *= float(found in accepted)
    return product
