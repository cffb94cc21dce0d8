"""What an evaluation says: every field's value, where it comes from, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sparseft.compliance.transcript import Evidence, Json

__all__ = ["FieldValue", "Record", "Source"]

# "model": as decoded; "rule": a rule's own field; "rule override": a rule replaced the model's.
Source = Literal["model", "rule", "rule override"]


@dataclass(frozen=True)
class FieldValue:
    """One field of a record.

    Attributes:
        confidence: calibrated probability that the value is right, in [0, 1]; None where the value
            is a rule's.
        model_value: what the model had said, where a rule replaced it.
    """

    value: Json
    source: Source
    reason: str = ""
    confidence: float | None = None
    evidence: tuple[Evidence, ...] = ()
    model_value: Json = None

    def to_json(self) -> dict[str, Json]:
        """Plain data; keys without content are left out."""
        content: dict[str, Json] = {"value": self.value, "source": self.source}
        if self.reason:
            content["reason"] = self.reason
        if self.confidence is not None:
            content["confidence"] = round(self.confidence, 6)
        if self.evidence:
            content["evidence"] = [[e.turn, e.start, e.end] for e in self.evidence]
        if self.source == "rule override":
            content["model_value"] = self.model_value
        return content


@dataclass(frozen=True)
class Record:
    """All fields of one transcript, in the schema's order.

    Attributes:
        review: why a person should look at it; empty where nobody must.
        error: set where the transcript could not be evaluated; `fields` is empty then.
        notes: figures such as latency in seconds, tokens, model calls; not part of the evaluation.
    """

    transcript_id: str
    schema: str
    fields: Mapping[str, FieldValue]
    review: tuple[str, ...] = ()
    error: str = ""
    notes: Mapping[str, Json] = field(default_factory=dict)

    def values(self) -> dict[str, Json]:
        """The evaluation itself: what the schema's JSON Schema describes."""
        return {name: entry.value for name, entry in self.fields.items()}

    def to_json(self) -> dict[str, Json]:
        """Plain data: id, schema, values, and for each field where it comes from."""
        content: dict[str, Json] = {"id": self.transcript_id, "schema": self.schema}
        if self.error:
            content["error"] = self.error
            return content
        content["values"] = self.values()
        content["provenance"] = {
            name: {key: value for key, value in entry.to_json().items() if key != "value"}
            for name, entry in self.fields.items()
        }
        content["review"] = list(self.review)
        if self.notes:
            content["notes"] = dict(self.notes)
        return content
