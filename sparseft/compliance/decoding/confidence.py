"""How sure the model was of each field, from the choices that the grammar left it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparseft.compliance.decoding.generate import Choice, Decoded
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Json

__all__ = ["FieldScore", "byte_spans", "choices_of", "field_scores"]


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

    Args:
        values: parsed from `decoded.text`.
    """
    found: dict[str, list[Choice]] = {field.name: [] for field in schema.model_fields}
    for name, choice in choices_of(decoded, schema, values):
        found[name].append(choice)
    return {name: _score(choices) for name, choices in found.items()}


def choices_of(
    decoded: Decoded, schema: Schema, values: Mapping[str, Json]
) -> Iterator[tuple[str, Choice]]:
    """Each choice with the name of the field that it decides, in order.

    That is the first value that ends behind the token's beginning: what stood open is what comes.
    A choice right behind a number decides whether the number ends there, and so is the number's.
    """
    spans = byte_spans(decoded.text, schema, values)
    for choice in decoded.choices:
        for field, (_, end) in zip(schema.model_fields, spans, strict=True):
            ends_number = choice.start == end and field.kind in ("integer", "amount")
            if choice.start < end or ends_number:
                yield field.name, choice
                break


def byte_spans(text: str, schema: Schema, values: Mapping[str, Json]) -> list[tuple[int, int]]:
    """Where each value stands, in bytes; the text is the canonical answer of the values."""
    lengths = np.cumsum([0, *(len(sign.encode()) for sign in text)])
    return [(int(lengths[start]), int(lengths[end])) for start, end in schema.spans(values)]


def _score(choices: Sequence[Choice]) -> FieldScore:
    return FieldScore(
        len(choices),
        sum(choice.raw for choice in choices),
        math.exp(sum(math.log(max(choice.share, 1e-300)) for choice in choices)),
    )
