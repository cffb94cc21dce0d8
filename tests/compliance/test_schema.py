"""A schema's file: what follows from it, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.compliance.fields import Field, whole_numbers
from sparseft.compliance.schema import Schema, load_schema, parse_schema, shipped_schemas
from sparseft.errors import ConfigError

DEMO = """
name: demo
instruction: Fill the
  record.
critical: {field: verdict, alarm: [violation]}
fields:
  intent: {kind: enum, values: [refund, other], nullable: true}
  done: {kind: boolean}
  order: {kind: pattern, pattern: "[A-Z]{2}-[0-9]{4}", copied: true, nullable: true, case: upper}
  mail: {kind: pattern, pattern: "[a-z0-9.]{1,20}@[a-z]{1,10}\\\\.com", nullable: true}
  amount: {kind: amount, minimum: 0.5, maximum: 312.25, nullable: true}
  count: {kind: integer, minimum: 0, maximum: 137}
  steps: {kind: set, values: [a, b, c, d], max_items: 3}
  order_of: {kind: list, values: [x, y], max_items: 4}
  verdict: {kind: enum, values: [compliant, violation]}
  total: {kind: integer, minimum: 0, maximum: 9, by: rule, rule: demo.total}
"""

GOLD = {
    "intent": None,
    "done": True,
    "order": "cd-9999",
    "mail": "a.b@x.com",
    "amount": 12.5,
    "count": 99,
    "steps": ["d", "a"],
    "order_of": ["x", "x"],
    "verdict": "violation",
    "total": 3,
}


@pytest.fixture
def schema() -> Schema:
    return parse_schema(DEMO, "demo.yaml")


def test_an_answer_is_canonical_json_of_the_models_fields(schema: Schema) -> None:
    text = schema.answer(GOLD)
    assert text == (
        '{"intent":null,"done":true,"order":"CD-9999","mail":"a.b@x.com","amount":12.50,'
        '"count":99,"steps":["a","d"],"order_of":["x","x"],"verdict":"violation"}'
    )
    assert schema.parse(text) == {
        **{key: value for key, value in GOLD.items() if key != "total"},
        "order": "CD-9999",
        "steps": ["a", "d"],
    }


def test_spans_are_the_values_in_the_answer(schema: Schema) -> None:
    text = schema.answer(GOLD)
    values = [text[start:end] for start, end in schema.spans(GOLD)]
    expected = ["null", "true", '"CD-9999"', '"a.b@x.com"', "12.50", "99"]
    assert values == [*expected, '["a","d"]', '["x","x"]', '"violation"']


def test_json_schema_accepts_canonical_records_and_nothing_else(schema: Schema) -> None:
    check = jsonschema.Draft202012Validator(schema.json_schema())
    record = schema.canonical(GOLD)
    check.validate(record)
    for wrong in (
        {**record, "more": 1},
        {key: value for key, value in record.items() if key != "count"},
        {**record, "count": 138},
        {**record, "steps": ["a", "a"]},
        {**record, "order": "CD-99"},
        {**record, "done": None},
    ):
        assert not check.is_valid(wrong)
        with pytest.raises(ConfigError):
            schema.canonical(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"intent":null}',
        "[1]",
        DEMO,
        '{"intent":null,"intent":null}',
        "NaN",
        '{"count": Infinity}',
    ],
)
def test_parse_refuses_what_is_no_answer(schema: Schema, text: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        schema.parse(text)


def test_the_critical_field_says_what_is_an_alarm(schema: Schema) -> None:
    assert schema.is_alarm(GOLD)
    assert not schema.is_alarm({**GOLD, "verdict": "compliant"})


def test_all_by_model_drops_the_rules(schema: Schema) -> None:
    plain = schema.with_all_by_model()
    assert [field.name for field in plain.model_fields] == list(schema.names)
    assert '"total":3}' in plain.answer(GOLD)


def test_what_a_rule_may_find_a_model_may_only_copy() -> None:
    text = DEMO.replace(
        "  total:", '  name: {kind: pattern, pattern: "[a-z+]+", by: rule, rule: r}\n  total:'
    )
    schema = parse_schema(text, "demo.yaml")
    field = schema.with_all_by_model()["name"]
    assert not schema["name"].copied
    assert field.copied and field.nullable and field.by == "model"
    assert not schema.with_all_by_model()["mail"].copied  # of bounded length


def test_candidates_are_whole_ids_in_order_once(schema: Schema) -> None:
    text = "agent: ab-1234?\ncustomer: no, CD-9999, not AB-1234 or XAB-12345 or AB-12345"
    assert schema["order"].candidates(text) == ["AB-1234", "CD-9999"]


def _with(**changes: Any) -> str:
    """The demo schema's text with lines of fields replaced."""
    lines = DEMO.splitlines()
    for name, line in changes.items():
        place = next(i for i, old in enumerate(lines) if old.startswith(f"  {name}:"))
        lines[place] = f"  {name}: {line}"
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "the schema to be a mapping"),
        ("a: [", "expected YAML"),
        (_with(done="{kind: bool}"), "done.kind"),
        (_with(done="{kind: boolean, colour: red}"), "only known keys in done"),
        (_with(done="{kind: boolean, values: [a]}"), "only known keys in done"),
        (_with(intent="{kind: enum}"), "a values for intent"),
        (_with(intent="{kind: enum, values: [yes, no]}"), "quote it"),
        (_with(intent="{kind: enum, values: [a, a]}"), "different texts"),
        (_with(intent="{kind: enum, values: []}"), "different texts"),
        (_with(count="{kind: integer, minimum: 5, maximum: 4}"), "minimum"),
        (_with(count="{kind: integer, minimum: -5, maximum: 4}"), "minimum"),
        (_with(count="{kind: integer, minimum: 0.5, maximum: 4}"), "whole numbers"),
        (_with(count="{kind: integer, minimum: a, maximum: 4}"), "count.minimum"),
        (_with(steps="{kind: set, values: [a], nullable: true}"), "an empty list says it"),
        (_with(order_of="{kind: list, values: [a]}"), "a max_items for order_of"),
        (_with(order_of="{kind: list, values: [a], max_items: 0}"), "1 or more"),
        (
            _with(order_of="{kind: list, values: [a], max_items: 2, given: nobody}"),
            "order_of.given",
        ),
        (_with(order_of="{kind: list, values: [a], max_items: 2, given: steps}"), "order_of.given"),
        (_with(steps="{kind: set, values: [a], max_items: 2, rule_below: 0.5}"), "rule_below"),
        (_with(order='{kind: pattern, pattern: "[A-Z"}'), "regular expression"),
        (_with(order='{kind: pattern, pattern: "A{0,2}", nullable: true}'), "empty text"),
        (_with(order="{kind: pattern, pattern: 'A\"', nullable: true}"), "without quotes"),
        (_with(order='{kind: pattern, pattern: "A", copied: true}'), "to be nullable"),
        (_with(order='{kind: pattern, pattern: "A", case: title}'), "upper, lower or keep"),
        (_with(mail='{kind: pattern, pattern: "[a-z]+@x"}'), "bounded repeats"),
        (_with(mail='{kind: pattern, pattern: "a{2,}"}'), "bounded repeats"),
        (_with(total="{kind: boolean, by: rule}"), "the name of a rule"),
        (_with(total="{kind: boolean, by: hand}"), "model or rule"),
        (DEMO.replace("  done:", "  Done:"), "field names"),
        (DEMO.replace("  done: {kind: boolean}", "  intent: {kind: boolean}"), "twice"),
        (DEMO.replace("field: verdict", "field: nothing"), "critical.field"),
        (DEMO.replace("field: verdict", "field: done"), "critical.field"),
        (DEMO.replace("[violation]", "[crime]"), "critical.alarm"),
        (DEMO.replace("[violation]", "[compliant, violation]"), "critical.alarm"),
        (DEMO.replace("name: demo", "name: De Mo"), "name to be a word"),
        ("name: x\nfields: {a: {kind: boolean, by: rule, rule: r}}", "by: model"),
        ("name: x\nfields: {}", "at least one field"),
    ],
)
def test_a_schema_that_contradicts_itself_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"expected .*; change|expected YAML") as caught:
        parse_schema(text, "demo.yaml")
    assert said in str(caught.value)
    assert "demo.yaml" in str(caught.value)


