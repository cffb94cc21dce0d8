"""Transcripts in sentences, and the candidates in them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sparseft.compliance import Evidence, Transcript, Turn, load_schema
from sparseft.compliance.encoder.candidates import candidates
from sparseft.compliance.encoder.segments import split
from sparseft.compliance.fields import Field

_TEXT = st.text(st.sampled_from("ab .?!\n,é"), max_size=900)


@given(st.lists(_TEXT, max_size=4))
def test_segments_are_apart_in_order_and_leave_out_only_blanks(texts: list[str]) -> None:
    transcript = Transcript("t", tuple(Turn("agent", text) for text in texts))
    found = split(transcript)
    for one, two in zip(found.stretches, found.stretches[1:], strict=False):
        assert (one.turn, one.end) <= (two.turn, two.start)
    for number, text in enumerate(texts):
        own = [s for s in found.stretches if s.turn == number]
        read = "".join(text[s.start : s.end] for s in own)
        assert "".join(read.split()) == "".join(text.split())
        assert all(s.end - s.start <= 320 for s in own)


def test_a_turn_begins_with_its_speaker_and_places_are_found_in_its_text() -> None:
    transcript = Transcript("t", (Turn("agent", "Hi. I paid $5 back."), Turn("unknown", "Ok")))
    found = split(transcript)
    assert found.texts == ("agent: Hi.", "I paid $5 back.", "Ok")
    assert found.at(Evidence(0, 0, 19)) == (0, 1)
    place = found.inside(Evidence(0, 11, 13))
    assert place is not None and found.texts[place[0]][place[1] : place[2]] == "$5"
    first = found.inside(Evidence(0, 0, 2))
    assert first is not None and found.texts[0][first[1] : first[2]] == "Hi"
    assert found.inside(Evidence(3, 0, 1)) is None


def test_candidates_are_canonical_with_their_places() -> None:
    text = "ac-1234, not AC-99. It was $1,200.50 and 7 dollars; xAC-5555"
    transcript = Transcript("t", (Turn("customer", text),))
    schema = load_schema("service")
    ids = candidates(schema["account"], transcript)
    assert [(each.value, text[each.place.start : each.place.end]) for each in ids] == [
        ("AC-1234", "ac-1234")
    ]
    wide = Field("sum", "amount", minimum=0, maximum=2000)
    assert 1200.5 in [each.value for each in candidates(wide, transcript)]
    assert [each.value for each in candidates(schema["amount"], transcript)] == [99.0, 7.0]


def test_overlapping_texts_are_candidates_of_their_own() -> None:
    field = Field("name", "pattern", pattern="[a-z]{1,20} [a-z]{1,20}", case="lower", nullable=True)
    found = candidates(field, Transcript("t", (Turn("unknown", "Ann Lee may"),)))
    assert [each.value for each in found] == ["ann lee", "lee may"]
