"""All token groups that occur in enough texts, and the texts that each occurs in.

Groups are numbered level by level: an n-gram is the pair of its first and its last n - 1 tokens,
both of which must themselves be frequent (the a-priori rule), so nothing is hashed and no rare
group is kept. Memory grows with tokens x (longest n-gram + gap), about 100 bytes for each; no table
of groups by classes or by texts is ever made.

Legend: T tokens, G groups, P occurrences (a group counts once in a text).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparseft.constructs.texts import TokenisedTexts

__all__ = ["Candidates", "candidates"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Token groups with the texts that hold them.

    Attributes:
        length: int64 [G], the tokens of an n-gram; 2 for a gapped pair.
        gapped: bool [G].
        first: int64 [G], where in the corpus a group begins for the first time.
        last: int64 [G], where that occurrence ends (its last token).
        group: int64 [P], sorted; `text`: int64 [P], ascending within a group; `place`: int64 [P],
            the position in the corpus of the group's first token in that text.
        end: int64 [P], the position of its last token there.
    """

    length: Ints
    gapped: NDArray[np.bool_]
    first: Ints
    last: Ints
    group: Ints
    text: Ints
    place: Ints
    end: Ints

    def __len__(self) -> int:
        return len(self.length)

    @property
    def frequency(self) -> Ints:
        """int64 [G], the number of texts that hold each group."""
        return np.bincount(self.group, minlength=len(self))

    def tokens(self, group: int, ids: Ints) -> tuple[int, ...]:
        """The token ids of a group; `ids` [T] is the corpus."""
        first, last = int(self.first[group]), int(self.last[group])
        if self.gapped[group]:
            return int(ids[first]), int(ids[last])
        return tuple(int(i) for i in ids[first : last + 1])


@dataclass(frozen=True, eq=False)
class _Level:
    """Groups of one kind: key numbers are dense, occurrences once a text."""

    group: Ints
    text: Ints
    place: Ints
    end: Ints
    first: Ints
    last: Ints


def candidates(corpus: TokenisedTexts, longest: int, gap: int, min_support: int) -> Candidates:
    """Every n-gram of 1 to `longest` tokens, and every gapped pair, in `min_support` texts or more.

    A gapped pair is two tokens of a text with 1 to `gap` tokens between them, in their order;
    `gap` 0 makes none. Groups never hold a blocked token; a gap may.
    """
    text = corpus.text_of_token
    total = len(corpus.ids)
    usable = ~np.isin(corpus.ids, np.fromiter(corpus.blocked, np.int64, len(corpus.blocked)))
    where = np.flatnonzero(usable)
    levels: list[tuple[_Level, int, bool]] = []
    at = np.full(total, -1, np.int64)  # the number of the frequent group that begins here
    at[where], level = _level(corpus.ids[where], text[where], where, where, min_support)
    levels.append((level, 1, False))
    single = at
    for length in range(2, longest + 1):
        width = int(at.max(initial=-1)) + 1
        where = np.flatnonzero((at[:-1] >= 0) & (at[1:] >= 0) & (text[:-1] == text[1:]))
        if not len(where):
            break
        key = at[where] * width + at[where + 1]
        following = np.full(total, -1, np.int64)
        following[where], level = _level(key, text[where], where, where + length - 1, min_support)
        at = following
        levels.append((level, length, False))
    if gap:
        levels.append((_pairs(single, text, gap, min_support), 2, True))
    return _joined(levels)


def _pairs(single: Ints, text: Ints, gap: int, min_support: int) -> _Level:
    width = int(single.max(initial=-1)) + 1
    parts: list[tuple[Ints, Ints, Ints]] = []
    for distance in range(2, gap + 2):
        near, far = single[:-distance], single[distance:]
        where = np.flatnonzero((near >= 0) & (far >= 0) & (text[:-distance] == text[distance:]))
        parts.append((near[where] * width + far[where], where, where + distance))
    key, place, end = (np.concatenate(part) for part in zip(*parts, strict=True))
    _, level = _level(key, text[place], place, end, min_support)
    return level


def _level(key: Ints, text: Ints, place: Ints, end: Ints, min_support: int) -> tuple[Ints, _Level]:
    """The frequent keys renumbered (others -1), and their first occurrence in each text."""
    # By key, then text, then place: the first of each run is the first occurrence in that text.
    order = np.lexsort((end, place, text, key))
    key_sorted, text_sorted = key[order], text[order]
    new_key = np.concatenate([np.ones(min(1, len(order)), bool), np.diff(key_sorted) != 0])
    new_text = new_key | np.concatenate(
        [np.ones(min(1, len(order)), bool), np.diff(text_sorted) != 0]
    )
    number = np.cumsum(new_key) - 1
    support = np.bincount(number[new_text], minlength=int(new_key.sum()))
    frequent = support >= min_support
    renumbered = np.where(frequent, np.cumsum(frequent) - 1, -1)
    numbers = np.empty(len(key), np.int64)
    numbers[order] = renumbered[number]
    kept = order[new_text & frequent[number]]
    group = numbers[kept]
    opening = order[new_key & frequent[number]]
    return numbers, _Level(group, text[kept], place[kept], end[kept], place[opening], end[opening])


def _joined(levels: list[tuple[_Level, int, bool]]) -> Candidates:
    counts = [len(level.first) for level, _, _ in levels]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Candidates(
        length=np.repeat([length for _, length, _ in levels], counts).astype(np.int64),
        gapped=np.repeat([gapped for _, _, gapped in levels], counts).astype(bool),
        first=np.concatenate([level.first for level, _, _ in levels]),
        last=np.concatenate([level.last for level, _, _ in levels]),
        group=np.concatenate(
            [level.group + offset for (level, _, _), offset in zip(levels, offsets, strict=False)]
        ),
        text=np.concatenate([level.text for level, _, _ in levels]),
        place=np.concatenate([level.place for level, _, _ in levels]),
        end=np.concatenate([level.end for level, _, _ in levels]),
    )
