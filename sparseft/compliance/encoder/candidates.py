"""What a pointer can point at: texts of a pattern, sums of money, each with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sparseft.compliance.fields import KINDS, Field
from sparseft.compliance.transcript import Evidence, Json, Transcript
from sparseft.errors import ConfigError

__all__ = ["Candidate", "candidates"]

_MOST = 512  # of one field; more than a long conversation has
_START = re.compile(r"(?<![A-Za-z0-9])(?=[^\s])")
_LONGEST = 400  # characters of a match
_NUMBER = re.compile(
    r"(?<![\w.,])(?:[$€£]\s?)?(?P<number>(?:\d{1,3}(?:,\d{3}){1,4}|\d{1,12})(?:\.\d{1,6})?)(?!\d)"
)


@dataclass(frozen=True)
class Candidate:
    """A canonical value and where it stands."""

    value: Json
    place: Evidence


def candidates(field: Field, transcript: Transcript) -> list[Candidate]:
    """The texts of a transcript that could be the value of a pattern or amount, in order.

    A pattern is tried at every beginning of a word, so matches may overlap ("ann lee may" holds two
    names); the same value at two places is two candidates.
    """
    found: list[Candidate] = []
    for number, turn in enumerate(transcript.turns):
        ways = _amounts if field.kind == "amount" else _texts
        for value, start, end in ways(field, turn.text):
            found.append(Candidate(value, Evidence(number, start, end)))
            if len(found) == _MOST:
                return found
    return found


def _texts(field: Field, text: str) -> Iterator[tuple[Json, int, int]]:
    flags = re.IGNORECASE if field.case != "keep" else 0
    pattern = re.compile(rf"(?:{field.pattern})(?![A-Za-z0-9])", flags)
    for begin in _START.finditer(text):
        match = pattern.match(text, begin.start(), min(len(text), begin.start() + _LONGEST))
        if match is None or match.end() == match.start():
            continue
        value = _canonical(field, match.group())
        if value is not None:
            yield value, match.start(), match.end()


def _amounts(field: Field, text: str) -> Iterator[tuple[Json, int, int]]:
    for match in _NUMBER.finditer(text):
        value = _canonical(field, float(match["number"].replace(",", "")))
        if value is not None:
            yield value, match.start(), match.end()


def _canonical(field: Field, value: Json) -> Json | None:
    try:
        return KINDS[field.kind].canonical(field, value)
    except (TypeError, ValueError, ConfigError):
        return None
