"""Compliance evaluation: a model reads a transcript, rules complete the record."""

from sparseft.compliance.record import FieldValue, Record
from sparseft.compliance.rules import Finding, apply_rules, rule
from sparseft.compliance.schema import Schema, load_schema, shipped_schemas
from sparseft.compliance.transcript import Evidence, Example, Transcript, Turn

__all__ = [
    "Evidence",
    "Example",
    "FieldValue",
    "Finding",
    "Record",
    "Schema",
    "Transcript",
    "Turn",
    "apply_rules",
    "load_schema",
    "rule",
    "shipped_schemas",
]