def test_a_missing_file_lists_the_shipped_schemas(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one of .*YAML file"):
        load_schema(tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="YAML file"):
        load_schema(binary)


@pytest.mark.parametrize("name", shipped_schemas())
def test_shipped_schemas_load_and_are_valid(name: str) -> None:
    schema = load_schema(name)
    assert schema.name == name
    jsonschema.Draft202012Validator.check_schema(schema.json_schema())
    assert schema.critical is not None
    assert all(field.description for field in schema.fields)


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_whole_numbers_spells_exactly_the_range(first: int, second: int) -> None:
    low, high = sorted((first, second))
    pattern = re.compile(whole_numbers(range(low, high + 1)))
    for number in {0, low - 1, low, (low + high) // 2, high, high + 1, 10 * high + 1}:
        if number >= 0:
            assert bool(pattern.fullmatch(str(number))) == (low <= number <= high)
    assert not pattern.fullmatch(f"0{high}") or high == 0


@given(st.floats(0.5, 312.25))
def test_amounts_are_written_as_their_grammar_admits(amount: float) -> None:
    field = Field(name="amount", kind="amount", minimum=0.5, maximum=312.25)
    _, terminal = field.grammar()
    pattern = re.compile(terminal.split(": /", 1)[1][:-1])
    text = field.text(amount)
    assert pattern.fullmatch(text)
    assert json.loads(text) == pytest.approx(amount, abs=0.0051)


@pytest.mark.parametrize("text", ["0.49", "312.26", "313.00", "12.5", "012.50", "12", "-1.00"])
def test_amounts_outside_are_not_admitted(text: str) -> None:
    field = Field(name="amount", kind="amount", minimum=0.5, maximum=312.25)
    pattern = re.compile(field.grammar()[1].split(": /", 1)[1][:-1])
    assert not pattern.fullmatch(text)
