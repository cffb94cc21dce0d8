"""Where values stand in the turns."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.compliance import Transcript, Turn
from sparseft.compliance.evidence import locate
from sparseft.compliance.schema import parse_schema

_SCHEMA = parse_schema(
    """
name: demo
fields:
  order: {kind: pattern, pattern: "[A-Z]{2}-[0-9]{4}", nullable: true, copied: true, case: upper}
  mail: {kind: pattern, pattern: "[a-z.]{1,20}@[a-z.]{1,20}", nullable: true}
  person: {kind: pattern, pattern: "[A-Za-z ]{1,30}", nullable: true}
  refund: {kind: amount, minimum: 0, maximum: 5000, nullable: true}
  tier: {kind: enum, values: [gold, "no", none, free_trial]}
  steps: {kind: list, values: [read_back, verify_id], max_items: 4}
  calls: {kind: integer, minimum: 0, maximum: 9}
  total: {kind: integer, minimum: 0, maximum: 9, by: rule, rule: demo.total}
""",
    "demo.yaml",
)


def _found(field: str, value: Any, *texts: str) -> list[str]:
    transcript = Transcript("t", tuple(Turn("agent", text) for text in texts))
    places = locate(_SCHEMA, transcript, {field: value}).get(field, ())
    return [f"{e.turn}:{texts[e.turn][e.start : e.end]}" for e in places]


@pytest.mark.parametrize(
    ("field", "value", "texts", "expected"),
    [
        ("order", "AB-1234", ["it is ab-1234.", "so AB-1234?"], ["0:ab-1234", "1:AB-1234"]),
        # Another spelling counts only where the value itself stands nowhere.
        ("order", "AB-1234", ["AB 12 34", "AB1234"], ["0:AB 12 34", "1:AB1234"]),
        ("order", "AB-1234", ["AB 1234", "AB-1234"], ["1:AB-1234"]),
        ("order", "AB-1234", ["XAB-1234", "AB-12345"], []),
        ("order", None, ["null"], []),
        ("mail", "a.b@x.com", ["A.B@x.com, please"], ["0:A.B@x.com"]),
        ("person", "Ann Lee", ["I am Ann\n  Lee"], ["0:Ann\n  Lee"]),
        ("refund", 20.0, ["20 minutes", "$20 back", "20 dollars"], ["1:$20", "2:20 dollars"]),
        ("refund", 20.0, ["a refund of 20"], ["0:20"]),
        ("refund", 20.0, ["20.00, not 20.01 or 120.00"], ["0:20.00"]),
        ("refund", 1234.5, ["that is £1,234.50."], ["0:£1,234.50"]),
        ("refund", 20.0, ["AB-20", "v20"], ["0:20"]),
        ("tier", "gold", ["a Gold member", "golden"], ["0:Gold"]),
        ("tier", "free_trial", ["your free trial", "free-trial"], ["0:free trial", "1:free-trial"]),
        ("tier", "no", ["no"], []),
        ("tier", "none", ["none"], []),
        ("steps", ["verify_id", "read_back", "read_back"], ["read back, verify ID"],
         ["0:read back", "0:verify ID"]),
        ("calls", 3, ["3 calls"], []),
        ("total", 3, ["3 calls"], []),
    ],
)  # fmt: skip
def test_places(field: str, value: Any, texts: list[str], expected: list[str]) -> None:
    assert _found(field, value, *texts) == expected


def test_places_are_limited() -> None:
    assert len(_found("tier", "gold", "gold " * 100)) == 8


def test_fields_without_a_value_have_no_places() -> None:
    assert locate(_SCHEMA, Transcript("t", (Turn("agent", "gold"),)), {}) == {}


@given(st.lists(st.text(max_size=60), max_size=4), st.sampled_from(["gold", "free_trial"]))
def test_places_lie_inside_their_turns(texts: list[str], value: str) -> None:
    transcript = Transcript("t", tuple(Turn("customer", text) for text in [*texts, value]))
    values = {"tier": value, "order": "AB-1234", "refund": 3.0, "person": "Ann Lee"}
    for places in locate(_SCHEMA, transcript, values).values():
        for place in places:
            assert 0 <= place.start < place.end <= len(transcript.turns[place.turn].text)


def test_hostile_texts_take_no_long_search() -> None:
    texts = ["1," * 50_000, "9" * 100_000, "A" + "-" * 100_000, "AB-1 " * 20_000, "Ann " * 25_000]
    transcript = Transcript("t", tuple(Turn("customer", text) for text in texts))
    values = {"refund": 12.0, "order": "AB-1234", "person": "Ann Lee", "mail": "a.b@x.com"}
    started = time.perf_counter()
    assert locate(_SCHEMA, transcript, values) == {}
    assert time.perf_counter() - started < 3.0
