"""A small schema of every kind, and records with values of one's choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparseft.compliance import Example, FieldValue, Record, Transcript, Turn
from sparseft.compliance.schema import Schema, parse_schema

SCHEMA: Schema = parse_schema(
    """
name: demo
critical: {field: verdict, alarm: [violation]}
fields:
  done: {kind: boolean}
  tier: {kind: enum, values: [gold, silver], nullable: true}
  order: {kind: pattern, pattern: "[A-Z]{2}-[0-9]{4}", nullable: true, copied: true, case: upper}
  refund: {kind: amount, minimum: 0, maximum: 500, nullable: true}
  calls: {kind: integer, minimum: 0, maximum: 9}
  gaps: {kind: set, values: [a, b, c]}
  steps: {kind: list, values: [x, y, z], max_items: 6}
  verdict: {kind: enum, values: [compliant, violation, none_due]}
""",
    "demo.yaml",
)

GOLD: dict[str, Any] = {
    "done": True,
    "tier": "gold",
    "order": "AB-1234",
    "refund": 20.0,
    "calls": 3,
    "gaps": ["a", "b"],
    "steps": ["x", "y", "z"],
    "verdict": "compliant",
}


def example(name: str, **changed: Any) -> Example:
    """An example whose gold is GOLD but for some fields."""
    return Example(Transcript(name, (Turn("agent", "hello"),)), {**GOLD, **changed})


def record(
    name: str,
    values: Mapping[str, Any] | None = None,
    *,
    confidence: Mapping[str, float] | None = None,
    review: Sequence[str] = (),
    **changed: Any,
) -> Record:
    """A record of the model's values: GOLD's, or `values`, but for some fields."""
    said = {**(GOLD if values is None else values), **changed}
    fields = {
        key: FieldValue(value, "model", confidence=(confidence or {}).get(key))
        for key, value in said.items()
    }
    return Record(name, "demo", fields, tuple(review))


def perfect(examples: Sequence[Example]) -> list[Record]:
    """Records that say the gold."""
    return [record(each.transcript.id, each.gold) for each in examples]
