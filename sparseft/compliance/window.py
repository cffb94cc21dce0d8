"""What of a long transcript the model reads: its beginning and its end, with a visible gap.

Nothing is cut silently: the gap stands in the text that the model reads, the number of words left
out is returned, and the evaluator marks such a record for review. Rules always see all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sparseft.errors import ConfigError

__all__ = ["Window", "fit"]

_PIECE = 40  # words; a longer line is taken apart, so that one endless turn can be shortened too
_GAP = "[... {} words left out ...]"
_HEAD = 0.4  # of the budget; what was agreed and done in the end needs more room


@dataclass(frozen=True)
class Window:
    """The text to read, and how many words of the transcript it leaves out."""

    text: str
    omitted_words: int = 0


def fit(text: str, budget: int, count: Callable[[str], int]) -> Window:
    """The text itself where it has at most `budget` tokens, else its beginning and end.

    Args:
        text: a rendered transcript.
        budget: the most tokens.
        count: tokens of a text.

    Raises:
        ConfigError: not even the note about the gap fits.
    """
    if _fits_surely(text, budget) or (len(text) <= 64 * budget and count(text) <= budget):
        return Window(text)
    pieces = [piece for line in text.split("\n") for piece in _pieces(line)]
    gap = _GAP.format(len(text.split()))
    room = budget - count(gap) - 2
    if room < 0:
        raise ConfigError(
            f"expected room for at least {count(gap) + 2} tokens of a transcript, got {budget}; "
            "set a larger model.max_length."
        )
    head = _taken(pieces, int(_HEAD * room), count)
    tail = _taken(pieces[len(head) :][::-1], room - _size(head, count), count)[::-1]
    omitted = sum(len(p.split()) for p in pieces[len(head) : len(pieces) - len(tail)])
    return Window("\n".join([*head, _GAP.format(omitted), *tail]), omitted)


def _fits_surely(text: str, budget: int) -> bool:
    # A byte-level tokenizer never makes more tokens than bytes.
    return len(text.encode("utf-8", "replace")) <= budget


def _pieces(line: str) -> list[str]:
    words = line.split(" ")
    # A word of no natural length would be one piece that never fits.
    words = [word[i : i + 200] for word in words for i in range(0, max(len(word), 1), 200)]
    return [" ".join(words[i : i + _PIECE]) for i in range(0, len(words), _PIECE)]


def _taken(pieces: list[str], room: int, count: Callable[[str], int]) -> list[str]:
    taken: list[str] = []
    for piece in pieces:
        room -= count(piece) + 1  # and the line break
        if room < 0:
            break
        taken.append(piece)
    return taken


def _size(pieces: list[str], count: Callable[[str], int]) -> int:
    return sum(count(piece) + 1 for piece in pieces)
