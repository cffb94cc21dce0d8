"""Dialogues turn by turn: route, answer, carry the predicted state forward.

Gold is not read here: contexts are made of utterances and of what was predicted before. Experts
whose answers were recorded under their own history give a turn's *delta*, which is applied to the
routed state; how they would have answered after another expert's state is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparseft.errors import DataError
from sparseft.routing.expert import Expert, Prediction
from sparseft.routing.router import Router
from sparseft.routing.states import State, applied
from sparseft.routing.texts import query_of
from sparseft.routing.turns import Context, Turn

__all__ = ["Step", "contexts_of", "roll_out"]


@dataclass(frozen=True)
class Step:
    """One routed turn.

    Attributes:
        context: what was seen.
        score: how much the large model was wanted.
        large: whether it was asked.
        prediction: the chosen expert's answer; without one the state stays.
        asked: the experts' answers that were paid for: in a cascade the small one's as well.
        state: after the turn.
    """

    context: Context
    score: float
    large: bool
    prediction: Prediction
    asked: tuple[Prediction, ...]
    state: State


def roll_out(
    dialogues: Mapping[str, Sequence[Turn]],
    router: Router,
    threshold: float,
    small: Expert,
    large: Expert,
) -> list[Step]:
    """Route every turn; dialogue by dialogue in the mapping's order, turns in theirs.

    All dialogues go forward together, so that experts and routers see batches.

    Raises:
        DataError: a dialogue's turns are not numbered in order.
    """
    steps: dict[str, list[Step]] = {name: [] for name in dialogues}
    states: dict[str, State] = {name: {} for name in dialogues}
    for position in range(max(map(len, dialogues.values()), default=0)):
        contexts = [
            _context(turns, position, states[name])
            for name, turns in dialogues.items()
            if position < len(turns)
        ]
        first = small.predict(contexts) if router.needs_confidence else None
        said = first if first is not None else [None] * len(contexts)
        queries = [query_of(context, own) for context, own in zip(contexts, said, strict=True)]
        scores = np.asarray(router.scores(queries), dtype=np.float64)
        up = scores >= threshold
        by_large = iter(large.predict([c for c, to in zip(contexts, up, strict=True) if to]))
        if first is None:
            rest = iter(small.predict([c for c, to in zip(contexts, up, strict=True) if not to]))
        for number, context in enumerate(contexts):
            if first is not None:
                asked = [first[number], *([next(by_large)] if up[number] else [])]
            else:
                asked = [next(by_large) if up[number] else next(rest)]
            chosen = asked[-1]
            after = applied(context.previous, chosen.delta)
            states[context.dialogue] = after
            step = Step(
                context, float(scores[number]), bool(up[number]), chosen, tuple(asked), after
            )
            steps[context.dialogue].append(step)
    return [step for name in dialogues for step in steps[name]]


def contexts_of(dialogues: Mapping[str, Sequence[Turn]], expert: Expert) -> list[Context]:
    """Every turn as `expert` meets it when it answers alone, in `roll_out`'s order."""
    found: list[Context] = []
    states: dict[str, State] = {name: {} for name in dialogues}
    by_name: dict[str, list[Context]] = {name: [] for name in dialogues}
    for position in range(max(map(len, dialogues.values()), default=0)):
        contexts = [
            _context(turns, position, states[name])
            for name, turns in dialogues.items()
            if position < len(turns)
        ]
        for context, answer in zip(contexts, expert.predict(contexts), strict=True):
            states[context.dialogue] = applied(context.previous, answer.delta)
            by_name[context.dialogue].append(context)
    for contexts in by_name.values():
        found.extend(contexts)
    return found


def _context(turns: Sequence[Turn], position: int, state: State) -> Context:
    turn = turns[position]
    if position and turn.number <= turns[position - 1].number:
        raise DataError(
            f"expected the turns of {turn.dialogue} in order, got {turn.number} after "
            f"{turns[position - 1].number}; sort them (see dialogues_of)."
        )
    history = tuple((each.system, each.user) for each in turns[:position])
    return Context(turn.dialogue, turn.number, turn.system, turn.user, state, history)
