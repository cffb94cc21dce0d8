"""The turns of a transcript with the places of the fields' values marked in them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparseft.compliance.transcript import Evidence, Transcript, Turn
from sparseft.reporting.compliance.text import safe

__all__ = ["turns_html"]

_MOST_SIGNS = 20_000  # of one transcript; a page is no archive


@dataclass(frozen=True)
class _Place:
    column: int  # of the field
    start: int
    end: int


def turns_html(
    transcript: Transcript, evidence: Mapping[str, Sequence[Evidence]], anchor: str
) -> str:
    """An ordered list of turns.

    A marked stretch has a class `f<number of the field>` for each field whose place it is part of,
    and a tooltip that names them.

    Args:
        evidence: by field name, all fields in order; places outside of the text are left out.
        anchor: beginning of the turns' ids.
    """
    names, left, parts = list(evidence), _MOST_SIGNS, []
    for number, turn in enumerate(transcript.turns):
        if left <= 0:
            break
        places = [
            _Place(column, each.start, min(each.end, len(turn.text), left))
            for column, name in enumerate(names)
            for each in evidence[name]
            if each.turn == number and 0 <= each.start < min(each.end, len(turn.text), left)
        ]
        parts.append(_turn(turn, number, places, names, anchor, left))
        left -= len(turn.text) + 1
    whole = sum(len(turn.text) + 1 for turn in transcript.turns)
    if whole > _MOST_SIGNS:
        more = whole - _MOST_SIGNS
        parts.append(f'<li class="cut">{more:,} more signs are not shown here.</li>')
    if not parts:
        return '<p class="cut">The transcript is empty.</p>'
    return f'<ol class="turns">{"".join(parts)}</ol>'


def _turn(
    turn: Turn, number: int, places: list[_Place], names: list[str], anchor: str, left: int
) -> str:
    text = turn.text[:left]
    who = "" if turn.speaker == "unknown" else turn.speaker
    said = f'<span class="who">{who} <span class="no">{number + 1}</span></span>'
    marked = "".join(_stretches(text, places, names))
    return f'<li class="turn {turn.speaker}" id="{anchor}-t{number}">{said}<bdi>{marked}</bdi></li>'


def _stretches(text: str, places: list[_Place], names: list[str]) -> list[str]:
    """The text in pieces: each is part of the same places from its start to its end."""
    ends = {0, len(text), *(p.start for p in places), *(p.end for p in places)}
    parts = []
    for start, end in itertools.pairwise(sorted(ends)):
        columns = sorted({p.column for p in places if p.start <= start and end <= p.end})
        piece = safe(text[start:end])
        if columns:
            classes = " ".join(f"f{column}" for column in columns)
            title = safe(", ".join(names[column] for column in columns))
            piece = f'<mark class="{classes}" title="{title}">{piece}</mark>'
        parts.append(piece)
    return parts
