"""The predictor that every other one has to beat: each field's most frequent training value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sparseft.compliance.fields import dumps
from sparseft.compliance.record import FieldValue, Record
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Example, Json, Transcript
from sparseft.errors import DataError

__all__ = ["majority_records", "majority_values"]


def majority_values(schema: Schema, train: Sequence[Example]) -> dict[str, Json]:
    """By field: the most frequent gold value, whole sets and lists too.

    Among equally frequent ones it is the first by its JSON text, so that no order matters.

    Raises:
        DataError: there are no examples.
    """
    if not train:
        raise DataError("expected training examples for the majority, got none; add some.")
    found: dict[str, Json] = {}
    for field in schema.fields:
        values = [field.canonical(example.gold[field.name]) for example in train]
        texts = {dumps(value): value for value in values}
        counts = Counter(dumps(value) for value in values)
        found[field.name] = texts[min(counts, key=lambda text: (-counts[text], text))]
    return found


def majority_records(
    schema: Schema, train: Sequence[Example], transcripts: Sequence[Transcript]
) -> list[Record]:
    """The majority as an arm of its own: the same values for every transcript."""
    values = majority_values(schema, train)
    fields = {
        name: FieldValue(value, "rule", "the most frequent value of the training examples")
        for name, value in values.items()
    }
    return [Record(transcript.id, schema.name, fields) for transcript in transcripts]
