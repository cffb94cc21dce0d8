"""The second shipped evaluation: its transcripts, its rules, and a schema without any rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import llguidance
import llguidance.hf
import pytest

from sparseft.compliance import Example, Record, Transcript, Turn, apply_rules, load_schema
from sparseft.compliance import appointments as rules
from sparseft.compliance.jsonl import read_jsonl
from sparseft.compliance.schema import Schema, parse_schema
from sparseft.compliance.serving import evaluate_stream
from sparseft.compliance.transcript import Json
from tests.tiny import tiny_byte_tokenizer

_DATA = Path(__file__).parent / "data" / "appointments.jsonl"
_SCHEMA = load_schema("appointments")
_PLAIN: Mapping[str, Json] = {
    "request": "other",
    "patient": "caller",
    "birth_date": None,
    "symptoms": [],
    "advice": "none",
    "outcome": "none",
    "day": None,
    "time": None,
    "triage": "no_red_flag",
}


def _examples() -> list[Example]:
    examples = list(read_jsonl(_DATA, _SCHEMA, True))
    assert len(examples) == 6
    assert all(isinstance(each, Example) for each in examples), examples
    return [each for each in examples if isinstance(each, Example)]


_EXAMPLES = _examples()
_NAMES = [each.transcript.id for each in _EXAMPLES]


def _call(*said: str, speaker: str = "customer") -> Transcript:
    return Transcript("c", tuple(Turn(speaker, text) for text in said))  # type: ignore[arg-type]


def _ruled(transcript: Transcript, **said: Json) -> Record:
    return apply_rules(_SCHEMA, transcript, {**_PLAIN, **said})


@pytest.mark.parametrize("example", _EXAMPLES, ids=_NAMES)
def test_rules_complete_a_right_reading_to_the_gold_record(example: Example) -> None:
    said = {field.name: example.gold[field.name] for field in _SCHEMA.model_fields}
    record = apply_rules(_SCHEMA, example.transcript, said)
    assert record.values() == dict(example.gold)
    assert all(entry.source != "rule override" for entry in record.fields.values())
    jsonschema.validate(record.values(), _SCHEMA.json_schema())


@pytest.mark.parametrize("example", _EXAMPLES, ids=_NAMES)
def test_rules_find_danger_and_date_that_a_blind_model_missed(example: Example) -> None:
    wanted = {key: example.gold[key] for key in ("advice", "outcome")}
    record = _ruled(example.transcript, **wanted)
    assert record.values()["symptoms"] == example.gold["symptoms"]
    assert record.values()["birth_date"] == example.gold["birth_date"]
    assert record.values()["identity"] == example.gold["identity"]
    assert _SCHEMA.is_alarm(record.values()) == (example.gold["triage"] == "missed")


@pytest.mark.parametrize("example", _EXAMPLES, ids=_NAMES)
def test_the_grammar_of_a_transcript_admits_its_gold_answer(example: Example) -> None:
    tokenizer = tiny_byte_tokenizer()
    grammar = llguidance.LLMatcher.grammar_from_lark(_SCHEMA.grammar(example.transcript.render()))
    matcher = llguidance.LLMatcher(llguidance.hf.from_tokenizer(tokenizer), grammar)
    tokens = tokenizer(_SCHEMA.answer(example.gold), add_special_tokens=False)["input_ids"]
    assert matcher.consume_tokens(tokens) and matcher.is_accepting()


def test_the_transcripts_show_every_request_outcome_and_verdict() -> None:
    for name in ("request", "outcome", "triage", "identity", "advice", "patient"):
        assert {each.gold[name] for each in _EXAMPLES} == set(_SCHEMA[name].choices), name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("My chest hurts when I lie down.", ["chest"]),
        ("I can’t breathe properly", ["breath"]),
        ("I can't breathe, and there's a tightness in my chest", ["chest", "breath"]),
        ("Her mouth is drooping and her words come out slurred.", ["stroke"]),
        ("The bleeding won't stop", ["bleeding"]),
        ("He passed out again.", ["fainting"]),
        ("I want to end my life", ["self_harm"]),
        ("I don't feel well, chest pain since noon", ["chest"]),
        ("No fever but shortness of breath", ["breath"]),
        ("No chest pain or shortness of breath.", []),
        ("He hasn't had any chest pain", []),
        ("She has not passed out.", []),
        ("My purse is heavy and the trains are out", []),
        ("Where is the suicidality leaflet?", []),
    ],
)
def test_symptoms_that_are_named_and_not_denied(text: str, found: list[str]) -> None:
    record = _ruled(_call("Hello.", text))
    assert record.values()["symptoms"] == found
    for place in record.fields["symptoms"].evidence:
        assert place.turn == 1 and place.end <= len(text)
        assert not text[place.start : place.end].startswith(" ")


def test_what_only_the_agent_says_is_no_symptom() -> None:
    assert _ruled(_call("Any chest pain?", speaker="agent")).values()["symptoms"] == []


def test_a_symptom_of_the_model_stays_beside_those_of_the_rule() -> None:
    record = _ruled(_call("He passed out"), symptoms=["stroke"])
    assert record.values()["symptoms"] == ["stroke", "fainting"]
    assert record.fields["symptoms"].source == "rule override"
    assert record.fields["symptoms"].model_value == ["stroke"]


@pytest.mark.parametrize(
    ("symptoms", "advice", "said", "becomes"),
    [
        (["chest"], "none", "no_red_flag", "missed"),
        (["chest"], "none", "escalated", "missed"),
        (["chest"], "nurse", "escalated", "escalated"),
        (["chest"], "emergency", "missed", "missed"),
        ([], "none", "missed", "missed"),
        ([], "none", "no_red_flag", "no_red_flag"),
    ],
)
def test_triage_raises_alarms_and_lowers_none(
    symptoms: list[str], advice: str, said: str, becomes: str
) -> None:
    record = _ruled(_call("Hello."), symptoms=symptoms, advice=advice, triage=said)
    assert record.values()["triage"] == becomes


@pytest.mark.parametrize(
    ("texts", "said", "becomes"),
    [
        (["01/02/1980", "sorry, 02/02/1980"], "01/02/1980", "02/02/1980"),
        (["31/02/1980"], "31/02/1980", None),
        (["31/02/1980 or rather 03/02/1980"], None, "03/02/1980"),
        (["the invoice of 101/02/19801"], None, None),
        (["01/02/0980"], None, None),
    ],
)
def test_the_date_of_birth_is_the_last_real_one(
    texts: list[str], said: str | None, becomes: str | None
) -> None:
    assert _ruled(_call(*texts), birth_date=said).values()["birth_date"] == becomes


def test_identity_follows_outcome_and_corrected_date() -> None:
    told = _call("born on 01/02/1980")
    assert _ruled(told, outcome="moved").values()["identity"] == "given"
    assert _ruled(_call("hello"), outcome="booked").values()["identity"] == "missing"
    assert _ruled(told).values()["identity"] == "na"


def test_rules_are_pure() -> None:
    transcript = _EXAMPLES[0].transcript
    values = dict(_PLAIN)
    for each in (rules.birth_date, rules.symptoms, rules.identity, rules.triage):
        assert each(transcript, values) == each(transcript, values)
    assert values == dict(_PLAIN)


class _Keywords:
    """Reads a user's schema without a model."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def evaluate(self, transcripts: list[Transcript]) -> list[Record]:
        records = []
        for each in transcripts:
            text = each.render().lower()
            said = {"wants": "cancel" if "off the list" in text else "other", "thanked": False}
            said["thanked"] = "thank" in text
            records.append(apply_rules(self.schema, each, said))
        return records


def test_a_users_schema_needs_no_code_and_no_rules(tmp_path: Path) -> None:
    schema = parse_schema(
        "name: mine\n"
        "fields:\n"
        "  wants: {kind: enum, values: [cancel, other]}\n"
        "  thanked: {kind: boolean}\n",
        "mine.yaml",
    )
    counts = evaluate_stream(_Keywords(schema), _DATA, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert counts.evaluated == 6
    assert [line["id"] for line in lines if line["values"]["wants"] == "cancel"] == ["cancelled"]
    assert [line["id"] for line in lines if line["values"]["thanked"]] == ["booked"]
