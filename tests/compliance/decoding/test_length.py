"""The longest answer is a bound that is reached."""

from __future__ import annotations

import pytest

from sparseft.compliance.decoding import check_length, generate, longest_answer
from sparseft.compliance.schema import load_schema, parse_schema, schema_of, shipped_schemas
from sparseft.errors import ConfigError
from tests.compliance.decoding.cases import byte_vocabulary
from tests.compliance.decoding.models import Babbler

SCHEMA = parse_schema(
    """
name: long
fields:
  mail: {kind: pattern, pattern: "[a-z]{1,4}@[a-z]{2}[.](?:com|org)", nullable: true}
  name: {kind: pattern, pattern: "[a-zü]{1,3}"}
  order: {kind: pattern, pattern: "[A-Z]{1,4}-[0-9]{2}", copied: true, nullable: true}
  word: {kind: enum, values: [größe, "日本", a]}
  none: {kind: enum, values: [a], nullable: true}
  amount: {kind: amount, minimum: 0, maximum: 312.5}
  count: {kind: integer, minimum: 3, maximum: 1041}
  marks: {kind: set, values: [a, bb, ccc], max_items: 2}
  steps: {kind: list, values: [x, yy], max_items: 3}
  sure: {kind: boolean}
""",
    "long.yaml",
)
LONGEST = {
    "mail": "abcd@ef.com",
    "name": "üüü",
    "order": "AB-12",
    "word": "größe",
    "none": None,
    "amount": 312.5,
    "count": 1041,
    "marks": ["bb", "ccc"],
    "steps": ["yy", "yy", "yy"],
    "sure": False,
}


def test_the_longest_answer_is_as_long_as_that() -> None:
    found = len(SCHEMA.answer(LONGEST).encode())
    assert longest_answer(SCHEMA, "AB-12 or A-12?") == found
    # Without an order to copy null is the longest; without a transcript the whole pattern.
    assert longest_answer(SCHEMA, "no order") == found + len("null") - len('"AB-12"')
    assert longest_answer(SCHEMA) == found + 2


@pytest.mark.parametrize(
    ("pattern", "longest"),
    [
        ("[a-c]x{2,3}|z", 4),
        ("(?:ab|c){2}", 4),
        (r"\d{2}", 8),
        (".é", 6),
        ("[^x]日", 7),
        ("^ab??$", 2),
        ("(a|bc)(?:d){0,2}", 4),
    ],
)
def test_the_longest_match_of_a_pattern(pattern: str, longest: int) -> None:
    schema = schema_of(
        {"name": "s", "fields": {"v": {"kind": "pattern", "pattern": pattern}}}, "s.yaml"
    )
    assert longest_answer(schema) == len('{"v":""}') + longest


@pytest.mark.parametrize("name", [*shipped_schemas(), "long"])
def test_no_answer_is_longer(name: str) -> None:
    schema = SCHEMA if name == "long" else load_schema(name)
    text = "AB-12"
    longest = longest_answer(schema, text)
    for seed in range(20):
        (decoded,) = generate(
            Babbler(byte_vocabulary().size, seed),
            byte_vocabulary(),
            [[1]],
            [schema.grammar(text)],
            pad=0,
            most=longest,
        )
        assert len(decoded.text.encode()) == len(decoded.tokens) <= longest


def test_a_smaller_cap_is_refused() -> None:
    check_length(SCHEMA, 500, "no order")
    with pytest.raises(ConfigError, match=r"room for \d+ tokens.*got 20; allow more"):
        check_length(SCHEMA, 20, "no order")
    with pytest.raises(ConfigError, match="at most 20 tokens"):
        generate(
            Babbler(byte_vocabulary().size, 0), byte_vocabulary(), [[1]], [SCHEMA.grammar()],
            pad=0, most=20,
        )  # fmt: skip


def test_a_copied_pattern_without_an_end_needs_its_transcript() -> None:
    schema = parse_schema(
        'name: s\nfields: {v: {kind: pattern, pattern: "[a-z]+-[0-9]", copied: true, '
        "nullable: true}}",
        "s.yaml",
    )
    assert longest_answer(schema, "abc-1 and de-2") == len('{"v":"abc-1"}')
    with pytest.raises(ConfigError, match="bounded repeats"):
        longest_answer(schema)
