"""From the scores of a reader of segments to values, how sure they are, and where they stand.

Lists are read as connectionist temporal classification does: tags in order, the same tag of
neighbouring segments once, under the list's `Chain`. Fields are independent given the text, so
other ways to read it are drawn field by field; what differs between the draws is what the model is
unsure of.

Legend: n segments of one text, K tags, m candidates, C values, D draws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field

import numpy as np

from sparseft.compliance.answer import Answer, Hypothesis
from sparseft.compliance.encoder.chains import Chains
from sparseft.compliance.encoder.plan import FieldPlan
from sparseft.compliance.encoder.rows import Read
from sparseft.compliance.fields import Field
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Evidence, Json

__all__ = ["TextScores", "answer_of", "sigmoid", "softmax"]

_DRAWS = 128
_LEAST_PLACE = 0.25  # of the likeliest place of a value
_TINY = 1e-9
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


_Draw = Callable[[np.random.Generator, int], dict[str, list[Json]]]


@dataclass(frozen=True)
class _Field:
    """A field's value, its probability, its places, and how to draw other values.

    The draws are of this field, and of one that is read together with it.
    """

    value: Json
    share: float
    places: tuple[Evidence, ...]
    draw: _Draw | None


@dataclass(frozen=True)
class _Source:
    """What all fields of one text are made of."""

    read: Read
    scores: TextScores
    plan: FieldPlan
    chains: Mapping[str, Chains]
    heats: Mapping[str, float]
    posteriors: dict[str, np.ndarray] = dataclass_field(default_factory=dict)

    def heated(self, scores: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        """A field's scores, divided by its heat."""
        found: np.ndarray = scores[name] / self.heats.get(name, 1.0)
        return found


def answer_of(
    read: Read,
    scores: TextScores,
    schema: Schema,
    plan: FieldPlan,
    *,
    chains: Mapping[str, Chains] | None = None,
    heats: Mapping[str, float] | None = None,
    draws: int = _DRAWS,
) -> Answer:
    """Likeliest values and other ways to read a transcript; the same scores give the same draws.

    Args:
        chains: of lists by name; a list without one is read segment by segment.
        heats: by field, what its scores are divided by, 1 without; a chain has its own.
        draws: D; 0 leaves out the other ways.
    """
    source = _Source(read, scores, plan, chains or {}, heats or {})
    # A list comes before the field that it is given: it has a say in that one's value.
    order = sorted(schema.model_fields, key=lambda field: field.kind != "list")
    fields = {field.name: _FORMS[_form(field.name, plan)](field, source) for field in order}
    fields = {field.name: fields[field.name] for field in schema.model_fields}
    values = {name: entry.value for name, entry in fields.items()}
    critical: dict[str, float] = {}
    if schema.critical in plan.values:
        own = softmax(source.heated(scores.choices, schema.critical))
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
    drawn: dict[str, list[Json]] = {}
    for entry in fields.values():
        if draws and entry.draw is not None:
            drawn.update(entry.draw(random, draws))
    if not drawn:
        return (Hypothesis(values, 1.0),)
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
    chains = source.chains.get(field.name) or Chains.independent(len(field.choices))
    given = field.given if len(chains.of) > 1 else None
    prior = np.zeros(1)
    if given is not None:
        prior = np.log(softmax(source.heated(source.scores.choices, given)) + _TINY)
    posterior = chains.posterior(scores, prior)  # [V]
    if given is not None:
        source.posteriors[given] = posterior
    best = chains.of[int(posterior.argmax())].path(scores)
    starts = _starts(best)
    places = tuple(_whole(source.read, best, k) for k in starts[:most])
    share = chains.chance(scores, posterior, [int(best[k]) for k in starts])

    def value_of(tags: np.ndarray) -> Json:
        return [field.choices[tags[k] - 1] for k in _starts(tags)[:most]]

    def draw(random: np.random.Generator, count: int) -> dict[str, list[Json]]:
        numbers = random.choice(len(posterior), size=count, p=posterior)
        lists: list[Json] = [None] * count
        for number in np.unique(numbers):
            own = np.flatnonzero(numbers == number)
            for place, tags in zip(
                own, chains.of[number].draws(scores, random, len(own)), strict=True
            ):
                lists[place] = value_of(tags)
        if given is None:
            return {field.name: lists}
        return {field.name: lists, given: [source.plan.values[given][k] for k in numbers]}

    sure = share > _SURE and posterior.max() > _SURE
    return _Field(value_of(best), share, places, None if sure else draw)


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
    chances = sigmoid(source.heated(source.scores.labels, field.name))  # [C]
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

    def draw(random: np.random.Generator, count: int) -> dict[str, list[Json]]:
        held = random.random((count, len(chances))) < chances
        return {field.name: [value_of(row) for row in held]}

    value = value_of(chances > 0.5)
    shown = (
        range(len(chances)) if field.kind == "boolean" else map(field.choices.index, value or ())
    )
    places = [_top(source.read, own[:, k]) for k in shown if value] if len(own) else []
    return _Field(value, share, tuple(places), None if sure else draw)


def _choice(field: Field, source: _Source) -> _Field:
    joint = source.posteriors.get(field.name)
    chances = softmax(source.heated(source.scores.choices, field.name)) if joint is None else joint
    values = source.plan.values[field.name]
    best = int(chances.argmax())
    own = source.scores.segments[field.name]

    def draw(random: np.random.Generator, count: int) -> dict[str, list[Json]]:
        numbers = random.choice(len(values), size=count, p=chances)
        return {field.name: [values[k] for k in numbers]}

    share = float(chances[best])
    places: tuple[Evidence, ...] = ()
    # "none" is shown by no stretch.
    if len(own) and values[best] not in (None, False, "none"):
        places = (_top(source.read, own[:, best]),)
    # What is read together with a list is drawn with it.
    return _Field(values[best], share, places, draw if joint is None and share < _SURE else None)


def _pointer(field: Field, source: _Source) -> _Field:
    chances = softmax(source.heated(source.scores.pointers, field.name))
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

    def draw(random: np.random.Generator, count: int) -> dict[str, list[Json]]:
        numbers = random.choice(len(values), size=count, p=shares)
        return {field.name: [values[k] for k in numbers]}

    return _Field(values[best], share, places, None if share > _SURE else draw)


def _top(read: Read, scores: np.ndarray) -> Evidence:
    return read.segments.stretches[int(scores.argmax())]


def sigmoid(scores: np.ndarray) -> np.ndarray:
    """Of each score, without overflow."""
    found: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * scores))
    return found


def softmax(scores: np.ndarray) -> np.ndarray:
    """Over all scores; -inf is 0."""
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
