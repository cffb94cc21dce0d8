"""Does a construct survive another draw of the texts?

Legend: N texts, M (group, class) pairs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparseft.constructs.candidates import Candidates
from sparseft.constructs.scores import fisher_p_values
from sparseft.constructs.tables import ClassTable, with_labels

__all__ = ["stabilities"]

Ints = NDArray[np.int64]


def stabilities(
    found: Candidates,
    labels: Ints,
    pairs: ClassTable,
    threshold: float,
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """The share of bootstrap resamples of the texts in which each pair is significant.

    A resample draws N texts with replacement; a pair is significant where its p-value is not above
    `threshold`, the one that the false discovery rate set on all texts.

    Args:
        found: the candidates.
        labels: int64 [N], or multi-hot [N, C].
        pairs: M pairs.
        threshold: p-value.
        resamples: how many; 0 gives 1 for all.
        seed: of the draws.

    Returns:
        float64 [M].
    """
    if not resamples or not len(pairs.group):
        return np.ones(len(pairs.group))
    total, classes = len(labels), len(pairs.sizes)
    groups, pair_group = np.unique(pairs.group, return_inverse=True)
    place = np.full(len(found), -1, np.int64)
    place[groups] = np.arange(len(groups))
    inside = np.flatnonzero(place[found.group] >= 0)
    group, text = place[found.group[inside]], found.text[inside]
    # The pair of each occurrence with its label, where that pair is asked for.
    position, label = with_labels(text, labels)
    keys = pair_group * classes + pairs.label
    order = np.argsort(keys)
    wanted = group[position] * classes + label
    where = np.searchsorted(keys[order], wanted).clip(max=len(keys) - 1)
    hit = keys[order][where] == wanted
    pair, pair_text = order[where[hit]], text[position[hit]]
    of_text, of_label = with_labels(np.arange(total), labels)
    random = np.random.default_rng(seed)
    times = np.zeros(len(pairs.group))
    for _ in range(resamples):
        drawn = np.bincount(random.integers(0, total, total), minlength=total)
        k = _sums(group, drawn[text], len(groups))
        y = _sums(pair, drawn[pair_text], len(pairs.group))
        n = _sums(of_label, drawn[of_text], classes)
        times += fisher_p_values(y, k[pair_group], n[pairs.label], total) <= threshold
    return times / resamples


def _sums(index: Ints, values: Ints, size: int) -> Ints:
    return np.bincount(index, weights=values, minlength=size).astype(np.int64)
