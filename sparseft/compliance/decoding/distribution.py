"""The probability of every value of an enum field, also of those that were not said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sparseft.compliance.decoding.confidence import byte_spans, choices_of
from sparseft.compliance.decoding.generate import Decoded
from sparseft.compliance.decoding.steps import LanguageModel, Stepper
from sparseft.compliance.decoding.vocabulary import Vocabulary
from sparseft.compliance.fields import Field, dumps
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Json

__all__ = ["Asked", "value_probabilities"]

_NEGLIGIBLE = 1e-4  # of probability: not worth a call of the model


@dataclass(frozen=True)
class Asked:
    """What an answer came from, so that the model can be asked what it would have said instead."""

    model: LanguageModel
    prompt: Sequence[int]
    grammar: str


def value_probabilities(
    decoded: Decoded,
    field: Field,
    schema: Schema,
    values: Mapping[str, Json],
    vocabulary: Vocabulary,
    asked: Asked | None = None,
) -> dict[str, float]:
    """The probability of every value of an enum field, under the grammar and what came before it.

    An allowed token that only one value can go on with gives that value its share. What several
    values share is followed: along what was said for nothing, elsewhere by `asked`, one call of
    the model with the whole text for each such token of a probability of 0.0001 or more. Without
    `asked`, or below that, the share is split evenly.

    Args:
        values: parsed from `decoded.text`.

    Returns:
        By value, summing to 1; "null" for null.
    """
    names = [other.name for other in schema.model_fields]
    span = byte_spans(decoded.text, schema, values)[names.index(field.name)]
    texts = {value: dumps(value).encode() for value in field.choices}
    if field.nullable:
        texts["null"] = b"null"
    tree = _Tree(decoded, span[0], texts, vocabulary, asked)
    choices = [c for name, c in choices_of(decoded, schema, values) if name == field.name]
    left = 1.0
    for choice in choices:
        said = decoded.text.encode()[span[0] : max(span[0], choice.start)]
        tokens = list(decoded.tokens[: choice.place])
        chances = {int(t): float(p) for t, p in zip(choice.allowed, choice.shares, strict=True)}
        on = chances.pop(choice.token)
        tree.spread(tokens, choice.start, said, chances, left)
        left *= on
    value = values[field.name]
    tree.found["null" if value is None else str(value)] += left
    total = sum(tree.found.values())
    return {name: chance / total for name, chance in tree.found.items()}


class _Tree:
    """Probability on its way from tokens to values."""

    def __init__(
        self,
        decoded: Decoded,
        begin: int,
        texts: Mapping[str, bytes],
        vocabulary: Vocabulary,
        asked: Asked | None,
    ) -> None:
        self._begin = begin  # of the value, in bytes
        self._texts = texts
        self._vocabulary = vocabulary
        self._asked = asked
        self.found = dict.fromkeys(texts, 0.0)

    def spread(
        self,
        tokens: list[int],
        start: int,
        said: bytes,
        chances: Mapping[int, float],
        weight: float,
    ) -> None:
        """Give each token's share to the values that it leads to.

        Args:
            tokens: of the answer so far.
            start: bytes of the answer so far.
            said: the value's bytes among them.
        """
        for token, share in chances.items():
            spelled = self._vocabulary.bytes_of([token])
            tail = self._value(said, start, spelled)
            fits = [
                name
                for name, text in self._texts.items()
                if text.startswith(tail) or tail.startswith(text)
            ]
            passed = weight * share
            if len(fits) > 1 and self._asked is not None and passed >= _NEGLIGIBLE:
                self._follow([*tokens, token], start + len(spelled), tail, passed)
                continue
            for name in fits:
                self.found[name] += passed / len(fits)

    def _follow(self, tokens: list[int], start: int, said: bytes, weight: float) -> None:
        """Ask the model what it says behind tokens that it did not choose."""
        assert self._asked is not None
        state = self._vocabulary.start(self._asked.grammar)
        state.take(tokens)
        while forced := state.forced():
            spelled = self._vocabulary.bytes_of(forced)
            state.take(forced)
            said = self._value(said, start, spelled)
            tokens, start = [*tokens, *forced], start + len(spelled)
        allowed = np.flatnonzero(state.allowed())
        stepper = Stepper(self._asked.model, 1, self._vocabulary.end)
        logits = stepper.give([[*self._asked.prompt, *tokens]])[0]
        shares = torch.softmax(logits[torch.from_numpy(allowed)].double(), 0)
        chances = {int(t): float(p) for t, p in zip(allowed, shares, strict=True)}
        self.spread(tokens, start, said, chances, weight)

    def _value(self, said: bytes, start: int, spelled: bytes) -> bytes:
        """The value's bytes; a token may begin before the value (":") and reach behind it (",")."""
        return said + spelled[max(0, self._begin - start) :]
