"""Drafts make fewer calls of the same answers, however bad they are."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sparseft.compliance.decoding import Decoded, Drafts, draft_answers, generate
from sparseft.compliance.schema import load_schema, parse_schema
from sparseft.compliance.service import simulate
from sparseft.errors import ConfigError
from tests.compliance.decoding.cases import byte_ids, byte_model, byte_vocabulary, wide_model

SCHEMA = parse_schema(
    """
name: drafted
fields:
  order: {kind: pattern, pattern: "[A-Z]{2}-[0-9]{2}", copied: true, nullable: true}
  kind: {kind: enum, values: [alpha, alps, beta, gamma]}
  amount: {kind: amount, minimum: 0, maximum: 99, nullable: true}
  steps: {kind: list, values: [x, yy, zzz], max_items: 6}
  sure: {kind: boolean}
""",
    "drafted.yaml",
)
TEXT = "orders AB-12 and AB-99"
PROMPTS = ["a", "tell me: ", TEXT, "x" * 90, "é" * 20, TEXT * 3, "z"]


def _decode(drafts: Drafts | None, size: int) -> list[Decoded]:
    grammar, found = SCHEMA.grammar(TEXT), []
    for start in range(0, len(PROMPTS), size):
        prompts = [byte_ids(prompt) for prompt in PROMPTS[start : start + size]]
        grammars = [grammar] * len(prompts)
        found += generate(byte_model(), byte_vocabulary(), prompts, grammars, pad=0, drafts=drafts)
    return found


def _equal(one: Decoded, other: Decoded) -> None:
    assert one.text == other.text and one.tokens == other.tokens
    assert [c.place for c in one.choices] == [c.place for c in other.choices]
    for mine, theirs in zip(one.choices, other.choices, strict=True):
        assert (mine.token, mine.start) == (theirs.token, theirs.start)
        assert mine.raw == pytest.approx(theirs.raw, abs=1e-4)
        assert mine.shares == pytest.approx(theirs.shares, abs=1e-4)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_right_drafts_save_calls_and_change_nothing(size: int) -> None:
    plain = _decode(None, size)
    drafted = _decode(Drafts(answer.tokens for answer in plain), size)
    for one, other in zip(plain, drafted, strict=True):
        _equal(one, other)
    assert sum(d.calls for d in drafted) < 0.7 * sum(d.calls for d in plain)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_wrong_drafts_change_nothing(size: int) -> None:
    plain = _decode(None, size)
    shuffled = random.Random(0)
    wrong = []
    for answer in plain:
        tokens = list(answer.tokens)
        for place in range(len(tokens)):
            if shuffled.random() < 0.5:
                tokens[place] = shuffled.randrange(256)
        wrong.append(tokens)
    for one, other in zip(plain, _decode(Drafts(wrong), size), strict=True):
        _equal(one, other)


def test_no_drafts_are_as_none() -> None:
    for one, other in zip(_decode(None, 1), _decode(Drafts([]), 1), strict=True):
        _equal(one, other)
        assert one.calls == other.calls


def test_a_real_vocabulary_says_the_same_by_every_way(
    smollm2_vocabulary: Any, smollm2_tokenizer: Any
) -> None:
    """Forced tokens one by one, together, and with drafts; tokens of several letters."""
    schema, model = load_schema("service"), wide_model(49152)
    examples = simulate(4, 0, "train")
    answers = draft_answers(schema, [example.gold for example in examples])
    drafts = Drafts(smollm2_tokenizer(answers, add_special_tokens=False)["input_ids"])
    ways: list[dict[str, Any]] = [{}, {"fast_forward": False}, {"drafts": drafts}]
    for example in examples:
        text = example.transcript.render()
        prompt = smollm2_tokenizer(text[:200], add_special_tokens=False)["input_ids"]
        grammar = schema.grammar(text)
        plain, slow, drafted = (
            generate(model, smollm2_vocabulary, [prompt], [grammar], pad=0, **way)[0]
            for way in ways
        )
        _equal(plain, slow)
        _equal(plain, drafted)
        assert drafted.calls <= plain.calls < slow.calls == len(slow.tokens)


def test_a_table_goes_by_the_longest_context_it_knows() -> None:
    drafts = Drafts([[1, 2, 3], [1, 2, 3], [9, 2, 4]])
    assert drafts.next([]) == 1
    assert drafts.next([9, 2]) == 4
    assert drafts.next([8, 2]) == 3
    assert drafts.next([8]) is None
    # Equally frequent: the smaller one, whatever the order.
    assert Drafts([[5], [4]]).next([]) == Drafts([[4], [5]]).next([]) == 4


def test_draft_answers_hold_nothing_that_was_copied() -> None:
    values = {"order": "AB-12", "kind": "beta", "amount": 3.5, "steps": ["x"], "sure": True}
    other = {**values, "order": "CD-34"}
    assert draft_answers(SCHEMA, [values, other]) == [
        '{"order":null,"kind":"beta","amount":3.50,"steps":["x"],"sure":true}'
    ]
    spelled = parse_schema(
        "name: s\nfields: {a: {kind: boolean}, "
        'name: {kind: pattern, pattern: "[a-z]{1,9}"}, b: {kind: boolean}}',
        "s.yaml",
    )
    assert draft_answers(spelled, [{"a": True, "name": "ann", "b": False}]) == ['{"a":true,']
    first = parse_schema('name: s\nfields: {name: {kind: pattern, pattern: "[a-z]{1,9}"}}', "s")
    assert draft_answers(first, [{"name": "ann"}]) == []


def test_drafts_need_fast_forwarding() -> None:
    with pytest.raises(ConfigError, match="fast_forward=True"):
        generate(
            byte_model(), byte_vocabulary(), [[1]], [SCHEMA.grammar()],
            pad=0, fast_forward=False, drafts=Drafts([]),
        )  # fmt: skip
