"""From the scores of a reader of segments to values, how sure they are, and where they stand.

Lists are read as connectionist temporal classification does: tags in order, the same tag of
neighbouring segments once, under the list's `Chain`. Fields are independent given the text, so
other ways to read it are drawn field by field; what differs between the draws is what the model is
unsure of.

Legend: n segments of one text, K tags, m candidates, C values, D draws.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sparseft.compliance.answer import Answer, Hypothesis
from sparseft.compliance.encoder.chain import Chain
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
    """One text's scores in float64, of segments without the summary.

    Attributes:
        tags: by list log-probabilities [n, K + 1]; -inf where a tag cannot be.
        labels: by name logits [C].
        choices: by name logits [C].
        pointers: by name logits [m + 1], the last of no candidate.
        segments: by label and choice the segments' logits [n, C].
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


@dataclass(frozen=True)
class _Source:
    """What all fields of one text are made of."""

    read: Read
    scores: TextScores
    plan: FieldPlan
    chains: Mapping[str, Chain]
    heat: float


def answer_of(
    read: Read,
    scores: TextScores,
    schema: Schema,
    plan: FieldPlan,
    *,
    chains: Mapping[str, Chain] | None = None,
    heat: float = 1.0,
    draws: int = _DRAWS,
) -> Answer:
    """Likeliest values and other ways to read a transcript; the same scores give the same draws.

    Args:
        chains: of lists by name; a list without one is read segment by segment.
        heat: divides all scores but those of lists with a chain, which has its own.
        draws: D; 0 leaves out the other ways.
    """
    source = _Source(read, scores, plan, chains or {}, heat)
    fields = {
        field.name: _FORMS[_form(field.name, plan)](field, source) for field in schema.model_fields
    }
    values = {name: entry.value for name, entry in fields.items()}
    critical: dict[str, float] = {}
    if schema.critical in plan.values:
        own = _softmax(scores.choices[schema.critical] / heat)
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


def _list(field: Field, source: _Source) -> _Field:
    scores = source.scores.tags[field.name]  # [n, K + 1]
    most = field.max_items or len(scores)
    chain = source.chains.get(field.name) or Chain.independent(len(field.choices), source.heat)
    best = chain.path(scores)
    starts = _starts(best)
    places = tuple(_whole(source.read, best, k) for k in starts[:most])
    share = math.exp(chain.log_likelihood(scores, [int(best[k]) for k in starts]))

    def draw(random: np.random.Generator, count: int) -> list[Json]:
        return [value_of(row) for row in chain.draws(scores, random, count)]

    def value_of(tags: np.ndarray) -> Json:
        return [field.choices[tags[k] - 1] for k in _starts(tags)[:most]]

    return _Field(value_of(best), share, places, None if share > _SURE else draw)


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


def _labels(field: Field, source: _Source) -> _Field:
    chances = 1 / (1 + np.exp(-source.scores.labels[field.name] / source.heat))  # [C]
    share = float(np.prod(np.maximum(chances, 1 - chances)))
    sure = bool((np.maximum(chances, 1 - chances) > _SURE).all())
    own = source.scores.segments[field.name]  # [n, C]

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
    places = [_top(source.read, own[:, k]) for k in shown if value] if len(own) else []
    return _Field(value, share, tuple(places), None if sure else draw)


def _choice(field: Field, source: _Source) -> _Field:
    chances = _softmax(source.scores.choices[field.name] / source.heat)
    values = source.plan.values[field.name]
    best = int(chances.argmax())
    own = source.scores.segments[field.name]

    def draw(random: np.random.Generator, count: int) -> list[Json]:
        return [values[k] for k in random.choice(len(values), size=count, p=chances)]

    share = float(chances[best])
    places: tuple[Evidence, ...] = ()
    # "none" is shown by no stretch.
    if len(own) and values[best] not in (None, False, "none"):
        places = (_top(source.read, own[:, best]),)
    return _Field(values[best], share, places, None if share > _SURE else draw)


def _pointer(field: Field, source: _Source) -> _Field:
    chances = _softmax(source.scores.pointers[field.name] / source.heat)
    found = source.read.candidates[field.name]
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
        return [values[k] for k in random.choice(len(values), size=count, p=shares)]

    return _Field(values[best], share, places, None if share > _SURE else draw)


def _top(read: Read, scores: np.ndarray) -> Evidence:
    return read.segments.stretches[int(scores.argmax())]


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    found: np.ndarray = powers / powers.sum()
    return found


_Form = Callable[[Field, _Source], _Field]
_FORMS: dict[str, _Form] = {
    "tags": _list,
    "labels": _labels,
    "choices": _choice,
    "pointers": _pointer,
}
