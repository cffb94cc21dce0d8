"""Rules: pure, named functions that complete or correct what a model read.

A rule sees the transcript and the values so far (the model's fields, and the rules' fields that
stand before it in the schema) and returns a `Finding`, or None where it has nothing to say. A
field `by: rule` must get a finding; a field `by: model` keeps the model's value without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sparseft.compliance.fields import Field
from sparseft.compliance.record import FieldValue, Record
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Evidence, Json, Transcript
from sparseft.errors import ConfigError

__all__ = ["Finding", "Rule", "apply_rules", "check_rules", "rule", "rule_names", "rules"]


@dataclass(frozen=True)
class Finding:
    """What a rule says: a value, why, and where in the transcript it shows.

    Attributes:
        review: a person should look at the record, for this reason.
    """

    value: Json
    reason: str
    evidence: tuple[Evidence, ...] = ()
    review: bool = False


Rule = Callable[[Transcript, Mapping[str, Json]], Finding | None]

_RULES: dict[str, Rule] = {}


def rule(name: str) -> Callable[[Rule], Rule]:
    """Make a function known as the rule `name`; a schema's file then refers to it.

    Raises:
        ConfigError: the name is taken by another function.
    """

    def keep(function: Rule) -> Rule:
        if _RULES.setdefault(name, function) is not function:
            raise ConfigError(f"expected a new rule name, got {name!r} twice; rename one of them.")
        return function

    return keep


def rule_names() -> tuple[str, ...]:
    """All registered rules, sorted."""
    return tuple(sorted(_RULES))


def rules() -> Mapping[str, Rule]:
    """All registered rules by name."""
    return MappingProxyType(_RULES)


def check_rules(schema: Schema) -> None:
    """Refuse a schema that names a rule that is not registered.

    Raises:
        ConfigError: it does; the message lists those there are.
    """
    for field in schema.fields:
        if field.rule is not None and field.rule not in _RULES:
            raise ConfigError(
                f"expected {field.name}.rule to be one of {', '.join(rule_names())}, got "
                f"{field.rule!r}; change the schema {schema.name}, or register the rule before."
            )


def apply_rules(
    schema: Schema,
    transcript: Transcript,
    model_values: Mapping[str, Json],
    confidences: Mapping[str, float] | None = None,
    evidence: Mapping[str, tuple[Evidence, ...]] | None = None,
) -> Record:
    """A whole record from what the model read.

    Args:
        model_values: canonical values of the schema's model fields.
        confidences: of the model's fields; what they are surest of, some rules leave alone (see
            `Field.rule_below`).
        evidence: where a model's value stands in the transcript, where that is known.

    Raises:
        ConfigError: a rule is not registered, gave no value for its own field, or one that does
            not fit the field.
    """
    check_rules(schema)
    fields: dict[str, FieldValue] = {}
    values: dict[str, Json] = dict(model_values)
    review: list[str] = []
    for field in schema.fields:
        finding = None
        if field.rule is not None and not _sure(field, confidences):
            finding = _RULES[field.rule](transcript, MappingProxyType(values))
        if finding is None and field.by == "rule":
            raise ConfigError(
                f"expected the rule {field.rule} to give {field.name}, got nothing; it must return "
                "a Finding for every transcript."
            )
        said = model_values.get(field.name)
        confidence = (confidences or {}).get(field.name)
        places = (evidence or {}).get(field.name, ())
        if finding is None:
            fields[field.name] = FieldValue(said, "model", confidence=confidence, evidence=places)
            continue
        if finding.review:
            review.append(f"{field.name}: {finding.reason}")
        value = field.canonical(finding.value)
        values[field.name] = value
        if field.by == "rule":
            entry = FieldValue(value, "rule", finding.reason, evidence=finding.evidence)
        elif value == said:
            entry = FieldValue(
                value, "model", f"confirmed: {finding.reason}", confidence,
                finding.evidence or places,
            )  # fmt: skip
        else:
            entry = FieldValue(
                value,
                "rule override",
                finding.reason,
                evidence=finding.evidence,
                model_value=said,
            )
        fields[field.name] = entry
    return Record(transcript.id, schema.name, fields, tuple(review))


def _sure(field: Field, confidences: Mapping[str, float] | None) -> bool:
    """Whether the model is so sure of its value that the field's rule has no say."""
    if field.rule_below is None or confidences is None:
        return False
    return confidences.get(field.name, 0.0) >= field.rule_below
