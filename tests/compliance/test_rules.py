"""Rules complete and correct a record, and say so."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sparseft.compliance import Evidence, Finding, Transcript, Turn, apply_rules, rules
from sparseft.compliance.rules import rule
from sparseft.compliance.schema import Schema, parse_schema
from sparseft.compliance.transcript import Json
from sparseft.errors import ConfigError

_SCHEMA = """
name: demo
critical: {field: verdict, alarm: [violation]}
fields:
  count: {kind: integer, minimum: 0, maximum: 9}
  double: {kind: integer, minimum: 0, maximum: 9, by: rule, rule: demo.double}
  verdict: {kind: enum, values: [compliant, violation], rule: demo.verdict}
"""
_TRANSCRIPT = Transcript("t", (Turn("agent", "hello"),))


@pytest.fixture
def schema(monkeypatch: pytest.MonkeyPatch) -> Schema:
    monkeypatch.setattr(rules, "_RULES", dict(rules._RULES))

    @rule("demo.double")
    def double(_: Transcript, values: Mapping[str, Json]) -> Finding:
        return Finding(2 * values["count"], "twice the count", (Evidence(0, 0, 5),))

    @rule("demo.verdict")
    def verdict(_: Transcript, values: Mapping[str, Json]) -> Finding | None:
        return Finding("violation", "too many") if values["double"] > 4 else None

    return parse_schema(_SCHEMA, "demo.yaml")


def test_every_field_says_where_it_comes_from(schema: Schema) -> None:
    record = apply_rules(
        schema, _TRANSCRIPT, {"count": 3, "verdict": "compliant"}, {"count": 0.9, "verdict": 0.6}
    )
    assert record.values() == {"count": 3, "double": 6, "verdict": "violation"}
    plain = record.to_json()["provenance"]
    assert plain["count"] == {"source": "model", "confidence": 0.9}
    assert plain["double"] == {
        "source": "rule",
        "reason": "twice the count",
        "evidence": [[0, 0, 5]],
    }
    assert plain["verdict"] == {
        "source": "rule override",
        "reason": "too many",
        "model_value": "compliant",
    }


def test_a_rule_without_a_finding_leaves_the_models_value(schema: Schema) -> None:
    record = apply_rules(schema, _TRANSCRIPT, {"count": 1, "verdict": "compliant"})
    assert record.fields["verdict"].source == "model"


def test_a_rule_that_agrees_confirms(schema: Schema) -> None:
    record = apply_rules(
        schema, _TRANSCRIPT, {"count": 4, "verdict": "violation"}, {"verdict": 0.7}
    )
    entry = record.fields["verdict"]
    assert (entry.source, entry.confidence, entry.reason) == ("model", 0.7, "confirmed: too many")


def test_a_rules_value_must_fit_the_field(schema: Schema) -> None:
    with pytest.raises(ConfigError, match="double to be a whole number from 0 to 9"):
        apply_rules(schema, _TRANSCRIPT, {"count": 5, "verdict": "compliant"})


def test_unknown_rules_are_refused_with_those_there_are(schema: Schema) -> None:
    other = parse_schema(_SCHEMA.replace("demo.double", "demo.treble"), "demo.yaml")
    with pytest.raises(ConfigError, match=r"double.rule to be one of .*demo.verdict"):
        apply_rules(other, _TRANSCRIPT, {"count": 1, "verdict": "compliant"})


def test_a_rule_can_ask_for_a_person(schema: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        rules._RULES, "demo.double", lambda transcript, values: Finding(1, "odd", review=True)
    )
    record = apply_rules(schema, _TRANSCRIPT, {"count": 1, "verdict": "compliant"})
    assert record.review == ("double: odd",)


def test_a_name_belongs_to_one_function(schema: Schema) -> None:
    with pytest.raises(ConfigError, match="twice"):
        rule("demo.double")(lambda transcript, values: None)


def test_a_rule_cannot_change_what_others_see(
    schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meddle(_: Transcript, values: Mapping[str, Json]) -> Finding:
        values["count"] = 9  # type: ignore[index]
        return Finding(1, "")

    monkeypatch.setitem(rules._RULES, "demo.double", meddle)
    with pytest.raises(TypeError):
        apply_rules(schema, _TRANSCRIPT, {"count": 1, "verdict": "compliant"})
