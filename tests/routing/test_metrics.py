"""Scores of states and deltas, against counts by hand, published figures and the official code."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.errors import DataError
from sparseft.paths import default_data_root
from sparseft.routing import DELETE, Turn, applied, difference
from sparseft.routing.dialogues import Service, ServiceSlot, read_schemas, read_sgd, recorded_turns
from sparseft.routing.dialogues.fuzzy import token_sort_ratio
from sparseft.routing.metrics import (
    joint_goal_accuracy,
    slot_scores,
    state_exact,
    state_similarity,
    turn_exact,
)

_states = st.dictionaries(
    st.sampled_from(["hotel-area", "hotel-name", "train-day", "taxi-leave"]),
    st.sampled_from(["north", "South", "south", "dontcare", "5 pm", "17:00"]),
)


def _dialogue(*states: dict[str, str], domains: tuple[str, ...] = ()) -> list[Turn]:
    before: dict[str, str] = {}
    turns = []
    for number, state in enumerate(states):
        turns.append(Turn("d", number, "", "u", state, difference(before, state), domains))
        before = state
    return turns


def _by_id(*values: dict[str, str]) -> dict[tuple[str, int], dict[str, str]]:
    return {("d", number): value for number, value in enumerate(values)}


# --- states and deltas


@given(st.lists(_states, min_size=1, max_size=4))
def test_gold_is_right_by_every_measure(states: list[dict[str, str]]) -> None:
    gold = _dialogue(*states)
    as_states = {turn.id: turn.state for turn in gold}
    as_deltas = {turn.id: turn.delta for turn in gold}
    for normalise in (False, True):
        for separator in (None, "|"):
            how = {"normalise": normalise, "separator": separator}
            assert state_exact(gold, as_states, **how).right.all()
            assert turn_exact(gold, as_deltas, **how).right.all()
            assert slot_scores(gold, as_states, of="state", **how).f1 == 1.0
            assert slot_scores(gold, as_deltas, of="delta", **how).f1 == 1.0


@given(st.lists(st.tuples(_states, _states), min_size=1, max_size=4))
def test_strict_scores_are_plain_equality(
    pairs: list[tuple[dict[str, str], dict[str, str]]],
) -> None:
    gold = _dialogue(*(wanted for wanted, _ in pairs))
    found = _by_id(*(found for _, found in pairs))
    result = state_exact(gold, found, normalise=False)
    assert result.right.dtype == bool
    assert result.right.tolist() == [wanted == found for wanted, found in pairs]
    deltas = turn_exact(gold, found, normalise=False)
    assert deltas.right.tolist() == [t.delta == found[t.id] for t in gold]
    # Being less strict makes nothing wrong.
    assert (state_exact(gold, found, normalise=True).right >= result.right).all()
    assert (turn_exact(gold, found, normalise=True).right >= deltas.right).all()


@given(st.lists(st.tuples(_states, _states), min_size=1, max_size=4))
def test_right_deltas_alone_make_right_states(
    pairs: list[tuple[dict[str, str], dict[str, str]]],
) -> None:
    gold = _dialogue(*(wanted for wanted, _ in pairs))
    state: dict[str, str] = {}
    states, deltas = {}, {}
    for turn, (wanted, found) in zip(gold, pairs, strict=True):
        after = wanted if len(found) < 2 else found
        deltas[turn.id] = difference(state, after)
        states[turn.id] = state = applied(state, deltas[turn.id])
    by_turn = turn_exact(gold, deltas, normalise=False).right
    by_state = state_exact(gold, states, normalise=False).right
    assert by_state[np.logical_and.accumulate(by_turn)].all()


def test_results_say_how_values_were_compared() -> None:
    gold = _dialogue({"a-t": "5 PM"}, {"a-t": "5 PM"})
    found = _by_id({"a-t": "17:00"}, {"a-t": "5 PM"})
    strict, plain = (state_exact(gold, found, normalise=n) for n in (False, True))
    assert (strict.name, strict.rate) == ("state_exact_strict", 0.5)
    assert (plain.name, plain.rate) == ("state_exact_normalised", 1.0)
    assert turn_exact(gold, found, normalise=False).name == "turn_exact_strict"
    scores = slot_scores(gold, found, of="state", normalise=True)
    assert (scores.name, scores.f1) == ("slots_state_normalised", 1.0)


def test_any_accepted_value_is_right_where_a_separator_is_given() -> None:
    gold = _dialogue({"a-t": "5 pm|Five"}, {"a-t": "5 pm|Five"}, {"a-t": "5 pm|Five"})
    found = _by_id({"a-t": "Five"}, {"a-t": "17:00"}, {"a-t": "5 pm|Five"})
    assert state_exact(gold, found, normalise=False).right.tolist() == [False, False, True]
    assert state_exact(gold, found, normalise=False, separator="|").right.tolist() == [
        True,
        False,
        True,
    ]
    assert state_exact(gold, found, normalise=True, separator="|").right.all()
    assert state_exact(gold, found, normalise=True).right.tolist() == [False, False, True]


def test_a_gold_delta_that_only_restates_may_be_left_out() -> None:
    gold = _dialogue({"a-t": "5 pm"}, {"a-t": "5 pm|Five", "a-b": "c"}, {"a-t": "6 pm", "a-b": "c"})
    assert set(gold[1].delta) == {"a-t", "a-b"}
    found = _by_id({"a-t": "5 pm"}, {"a-b": "c"}, {})
    assert turn_exact(gold, found, normalise=False).right.tolist() == [True, False, False]
    lenient = turn_exact(gold, found, normalise=False, separator="|")
    assert lenient.right.tolist() == [True, True, False]
    wrong = _by_id({"a-t": "5 pm"}, {"a-b": "c", "a-t": "7 pm"}, {"a-t": DELETE})
    assert turn_exact(gold, wrong, normalise=True, separator="|").right.tolist() == [
        True,
        False,
        False,
    ]
    spelled = _dialogue({"a-t": "5 pm"}, {"a-t": "17:00"})
    nothing = _by_id({"a-t": "5 pm"}, {})
    assert turn_exact(spelled, nothing, normalise=True).right.all()
    assert not turn_exact(spelled, nothing, normalise=False).right.all()


def test_lenient_deltas_need_whole_dialogues() -> None:
    later = _dialogue({}, {"a-b": "c"})[1:]
    found = {("d", 1): {"a-b": "c"}}
    assert turn_exact(later, found, normalise=False).right.all()
    with pytest.raises(DataError, match=r"whole dialogues.*\('d', 1\)"):
        turn_exact(later, found, normalise=True)


def test_removed_slots_count() -> None:
    gold = _dialogue({"a-b": "c"}, {})
    assert turn_exact(gold, _by_id({"a-b": "c"}, {"a-b": DELETE}), normalise=True).right.all()
    assert turn_exact(gold, _by_id({"a-b": "c"}, {}), normalise=True).right.tolist() == [
        True,
        False,
    ]


def test_slots_are_counted_over_all_turns() -> None:
    gold = _dialogue({"a-b": "1", "a-c": "2"}, {"a-b": "1", "a-c": "2", "a-d": "3"})
    found = _by_id({"a-b": "1", "a-e": "2"}, {"a-b": "9", "a-c": "Two"})
    scores = slot_scores(gold, found, of="state", normalise=False)
    assert (scores.right, scores.predicted, scores.gold) == (1, 4, 5)
    assert (scores.precision, scores.recall) == (1 / 4, 1 / 5)
    assert scores.f1 == pytest.approx(2 / (4 + 5))
    assert slot_scores(gold, found, of="state", normalise=True).right == 2
    assert slot_scores(gold, found, of="delta", normalise=False).gold == 3
    empty = slot_scores(_dialogue({}), _by_id({}), of="state", normalise=False)
    assert (empty.precision, empty.recall, empty.f1) == (1.0, 1.0, 1.0)
    missed = slot_scores(_dialogue({"a-b": "c"}), _by_id({}), of="state", normalise=False)
    assert (missed.precision, missed.recall, missed.f1) == (1.0, 0.0, 0.0)


@given(_states, _states)
def test_similarity_is_symmetric_and_1_for_equals(a: dict[str, str], b: dict[str, str]) -> None:
    value = state_similarity(a, b)
    assert value == state_similarity(b, a) and 0.0 <= value <= 1.0
    assert (value == 1.0) == (a == b)


def test_similarity_by_hand() -> None:
    assert state_similarity({}, {}) == 1.0 and state_similarity({"a": "b"}, {}) == 0.0
    # One pair of 3 and 2: precision 1/3, recall 1/2.
    a, b = {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9"}
    assert state_similarity(a, b) == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))


_CALLS = [
    lambda gold, found: state_exact(gold, found, normalise=False),
    lambda gold, found: turn_exact(gold, found, normalise=True),
    lambda gold, found: slot_scores(gold, found, of="delta", normalise=False),
    lambda gold, found: joint_goal_accuracy(gold, found, {}),
]


@pytest.mark.parametrize("call", _CALLS)
def test_turns_that_do_not_match_are_named(call: Any) -> None:
    gold = _dialogue({}, {}, {})
    with pytest.raises(DataError, match=r"none of 2 such as \('d', 1\)"):
        call(gold, _by_id({}))
    with pytest.raises(DataError, match=r"1 others such as \('d', 3\)"):
        call(gold, _by_id({}, {}, {}, {}))
    with pytest.raises(DataError, match=r"once, got \('d', 1\)"):
        call([*gold, gold[1]], _by_id({}, {}, {}))


def test_no_turns_have_no_rate() -> None:
    assert np.isnan(state_exact([], {}, normalise=False).rate)
    assert np.isnan(joint_goal_accuracy([], {}, {}).mean)


# --- SGD

# Given by fuzzywuzzy 0.18.0 without python-Levenshtein, as the official requirements install it.
_RATIOS = [
    ("", "", 100), ("", "x", 0), ("é", "é", 100), ("café bar", "bar cafe", 93), ("ŝx", "sx", 50),
    ("8 pm", "pm 8", 100), ("!", "?", 100), ("March 8th", "the 8th", 62),
    ("ab" * 150, "ba" * 150, 0), ("6:30 pm", "half past 6 in the evening", 18),
    ("8th of March", "March 8th", 86), ("San Francisco", "San Fransisco", 92),
    ("12 pm", "afternoon 12", 35), ("abcd", "bcda", 75), ("tide", "diet", 25), ("diet", "tide", 50),
]  # fmt: skip


@pytest.mark.parametrize(("reference", "hypothesis", "percent"), _RATIOS)
def test_ratios_are_those_of_the_official_evaluation(
    reference: str, hypothesis: str, percent: int
) -> None:
    assert token_sort_ratio(reference, hypothesis) == percent / 100


def _schemas() -> dict[str, Service]:
    def service(name: str, **slots: bool) -> Service:
        made = {n: ServiceSlot(n, "", c, ("x", "y") if c else ()) for n, c in slots.items()}
        return Service(name, "", made, ("test",))

    return {"A_1": service("A_1", kind=True, city=False, time=False), "B_1": service("B_1", n=True)}


def test_a_frame_is_the_product_over_its_slots() -> None:
    gold = {"A_1-kind": "x", "A_1-city": "San Francisco|SF", "A_1-time": "8th of March"}
    cases: list[tuple[dict[str, str], float]] = [
        (gold, 1.0),
        ({**gold, "A_1-city": "SF"}, 1.0),
        ({**gold, "A_1-city": "San Fransisco"}, 0.92),
        ({**gold, "A_1-city": "San Fransisco", "A_1-time": "March 8th"}, 0.92 * 0.86),
        ({**gold, "A_1-city": "SF|nowhere"}, 1.0),
        ({**gold, "A_1-kind": "y"}, 0.0),
        ({**gold, "A_1-kind": "X"}, 0.0),
        ({"A_1-kind": "x", "A_1-city": "SF"}, 0.0),
        # Neither a slot that the service does not have nor one of another frame counts.
        ({**gold, "A_1-other": "z", "B_1-n": "x"}, 1.0),
    ]
    turns = _dialogue(gold, domains=("A_1",))
    for found, score in cases:
        result = joint_goal_accuracy(turns, _by_id(found), _schemas())
        assert result.scores.tolist() == [pytest.approx(score)], found
    more = {"A_1-kind": "x", "A_1-city": "SF"}
    short = _dialogue({"A_1-kind": "x"}, domains=("A_1",))
    assert joint_goal_accuracy(short, _by_id(more), _schemas()).mean == 0.0
    strict = joint_goal_accuracy(turns, _by_id(cases[2][0]), _schemas(), fuzzy=False)
    assert (strict.name, strict.mean) == ("joint_goal_frame_strict", 0.0)
    right = joint_goal_accuracy(turns, _by_id(cases[1][0]), _schemas(), fuzzy=False)
    assert right.mean == 1.0


def test_frames_are_averaged_or_multiplied_by_turn() -> None:
    first = _dialogue({"A_1-city": "San Francisco", "B_1-n": "x"}, domains=("A_1", "B_1"))
    second = [Turn("e", 0, "", "u", {"B_1-n": "y"}, {"B_1-n": "y"}, ("B_1",))]
    gold = [*first, *second]
    found = {("d", 0): {"A_1-city": "San Fransisco", "B_1-n": "y"}, ("e", 0): {"B_1-n": "y"}}
    frames = joint_goal_accuracy(gold, found, _schemas())
    assert frames.scores.tolist() == [0.92, 0.0, 1.0] and frames.mean == pytest.approx(1.92 / 3)
    assert frames.ids == ((("d", 0), "A_1"), (("d", 0), "B_1"), (("e", 0), "B_1"))
    turns = joint_goal_accuracy(gold, found, _schemas(), per="turn")
    assert turns.scores.tolist() == [0.0, 1.0] and turns.name == "joint_goal_turn_fuzzy"
    assert turns.ids == ((("d", 0), ""), (("e", 0), ""))


def test_turns_that_do_not_fit_the_schemas_are_named() -> None:
    with pytest.raises(DataError, match=r"services.*\('d', 0\).*read_sgd"):
        joint_goal_accuracy(_dialogue({}), _by_id({}), _schemas())
    with pytest.raises(DataError, match=r"'C_1'.*A_1, B_1"):
        joint_goal_accuracy(_dialogue({}, domains=("C_1",)), _by_id({}), _schemas())
    gold = _dialogue({"A_1-size": "x"}, domains=("A_1",))
    with pytest.raises(DataError, match="A_1-size"):
        joint_goal_accuracy(gold, _by_id({}), _schemas())


# --- public data


@pytest.fixture
def shared_data() -> Path:
    root = default_data_root()
    if root is None or not (root / "sgd").is_dir():
        pytest.skip("data: needs the public data sets in ../shared/data beside the checkout")
    return root


def test_the_published_accuracies_of_recorded_systems_are_reproduced(shared_data: Path) -> None:
    folder = shared_data / "multiwoz24_dev_llm_predictions"
    found: dict[str, dict[tuple[str, int], dict[str, str]]] = defaultdict(dict)
    columns = ["system_name", "dialogue_id", "turn_id", "pred_state"]
    for row in pyarrow.parquet.read_table(
        folder / "predictions.parquet", columns=columns
    ).to_pylist():
        state = json.loads(row["pred_state"])
        found[row["system_name"]][row["dialogue_id"], row["turn_id"]] = state
    systems = pyarrow.parquet.read_table(folder / "systems.parquet").to_pylist()
    assert len(systems) == 24 and {row["system_name"] for row in systems} == found.keys()
    turns = recorded_turns(shared_data)
    for row in systems:
        predicted = found[row["system_name"]]
        gold = [turn for turn in turns if turn.id in predicted]
        assert len(gold) == len(predicted) == row["turns"]
        exact = state_exact(gold, predicted, normalise=False)
        assert round(exact.rate, 4) == row["jga_exact"], row
        # What the runs printed accepted any of several gold values.
        accepting = state_exact(gold, predicted, normalise=False, separator="|")
        assert round(accepting.rate, 4) == row["jga_log"], row


def test_any_accepted_value_scores_1_on_sgd(shared_data: Path) -> None:
    gold, schemas = read_sgd("validation", shared_data), read_schemas(shared_data)
    last = {
        turn.id: {slot: value.split("|")[-1] for slot, value in turn.state.items()} for turn in gold
    }
    assert joint_goal_accuracy(gold, last, schemas).mean == 1.0
    assert joint_goal_accuracy(gold, last, schemas, fuzzy=False, per="turn").mean == 1.0
    assert state_exact(gold, last, normalise=False, separator="|").rate == 1.0
    deltas = {
        turn.id: difference(last.get((turn.dialogue, turn.number - 1), {}), last[turn.id])
        for turn in gold
    }
    assert turn_exact(gold, deltas, normalise=False, separator="|").rate == 1.0
    assert turn_exact(gold, deltas, normalise=False).rate < 0.95
