"""Guesses of what a model will say next, from answers seen before.

A guess never changes an answer: the tokens that it puts ahead are given to the model together, and
the first that the model would not have chosen is taken back with all behind it (speculative
decoding, Leviathan et al. 2023, with a table of n-grams in the place of a small model).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Json

__all__ = ["Drafts", "draft_answers"]

_ORDER = 6  # tokens of context


class Drafts:
    """The likeliest next token by the longest context that occurred.

    Args:
        answers: token ids of answers, such as those trained on.
    """

    def __init__(self, answers: Iterable[Sequence[int]]) -> None:
        counts: dict[tuple[int, ...], Counter[int]] = {}
        for answer in answers:
            for place, token in enumerate(answer):
                # -1 stands before the beginning.
                before = (-1, *answer[max(0, place - _ORDER) : place])[-_ORDER:]
                for length in range(1, len(before) + 1):
                    counts.setdefault(before[-length:], Counter())[token] += 1
        # Of equally frequent tokens the smallest id, so that the order of answers does not matter.
        self._next = {
            context: min(found, key=lambda token: (-found[token], token))
            for context, found in counts.items()
        }

    def next(self, tokens: Sequence[int]) -> int | None:
        """A guess of the token behind these, or None where nothing like it occurred."""
        before = (-1, *tokens[-_ORDER:])[-_ORDER:]
        for length in range(len(before), 0, -1):
            guess = self._next.get(before[-length:])
            if guess is not None:
                return guess
        return None


def draft_answers(schema: Schema, records: Iterable[Mapping[str, Json]]) -> list[str]:
    """Answers to make drafts of: different ones, in order, without anything copied from a text.

    Copied values (ids, names) are personal and of no use for another transcript: null stands for
    them. From the first field that spells a pattern freely on, answers are left out.

    Args:
        records: values of the model's fields.
    """
    free = next(
        (n for n, f in enumerate(schema.model_fields) if f.kind == "pattern" and not f.copied),
        None,
    )
    found: dict[str, Any] = {}
    for values in records:
        plain = {
            field.name: None if field.copied else values[field.name]
            for field in schema.model_fields[:free]
        }
        if not plain:
            continue
        part = dataclasses.replace(schema, fields=schema.model_fields[:free])
        text = part.answer(plain)
        found[text if free is None else text[:-1] + ","] = None
    return list(found)
