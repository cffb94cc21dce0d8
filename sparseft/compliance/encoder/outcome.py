"""From the scores of a reader of segments to values, how sure they are, and where they stand.

Lists are read as connectionist temporal classification does: tags in order, the same tag of
neighbouring segments once. Fields are independent given the text, so other ways to read it are
drawn field by field; what differs between the draws is what the model is unsure of.

Legend: n segments of one text, K tags, m candidates, C values, D draws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparseft.compliance.answer import Answer, Hypothesis
from sparseft.compliance.encoder.plan import FieldPlan
from sparseft.compliance.encoder.rows import Read
from sparseft.compliance.fields import Field
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Evidence, Json

__all__ = ["TextScores", "answer_of"]

_DRAWS = 128
_LEAST_PLACE = 0.25  # of the likeliest place of a value
_SURE = 0.999  # of a likeliest value: others are not drawn


@dataclass(frozen=True)
class TextScores:
    """One text's probabilities, of segments without the summary.

    Attributes:
        tags: by list [n, K + 1].
        labels: by name [C].
        choices: by name [C].
        pointers: by name [m + 1], the last of no candidate.
        segments: by label and choice the segments' scores [n, C].
    """

    tags: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    choices: dict[str, np.ndarray]
    pointers: dict[str, np.ndarray]
    segments: dict[str, np.ndarray]


@dataclass(frozen=True)
class _Field:
    """A field's value, its probability, its places, and how to draw another value."""

    value: Json
    share: float
    places: tuple[Evidence, ...]
    draw: Callable[[np.random.Generator, int], list[Json]] | None


def answer_of(
    read: Read, scores: TextScores, schema: Schema, plan: FieldPlan, draws: int = _DRAWS
) -> Answer:
    """Likeliest values and other ways to read a transcript; the same scores give the same draws.

    Args:
        draws: D; 0 leaves out the other ways.
    """
    fields = {
        field.name: _FORMS[_form(field.name, plan)](field, read, scores, plan)
        for field in schema.model_fields
    }
    values = {name: entry.value for name, entry in fields.items()}
    critical: dict[str, float] = {}
    if schema.critical in plan.values:
        own = scores.choices[schema.critical]
        critical = {
            str(value): float(p) for value, p in zip(plan.values[schema.critical], own, strict=True)
        }
    return Answer(
        values,
        {name: entry.share for name, entry in fields.items()},
        critical,
        _hypotheses(values, fields, draws),
        {name: entry.places for name, entry in fields.items() if entry.places},
    )


def _form(name: str, plan: FieldPlan) -> str:
    layout = plan.layout
    if name in layout.tags:
        return "tags"
    if name in layout.labels:
        return "labels"
    return "choices" if name in layout.choices else "pointers"


def _hypotheses(
    values: dict[str, Json], fields: dict[str, _Field], draws: int
) -> tuple[Hypothesis, ...]:
    random = np.random.default_rng(0)
    open_fields = {n: entry.draw for n, entry in fields.items() if entry.draw is not None}
    if not open_fields or not draws:
        return (Hypothesis(values, 1.0),)
    drawn = {name: draw(random, draws) for name, draw in open_fields.items()}
    counts: Counter[tuple[str, ...]] = Counter()
    kept: dict[tuple[str, ...], dict[str, Json]] = {}
    for number in range(draws):
        own = {**values, **{name: each[number] for name, each in drawn.items()}}
        key = tuple(repr(own[name]) for name in drawn)
        counts[key] += 1
        kept[key] = own
    return tuple(Hypothesis(kept[key], count / draws) for key, count in counts.most_common())


def _list(field: Field, read: Read, scores: TextScores, _: FieldPlan) -> _Field:
    chances = scores.tags[field.name]  # [n, K + 1]
    most = field.max_items or len(chances)
    best = chances.argmax(axis=1) if len(chances) else np.zeros(0, dtype=int)
    starts = _starts(best)[:most]
    value = [field.choices[best[k] - 1] for k in starts]
    places = tuple(_whole(read, best, k) for k in starts)
    share = float(np.prod(chances.max(axis=1))) if len(chances) else 1.0
    unsure = np.flatnonzero(chances.max(axis=1) < _SURE) if len(chances) else np.zeros(0, int)

    def draw(random: np.random.Generator, count: int) -> list[Json]:
        tags = np.tile(best, (count, 1))
        for k in unsure:
            tags[:, k] = random.choice(chances.shape[1], size=count, p=_exact(chances[k]))
        return [[field.choices[row[k] - 1] for k in _starts(row)[:most]] for row in tags]

    return _Field(value, share, places, draw if len(unsure) else None)


