"""Transcripts and examples as rows for a reader of segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparseft.compliance.encoder.candidates import Candidate, candidates
from sparseft.compliance.encoder.plan import FieldPlan
from sparseft.compliance.encoder.segments import Segments, split
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Evidence, Example, Transcript
from sparseft.data.segments import RowTargets, SegmentRow

__all__ = ["Read", "read", "read_example"]


@dataclass(frozen=True)
class Read:
    """A transcript as a model reads it, and what its row's numbers stand for."""

    row: SegmentRow
    segments: Segments
    candidates: dict[str, list[Candidate]]

    def with_candidates(self, kept: Mapping[str, Sequence[int]]) -> Read:
        """The same with some of each pointer's candidates, by their numbers."""
        own = {name: [self.candidates[name][k] for k in numbers] for name, numbers in kept.items()}
        return Read(self.row, self.segments, own)


def read(transcript: Transcript, schema: Schema, plan: FieldPlan) -> Read:
    """A transcript without targets."""
    segments = split(transcript)
    found: dict[str, list[Candidate]] = {}
    places: dict[str, tuple[tuple[int, int, int], ...]] = {}
    for name in plan.layout.pointers:
        inside = [
            (each, segments.inside(each.place)) for each in candidates(schema[name], transcript)
        ]
        found[name] = [each for each, where in inside if where is not None]
        places[name] = tuple(where for _, where in inside if where is not None)
    return Read(SegmentRow(segments.texts, places), segments, found)


def read_example(example: Example, schema: Schema, plan: FieldPlan) -> Read:
    """A transcript with its gold, and its evidence where there is some, as targets."""
    got = read(example.transcript, schema, plan)
    gold = {field.name: field.canonical(example.gold[field.name]) for field in schema.model_fields}
    tags: dict[str, tuple[int, ...]] = {}
    labels: dict[str, tuple[int, ...]] = {}
    where: dict[str, tuple[tuple[int, ...], ...]] = {}
    shown: dict[str, tuple[tuple[int, ...], ...]] = {}
    for name in plan.layout.tags:
        order = schema[name].choices
        tags[name] = tuple(order.index(item) + 1 for item in gold[name])
        places = _places(example, name, got.segments, len(tags[name]))
        if places is not None:
            where[name] = places
    for name in plan.layout.labels:
        field = schema[name]
        if field.kind == "boolean":
            labels[name] = (0,) if gold[name] else ()
            at = example.evidence.get(name)
            if at is not None:
                both = tuple(dict.fromkeys(s for place in at for s in got.segments.at(place)))
                shown[name] = (both,) if gold[name] else ()
        else:
            labels[name] = tuple(field.choices.index(item) for item in gold[name])
            places = _places(example, name, got.segments, len(labels[name]))
            if places is not None:
                shown[name] = places
    right: dict[str, tuple[int, ...] | None] = {}
    for name in plan.layout.pointers:
        meant = tuple(k for k, each in enumerate(got.candidates[name]) if each.value == gold[name])
        right[name] = meant if meant or gold[name] is None else None
    targets = RowTargets(
        tags,
        where,
        labels,
        shown,
        {name: own.index(gold[name]) for name, own in plan.values.items()},
        right,
    )
    row = SegmentRow(got.row.segments, got.row.candidates, targets)
    return Read(row, got.segments, got.candidates)


def _places(
    example: Example, name: str, segments: Segments, items: int
) -> tuple[tuple[int, ...], ...] | None:
    """The segments of each item's evidence; None where there is none for some item."""
    evidence: tuple[Evidence, ...] | None = example.evidence.get(name)
    if evidence is None or len(evidence) != items:
        return None
    return tuple(segments.at(place) for place in evidence)
