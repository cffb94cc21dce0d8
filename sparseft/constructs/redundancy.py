"""Which of several nested token groups of a class to keep.

Two rules, in this order:

1. A part gives way to a whole that holds nearly all of its evidence: "top" to "top - up" where the
   class hardly ever says "top" alone. The longest such whole stays.
2. A whole gives way to a part when it points no better: among the texts that hold "card", those
   with "my card" are not more often of the class (Fisher's exact test). What the whole adds is
   then nothing but rarity.

So every removed group is explained by one that stays, directly or through another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sparseft.constructs.scores import fisher_p_values

__all__ = ["irredundant"]

Ints = NDArray[np.int64]
Group = tuple[tuple[int, ...], bool]  # tokens, and whether it is a gapped pair


def irredundant(
    groups: Sequence[Group],
    labels: Ints,
    support: Ints,
    frequency: Ints,
    *,
    gap: int,
    tolerance: float = 0.1,
    purity: float = 0.05,
) -> NDArray[np.bool_]:
    """Which of M (group, class) pairs to keep.

    Args:
        groups: M token groups.
        labels: int64 [M], their classes.
        support, frequency: int64 [M], texts of the class, and of all classes, that hold the group.
        gap: the most tokens inside a gapped pair.
        tolerance: rule 1 holds where the whole has at least 1 - tolerance of the part's support.
        purity: rule 2 holds where the p-value is above it.

    Returns:
        bool [M].
    """
    number = {
        (group, label): m
        for m, (group, label) in enumerate(zip(groups, labels.tolist(), strict=True))
    }
    whole, part = _nested(groups, labels, number, gap)
    keep = np.ones(len(groups), bool)
    absorbed = support[whole] >= (1.0 - tolerance) * support[part]
    # A whole is settled before its parts, and then a part before its wholes.
    size = np.array([_size(group) for group in groups])
    for m in np.argsort(-size[whole], kind="stable").tolist():
        if keep[whole[m]] and absorbed[m]:
            keep[part[m]] = False
    p = fisher_p_values(support[whole], frequency[whole], support[part], frequency[part])
    for m in np.argsort(size[whole], kind="stable").tolist():
        if keep[whole[m]] and keep[part[m]] and p[m] > purity:
            keep[whole[m]] = False
    return keep


def _size(group: Group) -> float:
    tokens, gapped = group
    return 1.5 if gapped else float(len(tokens))


def _parts(group: Group, gap: int) -> Iterator[Group]:
    tokens, gapped = group
    if gapped:
        yield (tokens[:1], False)
        yield (tokens[1:], False)
        return
    for length in range(1, len(tokens)):
        for start in range(len(tokens) - length + 1):
            yield (tokens[start : start + length], False)
    for start in range(len(tokens)):
        for end in range(start + 2, min(len(tokens), start + gap + 2)):
            yield ((tokens[start], tokens[end]), True)


def _nested(
    groups: Sequence[Group], labels: Ints, number: dict[tuple[Group, int], int], gap: int
) -> tuple[Ints, Ints]:
    """All pairs (whole, part) of the same class."""
    whole: list[int] = []
    part: list[int] = []
    for m, (group, label) in enumerate(zip(groups, labels.tolist(), strict=True)):
        for smaller in set(_parts(group, gap)):
            found = number.get((smaller, label))
            if found is not None:
                whole.append(m)
                part.append(found)
    return np.array(whole, np.int64), np.array(part, np.int64)