def _starts(tags: np.ndarray) -> list[int]:
    """Segments that begin an item: a tag that the segment before does not have."""
    before = np.concatenate([[0], tags[:-1]]) if len(tags) else tags
    return [int(k) for k in np.flatnonzero((tags != 0) & (tags != before))]


def _whole(read: Read, tags: np.ndarray, start: int) -> Evidence:
    """The stretch of an item: its segments as far as they lie in one turn."""
    stretches = read.segments.stretches
    last = start
    while (
        last + 1 < len(tags)
        and tags[last + 1] == tags[start]
        and stretches[last + 1].turn == stretches[start].turn
    ):
        last += 1
    return Evidence(stretches[start].turn, stretches[start].start, stretches[last].end)


def _labels(field: Field, read: Read, scores: TextScores, _: FieldPlan) -> _Field:
    chances = scores.labels[field.name]  # [C]
    share = float(np.prod(np.maximum(chances, 1 - chances)))
    sure = bool((np.maximum(chances, 1 - chances) > _SURE).all())
    own = scores.segments[field.name]  # [n, C]

    def value_of(holds: np.ndarray) -> Json:
        if field.kind == "boolean":
            return bool(holds[0])
        chosen = np.flatnonzero(holds)
        if field.max_items is not None and len(chosen) > field.max_items:
            likeliest = chosen[np.argsort(-chances[chosen], kind="stable")[: field.max_items]]
            chosen = np.sort(likeliest)
        return [field.choices[k] for k in chosen]

    def draw(random: np.random.Generator, count: int) -> list[Json]:
        return [value_of(row) for row in random.random((count, len(chances))) < chances]

    value = value_of(chances > 0.5)
    shown = (
        range(len(chances)) if field.kind == "boolean" else map(field.choices.index, value or ())
    )
    places = [_top(read, own[:, k]) for k in shown if value] if len(own) else []
    return _Field(value, share, tuple(places), None if sure else draw)


def _choice(field: Field, read: Read, scores: TextScores, plan: FieldPlan) -> _Field:
    chances, values = scores.choices[field.name], plan.values[field.name]
    best = int(chances.argmax())
    own = scores.segments[field.name]

    def draw(random: np.random.Generator, count: int) -> list[Json]:
        return [values[k] for k in random.choice(len(values), size=count, p=_exact(chances))]

    share = float(chances[best])
    places: tuple[Evidence, ...] = ()
    # "none" is shown by no stretch.
    if len(own) and values[best] not in (None, False, "none"):
        places = (_top(read, own[:, best]),)
    return _Field(values[best], share, places, None if share > _SURE else draw)


def _pointer(field: Field, read: Read, scores: TextScores, _: FieldPlan) -> _Field:
    chances, found = scores.pointers[field.name], read.candidates[field.name]
    values: list[Json] = list(dict.fromkeys(each.value for each in found))
    if field.nullable or not values:
        # An amount that may not be null and stands nowhere: the least one, and never sure.
        values.append(None if field.nullable else field.minimum)
    by_value = np.zeros(len(values))
    for each, chance in zip(found, chances, strict=False):
        by_value[values.index(each.value)] += chance
    if field.nullable:
        by_value[-1] += chances[-1]
    total = by_value.sum()
    shares = by_value / total if total > 0 else np.full(len(values), 1 / len(values))
    best = int(shares.argmax())
    share = float(shares[best]) if total > 0 else 0.0
    # The value may stand at several places; those that hardly count are left out.
    own = [
        (each.place, p)
        for each, p in zip(found, chances, strict=False)
        if each.value == values[best]
    ]
    least = _LEAST_PLACE * max((p for _, p in own), default=0.0)
    places = tuple(place for place, p in own if p >= least)

    def draw(random: np.random.Generator, count: int) -> list[Json]:
        return [values[k] for k in random.choice(len(values), size=count, p=_exact(shares))]

    return _Field(values[best], share, places, None if share > _SURE else draw)


def _top(read: Read, scores: np.ndarray) -> Evidence:
    return read.segments.stretches[int(scores.argmax())]


def _exact(chances: np.ndarray) -> np.ndarray:
    """Probabilities that sum to 1 in float64, as numpy wants them."""
    exact = np.asarray(chances, dtype=np.float64)
    return exact / exact.sum()


_Form = Callable[[Field, Read, TextScores, FieldPlan], _Field]
_FORMS: dict[str, _Form] = {
    "tags": _list,
    "labels": _labels,
    "choices": _choice,
    "pointers": _pointer,
}
