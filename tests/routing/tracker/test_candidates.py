"""Which stretches may be values, and how a vocabulary is learned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.errors import DataError
from sparseft.routing.states import DELETE
from sparseft.routing.tracker import Vocabulary, learn_vocabulary
from sparseft.routing.tracker.candidates import stretches, written_state
from sparseft.routing.turns import Turn

NOTHING = Vocabulary({"hotel-name": ("dontcare",)})


def turn(delta: dict[str, str], number: int = 0) -> Turn:
    return Turn("d", number, "", "words", delta, delta)


def found(text: str, vocabulary: Vocabulary = NOTHING) -> list[str]:
    return [text[a:b] for a, b in stretches(text, vocabulary)]


def test_stretches_stay_within_a_clause_and_have_no_function_word_at_an_edge() -> None:
    texts = found("Book the Pizza Express, at 19:15 please")
    assert "Pizza Express" in texts and "19:15" in texts
    assert "the Pizza Express" not in texts and "19:15 please" not in texts
    assert "Express, at 19:15" not in texts


def test_a_known_value_may_have_function_words_at_its_edges() -> None:
    known = learn_vocabulary([turn({"play-title": "as you like it"})])
    assert "as you like it" in found("I want as you like it today", known)
    assert "as you like it" not in found("I want as you like it today")


@given(st.text(max_size=200))
def test_any_text_has_few_stretches_inside_it(text: str) -> None:
    spans = list(stretches(text, NOTHING))
    assert all(0 <= a < b <= len(text) for a, b in spans)
    assert len(spans) <= 6 * len(text)


def test_a_written_state_says_where_its_values_stand() -> None:
    text, places = written_state({"hotel-name": "ashley hotel", "hotel-area": "dontcare"})
    assert text == "hotel area dontcare, hotel name ashley hotel"
    assert [text[a:b] for a, b, _ in places] == ["ashley hotel"]


def test_slots_with_few_values_have_them_as_choices() -> None:
    turns = [turn({"hotel-area": value}) for value in ("north", "centre", "center", "south|east")]
    turns += [turn({"hotel-area": DELETE})] * 2 + [turn({"hotel-area": "centre"})]
    turns += [turn({"hotel-name": f"house {k}"}) for k in range(13)]
    learned = learn_vocabulary(turns, "|")
    # Seen once is too seldom, and "center" is how "centre" is also written.
    assert learned.choices == {
        "hotel-area": ("dontcare", DELETE, "centre"),
        "hotel-name": ("dontcare",),
    }
    assert learned.spelled("hotel-area", "Center") == "centre"
    assert learned.spelled("hotel-name", "House 3") == "house 3"
    assert learned.spelled("hotel-name", "the Unknown") == "unknown"
    assert Vocabulary.from_json(learned.to_json()) == learned


def test_dialogues_without_values_are_refused() -> None:
    with pytest.raises(DataError, match="turns that change a slot"):
        learn_vocabulary([turn({})])
