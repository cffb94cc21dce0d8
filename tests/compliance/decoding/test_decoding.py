"""Whatever the model: answers of the grammar, the same by every way of decoding."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

import jsonschema
import pytest
import torch

from sparseft.compliance.decoding import (
    Decoded,
    Drafts,
    Vocabulary,
    field_scores,
    generate,
    generate_freely,
    value_probabilities,
)
from sparseft.compliance.schema import Schema, load_schema, parse_schema, shipped_schemas
from sparseft.errors import ConfigError
from sparseft.models import AnswerModel
from tests.compliance.decoding.models import Babbler
from tests.tiny import tiny_byte_tokenizer, tiny_language_model

SCHEMA = """
name: odd
critical: {field: verdict, alarm: [violation]}
fields:
  name: {kind: pattern, pattern: "[A-Za-zéü]{1,6}", nullable: true}
  mail: {kind: pattern, pattern: "[a-z0-9.]{1,12}@[a-z]{1,8}[.](?:com|org)"}
  order: {kind: pattern, pattern: "[A-Z]{2}-[0-9]{4}", copied: true, nullable: true, case: upper}
  word: {kind: enum, values: [größe, naïve, "日本", "a/b c"]}
  amount: {kind: amount, minimum: 0.5, maximum: 312.25, nullable: true}
  count: {kind: integer, minimum: 3, maximum: 41}
  marks: {kind: set, values: [a, b, c, d, e], max_items: 3}
  steps: {kind: list, values: [x, yy, zzz], max_items: 5}
  sure: {kind: boolean}
  verdict: {kind: enum, values: [compliant, violation, no_action]}
