"""How sure the model was of each field, from the choices that the grammar left it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparseft.compliance.decoding.generate import Choice, Decoded
from sparseft.compliance.decoding.vocabulary import Vocabulary
from sparseft.compliance.fields import Field, dumps
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Json

__all__ = ["FieldScore", "field_scores", "value_probabilities"]


@dataclass(frozen=True)
class FieldScore:
    """The choices inside one field's value.

    Attributes:
        choices: how many there were; 0 where the grammar left one value only.
        raw: sum of their log-probabilities among all tokens, before the mask.
        share: product of their probabilities among the allowed tokens: the probability of the
            value under the grammar, taken token by token.
    """

    choices: int
    raw: float
    share: float

    @property
    def mean_raw(self) -> float:
        """`raw` by choice, which does not punish long values; 0 without choices."""
        return self.raw / self.choices if self.choices else 0.0


def field_scores(
    decoded: Decoded, schema: Schema, values: Mapping[str, Json]
) -> dict[str, FieldScore]:
    """Of every model field.

    A token that ends one value and begins the next belongs to the latter: what stood open is what
    comes.

    Args:
        values: parsed from `decoded.text`.
    """
    spans = _byte_spans(decoded.text, schema, values)
    found: dict[str, list[Choice]] = {field.name: [] for field in schema.model_fields}
    names = list(found)
    for choice in decoded.choices:
        # The first value that ends behind the token's beginning.
        place = next((i for i, span in enumerate(spans) if choice.start < span[1]), None)
        if place is not None:
            found[names[place]].append(choice)
    return {name: _score(choices) for name, choices in found.items()}


def _score(choices: Sequence[Choice]) -> FieldScore:
    return FieldScore(
        len(choices),
        sum(choice.raw for choice in choices),
        math.exp(sum(math.log(max(choice.share, 1e-300)) for choice in choices)),
    )


def value_probabilities(
    decoded: Decoded,
    field: Field,
    schema: Schema,
    values: Mapping[str, Json],
    vocabulary: Vocabulary,
) -> dict[str, float]:
    """The probability of every value of an enum field, under the grammar and what came before it.

    At each choice inside the field an allowed token that only one value can go on with gives that
    value its share. Exact where values part at their first open token, or along the chosen value;
    the share of a token that was not chosen and that several values share is split evenly.

    Returns:
        By value, summing to 1; "null" for null.
    """
    place = [other.name for other in schema.model_fields].index(field.name)
    spans = _byte_spans(decoded.text, schema, values)
    span, begin = spans[place], spans[place - 1][1] if place else 0
    texts = {value: dumps(value).encode() for value in field.choices}
    if field.nullable:
        texts["null"] = b"null"
    found = dict.fromkeys(texts, 0.0)
    left = 1.0
    inside = [choice for choice in decoded.choices if begin <= choice.start < span[1]]
    for choice in inside:
        said = decoded.text.encode()[span[0] : max(span[0], choice.start)]
        open_values = {name for name, text in texts.items() if text.startswith(said)}
        for token, share in zip(choice.allowed, choice.shares, strict=True):
            spelled = vocabulary.bytes_of([int(token)])
            # A token may begin before the value (":") or reach behind it (",").
            before = max(0, span[0] - choice.start)
            tail = said + spelled[before:]
            fits = [
                name
                for name in open_values
                if texts[name].startswith(tail) or tail.startswith(texts[name])
            ]
            if int(token) == choice.token and len(fits) > 1:
                continue
            for name in fits:
                found[name] += left * float(share) / len(fits)
        left *= choice.share
        chosen = vocabulary.bytes_of([choice.token])
        after = said + chosen[max(0, span[0] - choice.start) :]
        going = [n for n in open_values if texts[n].startswith(after) or after.startswith(texts[n])]
        if len(going) <= 1:
            break
    else:
        said_value = values[field.name]
        found["null" if said_value is None else said_value] += left
    total = sum(found.values())
    return {name: value / total for name, value in found.items()}


def _byte_spans(text: str, schema: Schema, values: Mapping[str, Json]) -> list[tuple[int, int]]:
    """Where each value stands, in bytes; the text is the canonical answer of the values."""
    lengths = np.cumsum([0, *(len(sign.encode()) for sign in text)])
    return [(int(lengths[start]), int(lengths[end])) for start, end in schema.spans(values)]
