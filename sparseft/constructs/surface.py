"""How constructs are written in the texts of their class, with examples."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from sparseft.constructs.candidates import Candidates
from sparseft.constructs.construct import Example
from sparseft.constructs.tables import ClassTable
from sparseft.constructs.texts import TokenisedTexts

__all__ = ["surfaces"]

_BETWEEN = " … "  # the ends of a gapped pair


def surfaces(
    found: Candidates,
    corpus: TokenisedTexts,
    labels: NDArray[np.int64],
    pairs: ClassTable,
    examples: int,
) -> list[tuple[str, tuple[Example, ...]]]:
    """For each (group, class) pair its most frequent spelling and its shortest example texts."""
    starts = np.searchsorted(found.group, pairs.group)
    ends = np.searchsorted(found.group, pairs.group, side="right")
    return [
        _surface(found, corpus, labels, int(label), slice(int(start), int(end)), examples)
        for label, start, end in zip(pairs.label, starts, ends, strict=True)
    ]


def _surface(
    found: Candidates,
    corpus: TokenisedTexts,
    labels: NDArray[np.int64],
    label: int,
    occurrences: slice,
    examples: int,
) -> tuple[str, tuple[Example, ...]]:
    text = found.text[occurrences]
    of_class = np.flatnonzero(labels[text] == label if labels.ndim == 1 else labels[text, label])
    gapped = bool(found.gapped[found.group[occurrences.start]])
    spelled: Counter[str] = Counter()
    where: list[tuple[int, tuple[tuple[int, int], ...]]] = []
    for position in (of_class + occurrences.start).tolist():
        number = int(found.text[position])
        first = corpus.spans[found.place[position]].tolist()
        last = corpus.spans[found.end[position]].tolist()
        spans = [first, last] if gapped else [[first[0], last[1]]]
        content = corpus.texts[number]
        parts = (" ".join(content[a:b].split()) for a, b in spans)
        spelled[_BETWEEN.join(parts)] += 1
        where.append((number, tuple((int(a), int(b)) for a, b in spans)))
    # The most frequent; of equally frequent ones the first in the alphabet.
    spelling = min(spelled, key=lambda s: (-spelled[s], s))
    shortest = sorted(where, key=lambda found: (len(corpus.texts[found[0]]), found[0]))[:examples]
    return spelling, tuple(Example(corpus.texts[number], spans) for number, spans in shortest)
