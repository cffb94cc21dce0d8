"""A transcript in segments: sentences of one turn, each with its speaker where that changes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from sparseft.compliance.transcript import Evidence, Transcript

__all__ = ["Segments", "split"]

# Behind the end of a sentence, or a line; not behind "e.g." or inside a number.
_BREAK = re.compile(r"(?<=[.?!])\s+|\s*\n\s*")
_MOST = 320  # characters of a segment; a longer sentence is taken apart between words


@dataclass(frozen=True)
class Segments:
    """Stretches of a transcript, in order, with the texts that a model reads."""

    stretches: tuple[Evidence, ...]
    texts: tuple[str, ...]
    shifts: tuple[int, ...]  # characters that stand before the stretch in its text

    def at(self, place: Evidence) -> tuple[int, ...]:
        """Numbers of the segments that share characters with a stretch."""
        return tuple(
            number
            for number in self._of_turn.get(place.turn, ())
            if self.stretches[number].start < place.end and self.stretches[number].end > place.start
        )

    def inside(self, place: Evidence) -> tuple[int, int, int] | None:
        """(segment, first character, end) of a stretch in the text of the segment it begins in."""
        numbers = self.at(place)
        if not numbers:
            return None
        number = numbers[0]
        stretch, shift = self.stretches[number], self.shifts[number]
        start = max(place.start, stretch.start) - stretch.start + shift
        end = min(place.end, stretch.end) - stretch.start + shift
        return number, start, end

    @cached_property
    def _of_turn(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for number, stretch in enumerate(self.stretches):
            found.setdefault(stretch.turn, []).append(number)
        return found


def split(transcript: Transcript) -> Segments:
    """Sentences, at most 320 characters each; a turn's first one begins with the speaker's name."""
    stretches, texts, shifts = [], [], []
    for number, turn in enumerate(transcript.turns):
        lead = "" if turn.speaker == "unknown" else f"{turn.speaker}: "
        for start, end in _sentences(turn.text):
            stretches.append(Evidence(number, start, end))
            texts.append(lead + turn.text[start:end])
            shifts.append(len(lead))
            lead = ""
    return Segments(tuple(stretches), tuple(texts), tuple(shifts))


def _sentences(text: str) -> list[tuple[int, int]]:
    found, start = [], 0
    for match in _BREAK.finditer(text):
        found.append((start, match.start()))
        start = match.end()
    found.append((start, len(text)))
    return [piece for a, b in found if text[a:b].strip() for piece in _pieces(text, a, b)]


def _pieces(text: str, start: int, end: int) -> list[tuple[int, int]]:
    pieces = []
    while end - start > _MOST:
        cut = text.rfind(" ", start + 1, start + _MOST)
        cut = cut if cut > start else start + _MOST
        pieces.append((start, cut))
        start = cut
    return [*pieces, (start, end)]
