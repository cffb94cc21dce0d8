"""Roll-outs: predicted states go forward, gold never does, and everything asked is paid for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sparseft.errors import ConfigError, DataError
from sparseft.routing import Context, Prediction, Query, dialogues_of
from sparseft.routing.costs import Costs, ModelCost, RouterCost
from sparseft.routing.judging import dialogue_pool, judge
from sparseft.routing.rollout import Step, contexts_of, roll_out
from sparseft.routing.routers import Cascade, MajorityVote
from tests.routing.fakes import Bag, Table, dialogue

_TURNS = [
    *dialogue("one", [{"hotel-area": "north"}, {"hotel-stars": "4"}, {}]),
    *dialogue("two", [{"train-day": "monday"}, {"train-day": "friday"}]),
]
_DIALOGUES = dialogues_of(_TURNS)
_RIGHT = {turn.id: Prediction(turn.delta, score=-0.1) for turn in _TURNS}
_WRONG = {("one", 1): Prediction({"hotel-stars": "5"}, score=-3.0)}


def _small() -> Table:
    return Table("small", {**_RIGHT, **_WRONG})


class _Wants:
    """Sends chosen turns to the large model."""

    name, needs_confidence = "wants", False

    def __init__(self, *ids: str) -> None:
        self.ids, self.seen = ids, list[Query]()

    def scores(self, queries: Sequence[Query]) -> np.ndarray:
        self.seen.extend(queries)
        return np.array([float(query.id in self.ids) for query in queries])


_COSTS = Costs(
    ModelCost(1e9, exemplars=0, instruction=0),
    ModelCost(10e9, exemplars=0, instruction=0),
    RouterCost(),
    "flops",
    lambda text: len(text.split()),
)


def test_the_chosen_expert_carries_the_state() -> None:
    large = Table("large", _RIGHT)
    steps = roll_out(_DIALOGUES, _Wants("one/1"), 0.5, _small(), large)
    assert [step.context.id for step in steps] == [turn.id for turn in _TURNS]
    assert [context.id for context in large.given] == [("one", 1)]
    judged = judge(_TURNS, steps, _COSTS, normalise=False)
    assert judged.state.all() and judged.turn.all()
    assert judged.large.tolist() == [False, True, False, False, False]
    assert judged.groups == ("one",) * 3 + ("two",) * 2
    alone = judge(
        _TURNS, roll_out(_DIALOGUES, _Wants(), 0.5, _small(), large), _COSTS, normalise=False
    )
    # The wrong value stays in the state, and the turn after it is right by itself.
    assert alone.state.tolist() == [True, False, False, True, True]
    assert alone.turn.tolist() == [True, False, True, True, True]
    assert judged.cost[1] / alone.cost[1] == pytest.approx(10)


def test_gold_never_reaches_router_or_experts() -> None:
    def seen(turns: list) -> tuple:
        router, small, large = _Wants("one/1"), _small(), Table("large", _RIGHT)
        roll_out(dialogues_of(turns), router, 0.5, small, large)
        return router.seen, small.given, large.given

    spoiled = [
        replace(turn, state={"gold-slot": "gold"}, delta={"gold-slot": "x"}) for turn in _TURNS
    ]
    assert seen(_TURNS) == seen(spoiled)


def test_a_cascade_pays_for_both_and_sees_the_answer() -> None:
    steps = roll_out(_DIALOGUES, Cascade(), 1.0, _small(), Table("large", _RIGHT))
    assert [step.large for step in steps] == [False, True, False, False, False]
    assert [len(step.asked) for step in steps] == [1, 2, 1, 1, 1]
    cost = judge(_TURNS, steps, _COSTS, normalise=False).cost
    context, (small, large) = steps[1].context, steps[1].asked
    both = _COSTS.call(_COSTS.small, context, small) + _COSTS.call(_COSTS.large, context, large)
    assert cost[1] == pytest.approx(both)
    assert cost[0] == pytest.approx(_COSTS.call(_COSTS.small, *_first(steps)))


def _first(steps: list[Step]) -> tuple[Context, Prediction]:
    return steps[0].context, steps[0].prediction


def test_an_expert_without_an_answer_leaves_the_state() -> None:
    steps = roll_out(_DIALOGUES, _Wants(), 0.5, Table("silent", {}), Table("large", _RIGHT))
    assert all(step.state == {} and step.prediction.problem for step in steps)
    with pytest.raises(DataError, match="in order"):
        roll_out({"one": [_TURNS[1], _TURNS[0]]}, _Wants(), 0.5, _small(), _small())


def test_a_pool_of_dialogues_is_what_the_small_model_meets() -> None:
    pool = dialogue_pool(_DIALOGUES, _small(), Table("large", _RIGHT), normalise=False)
    assert pool.large.tolist() == [False, True, False, False, False]
    assert "hotel stars 5" in pool.exemplars[2].query.text  # its own, wrong state
    assert pool.provenance["experts"] == {"small": "small", "large": "large"}
    router = MajorityVote(pool, Bag(), k=1)
    contexts = contexts_of(_DIALOGUES, _small())
    assert router.scores([e.query for e in pool.exemplars]).tolist() == [0, 1, 0, 0, 0]
    assert len(contexts) == len(_TURNS)
    trained = Table("large", _RIGHT, frozenset({"two"}))
    with pytest.raises(DataError, match="neither model was trained on"):
        dialogue_pool(_DIALOGUES, _small(), trained, normalise=False)


def test_operations_need_the_number_of_weights() -> None:
    with pytest.raises(ConfigError, match="large model's parameters"):
        Costs(ModelCost(1e9), ModelCost(None), RouterCost(), "flops", len)
    money = Costs(ModelCost(), ModelCost(None, 2.0, 4.0, 0, 0), RouterCost(1e6), "money", len)
    (step,) = roll_out({"two": _DIALOGUES["two"][:1]}, _Wants("two/0"), 0.5, _small(), _small())
    read = len("[user] i want train-day monday")
    assert money.of(step) == pytest.approx((2 * read + 4 * len('{"train-day": "monday"}')) / 1e6)
