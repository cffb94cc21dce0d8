"""States and deltas undo one another, and a context has no room for gold."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from sparseft.routing import DELETE, Context, Turn, applied, dialogues_of, difference

_states = st.dictionaries(
    st.sampled_from(["hotel-area", "hotel-name", "train-day", "taxi-leave"]),
    st.sampled_from(["north", "south", "dontcare", "monday"]),
)


@given(_states, _states)
def test_a_difference_leads_from_one_state_to_the_other(before: dict, after: dict) -> None:
    assert applied(before, difference(before, after)) == after


@given(_states)
def test_nothing_changes_nothing(state: dict) -> None:
    assert difference(state, state) == {} and applied(state, {}) == state


def test_taking_away_what_is_not_there_changes_nothing() -> None:
    assert applied({"a-b": "c"}, {"d-e": DELETE}) == {"a-b": "c"}


def test_a_context_has_no_room_for_gold() -> None:
    names = {field.name for field in dataclasses.fields(Context)}
    assert names == {"dialogue", "number", "system", "user", "previous", "history"}


def test_dialogues_keep_their_order_and_sort_their_turns() -> None:
    turns = [Turn(name, number, "", "", {}, {}) for name, number in (("b", 1), ("a", 0), ("b", 0))]
    found = dialogues_of(turns)
    assert list(found) == ["b", "a"] and [turn.number for turn in found["b"]] == [0, 1]