"""
TEXT = "agent: order ab-1234 or CD-9999?\ncustomer: CD-9998, sorry"


@cache
def _schema(name: str = "odd") -> Schema:
    return parse_schema(SCHEMA, "odd.yaml") if name == "odd" else load_schema(name)


@cache
def _bytes() -> Vocabulary:
    tokenizer = tiny_byte_tokenizer()
    return Vocabulary(tokenizer, len(tokenizer))


@cache
def _tiny() -> AnswerModel:
    return AnswerModel(tiny_language_model())


def _ids(text: str) -> list[int]:
    ids: list[int] = tiny_byte_tokenizer()(text)["input_ids"]
    return ids


def _answers(prompts: list[str], size: int, **options: Any) -> list[Decoded]:
    grammar = _schema().grammar(TEXT)
    found: list[Decoded] = []
    for start in range(0, len(prompts), size):
        batch = prompts[start : start + size]
        tokens = [_ids(prompt) for prompt in batch]
        found += generate(_tiny(), _bytes(), tokens, [grammar] * len(batch), pad=0, **options)
    return found


def _check(schema: Schema, text: str, grammar_text: str | None = None) -> dict[str, Any]:
    """Strict JSON of the schema's model fields, canonical as it stands."""
    values = schema.parse(text)
    assert schema.answer({**values}) == text
    properties = {field.name: field.json_schema() for field in schema.model_fields}
    jsonschema.Draft202012Validator(
        {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    ).validate(json.loads(text))
    return values


PROMPTS = ["a", "tell me: ", TEXT, "x" * 300, "é" * 20, TEXT * 3, "z"]


def test_fast_forwarding_changes_the_calls_and_nothing_else() -> None:
    fast = _answers(PROMPTS, 1)
    slow = _answers(PROMPTS, 1, fast_forward=False)
    for one, other in zip(fast, slow, strict=True):
        assert one.text == other.text and one.tokens == other.tokens
        assert one.calls < other.calls == len(other.tokens)
        assert [c.token for c in one.choices] == [c.token for c in other.choices]
        for mine, theirs in zip(one.choices, other.choices, strict=True):
            assert mine.raw == pytest.approx(theirs.raw, abs=1e-4)


@pytest.mark.parametrize("size", [2, 7])
def test_batches_of_unequal_prompts_say_what_each_says_alone(size: int) -> None:
    alone, together = _answers(PROMPTS, 1), _answers(PROMPTS, size)
    for one, other in zip(alone, together, strict=True):
        assert one.text == other.text
        for mine, theirs in zip(one.choices, other.choices, strict=True):
            assert mine.raw == pytest.approx(theirs.raw, abs=1e-4)


def test_the_model_is_asked_what_it_would_say_to_the_whole_text() -> None:
    (decoded,) = _answers([TEXT], 1)
    prompt = _ids(TEXT)
    ids = torch.tensor([[*prompt, *decoded.tokens]])
    with torch.no_grad():
        hidden = _tiny().backbone(input_ids=ids, attention_mask=torch.ones_like(ids))
        logits = _tiny().logits(hidden.last_hidden_state)[0].double()
    spelled = 0
    places = {}
    for place, token in enumerate(decoded.tokens):
        places[spelled] = place
        spelled += len(_bytes().bytes_of([token]))
    for choice in decoded.choices:
        behind = logits[len(prompt) + places[choice.start] - 1]
        assert choice.raw == pytest.approx(float(behind.log_softmax(0)[choice.token]), abs=1e-4)
        best = choice.allowed[int(behind[torch.from_numpy(choice.allowed)].argmax())]
        assert choice.token == best


def test_copied_values_are_texts_of_the_transcript() -> None:
    for seed in range(40):
        said = _babble(_schema(), _bytes(), seed, TEXT)
        assert said["order"] in (None, "AB-1234", "CD-9999", "CD-9998")
    without = {_babble(_schema(), _bytes(), seed, "nothing here")["order"] for seed in range(10)}
    assert without == {None}


def _babble(
    schema: Schema, vocabulary: Vocabulary, seed: int, transcript: str | None
) -> dict[str, Any]:
    model = Babbler(vocabulary.size, seed)
    drafts = None
    if seed % 2:  # half of them with guesses, which random logits refuse after some tokens
        (guessed,) = generate(model, vocabulary, [[1]], [schema.grammar(transcript)], pad=0)
        drafts = Drafts([guessed.tokens])
    (decoded,) = generate(
        model, vocabulary, [[1]], [schema.grammar(transcript)], pad=0, drafts=drafts
    )
    assert not any(map(vocabulary.tokens.is_special_token, decoded.tokens))
    return _check(schema, decoded.text)


@pytest.mark.parametrize("name", ["odd", *shipped_schemas()])
def test_adversarial_decodes_are_strictly_valid(name: str) -> None:
    for seed in range(60):
        _babble(_schema(name), _bytes(), seed, TEXT)


@pytest.mark.parametrize("name", ["odd", *shipped_schemas()])
def test_adversarial_decodes_with_a_real_vocabulary(name: str, smollm2_vocabulary: Any) -> None:
    for seed in range(25):
        _babble(_schema(name), smollm2_vocabulary, seed, TEXT)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_adversarial_decodes(smollm2_vocabulary: Any) -> None:
    names = ["odd", *shipped_schemas()]
    for seed in range(10_000):
        _babble(_schema(names[seed % len(names)]), smollm2_vocabulary, seed, TEXT)


def test_forced_tokens_are_those_of_the_tokenizer(
    smollm2_vocabulary: Any, smollm2_tokenizer: Any
) -> None:
    """A gold answer decodes by the tokens that training saw, but for rare splits."""
    schema, equal, total = _schema("service"), 0, 0
    from sparseft.compliance.service import simulate

    for example in simulate(20, 0, "train"):
        text = example.transcript.render()
        gold = smollm2_tokenizer(schema.answer(example.gold), add_special_tokens=False)["input_ids"]
        state = smollm2_vocabulary.start(schema.grammar(text))
        said: list[int] = []
        while not state.ended and len(said) < len(gold):
            forced = state.forced() or [gold[len(said)]]
            state.take(forced)
            said += forced
        total += len(gold)
        equal += sum(a == b for a, b in zip(said, gold, strict=False))
    assert equal / total > 0.99


def test_a_grammar_with_one_answer_asks_the_model_nothing() -> None:
    schema = parse_schema("name: x\nfields: {a: {kind: enum, values: [only]}}", "x.yaml")
    (decoded,) = generate(_tiny(), _bytes(), [_ids("a")], [schema.grammar()], pad=0)
    assert decoded.text == '{"a":"only"}' and not decoded.choices
    assert decoded.calls == 0


def test_probabilities_of_the_critical_field_are_the_models_own() -> None:
    schema = _schema()
    for decoded in _answers(PROMPTS, 1):
        values = schema.parse(decoded.text)
        found = value_probabilities(decoded, schema["verdict"], schema, values, _bytes())
        assert sum(found.values()) == pytest.approx(1.0)
        # Byte by byte the values part at their first letter: the choice's own shares.
        last = decoded.choices[-1]
        assert len(last.allowed) == 3
        for token, share in zip(last.allowed, last.shares, strict=True):
            letter = _bytes().bytes_of([int(token)]).decode()
            (value,) = [name for name in found if name.startswith(letter)]
            assert found[value] == pytest.approx(float(share))
        assert max(found, key=lambda name: found[name]) == values["verdict"]


def test_values_that_part_late_share_what_they_have_in_common() -> None:
    schema = parse_schema(
        "name: x\nfields: {v: {kind: enum, values: [aab, aac, b], nullable: true}}", "x.yaml"
    )
    (decoded,) = generate(_tiny(), _bytes(), [_ids("q")], [schema.grammar()], pad=0)
    values = schema.parse(decoded.text)
    found = value_probabilities(decoded, schema["v"], schema, values, _bytes())
    assert set(found) == {"aab", "aac", "b", "null"}
    assert sum(found.values()) == pytest.approx(1.0)
    shares = field_scores(decoded, schema, values)["v"]
    said = "null" if values["v"] is None else values["v"]
    assert found[said] == pytest.approx(shares.share)


def test_choices_belong_to_the_field_they_decide() -> None:
    schema = _schema()
    for decoded in _answers(PROMPTS, 1):
        values = schema.parse(decoded.text)
        scores = field_scores(decoded, schema, values)
        assert sum(score.choices for score in scores.values()) == len(decoded.choices)
        assert sum(score.raw for score in scores.values()) == pytest.approx(
            sum(choice.raw for choice in decoded.choices)
        )
        assert scores["sure"].choices == 1 and 0 < scores["sure"].share <= 1


def test_without_a_grammar_anything_may_come() -> None:
    decoded = generate_freely(_tiny(), _bytes(), _ids("a"), most=20)
    assert len(decoded.tokens) <= 20
    with pytest.raises(ConfigError):
        _schema().parse(decoded.text)


def test_what_cannot_be_decoded_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one token"):
        generate(_tiny(), _bytes(), [[]], [_schema().grammar()], pad=0)
    with pytest.raises(ConfigError, match="grammar that llguidance can follow"):
        generate(_tiny(), _bytes(), [[1]], ["start: nonsense("], pad=0)


def test_candidates_with_signs_of_grammars_are_spelled_as_they_are() -> None:
    schema = parse_schema(
        'name: x\nfields: {v: {kind: pattern, pattern: "[a-z/|*(){}.+?]{3,9}", '
        "copied: true, nullable: true}}",
        "x.yaml",
    )
    text = "say a|b/c and (x*y) or {q}+ now"
    random.seed(0)
    found = {_babble(schema, _bytes(), seed, text)["v"] for seed in range(60)}
    assert found <= {None, *schema["v"].candidates(text)} and len(found) > 2
