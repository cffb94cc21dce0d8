"""What a routed run was worth: right turns, right states, large calls, cost; pools from answers.

Legend: N turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparseft.routing.costs import Costs
from sparseft.routing.expert import Expert
from sparseft.routing.metrics import state_exact, turn_exact
from sparseft.routing.pools import Pool, build_pool
from sparseft.routing.rollout import Step, contexts_of
from sparseft.routing.states import applied, difference
from sparseft.routing.texts import query_of
from sparseft.routing.turns import Context, Turn

__all__ = ["Judged", "dialogue_pool", "judge", "only_large", "right_turns"]


@dataclass(frozen=True)
class Judged:
    """Per turn, in the order of the steps.

    Attributes:
        turn: bool [N], the delta is the gold one.
        state: bool [N], the accumulated state is.
        large: bool [N], the large model was asked.
        cost: float64 [N], of the turn, with everything that was called for it.
        groups: the dialogue of each turn.
    """

    turn: np.ndarray
    state: np.ndarray
    large: np.ndarray
    cost: np.ndarray
    groups: tuple[str, ...]


def judge(
    turns: Sequence[Turn],
    steps: Sequence[Step],
    costs: Costs,
    *,
    normalise: bool,
    separator: str | None = None,
) -> Judged:
    """Compare routed turns with gold.

    Args:
        turns: the gold of exactly the routed turns.
        normalise, separator: see `sparseft.routing.metrics`.

    Raises:
        DataError: gold and steps are of different turns.
    """
    by_id = {turn.id: turn for turn in turns}
    gold = [by_id[step.context.id] for step in steps if step.context.id in by_id]
    states = {step.context.id: step.state for step in steps}
    deltas = {step.context.id: difference(step.context.previous, step.state) for step in steps}
    options = {"normalise": normalise, "separator": separator}
    return Judged(
        turn_exact(gold, deltas, **options).right,  # type: ignore[arg-type]
        state_exact(gold, states, **options).right,  # type: ignore[arg-type]
        np.array([step.large for step in steps], dtype=bool),
        np.array([costs.of(step) for step in steps], dtype=np.float64),
        tuple(step.context.dialogue for step in steps),
    )


def right_turns(
    turns: Sequence[Turn],
    contexts: Sequence[Context],
    expert: Expert,
    *,
    normalise: bool,
    separator: str | None = None,
) -> np.ndarray:
    """Whether an expert gets each turn's delta right, bool [N] in the order of the contexts.

    Its delta is seen from the context's own previous state.
    """
    answers = expert.predict(contexts)
    deltas = {
        context.id: difference(context.previous, applied(context.previous, answer.delta))
        for context, answer in zip(contexts, answers, strict=True)
    }
    by_id = {turn.id: turn for turn in turns}
    gold = [by_id[context.id] for context in contexts]
    right: np.ndarray = turn_exact(gold, deltas, normalise=normalise, separator=separator).right
    # A call without an answer is no right answer, even where nothing was to be said.
    answered = np.array([not answer.problem for answer in answers], dtype=bool)
    return right & answered


def only_large(small_right: np.ndarray, large_right: np.ndarray) -> np.ndarray:
    """Which turns the oracle gives to the large model, bool [N]."""
    found: np.ndarray = large_right & ~small_right
    return found


def dialogue_pool(
    dialogues: Mapping[str, Sequence[Turn]],
    small: Expert,
    large: Expert,
    *,
    normalise: bool,
    separator: str | None = None,
) -> Pool:
    """The pool of held-out dialogues, as the small expert meets them when it answers alone.

    Raises:
        DataError: an expert was trained on one of the dialogues, or nothing speaks for a side.
    """
    turns = [turn for own in dialogues.values() for turn in own]
    contexts = contexts_of(dialogues, small)
    answers = small.predict(contexts)
    options = {"normalise": normalise, "separator": separator}
    return build_pool(
        [query_of(context, said) for context, said in zip(contexts, answers, strict=True)],
        right_turns(turns, contexts, small, **options).tolist(),  # type: ignore[arg-type]
        right_turns(turns, contexts, large, **options).tolist(),  # type: ignore[arg-type]
        states=[context.previous for context in contexts],
        trained_on=small.trained_on | large.trained_on,
        provenance={"experts": {"small": small.name, "large": large.name}},
    )
