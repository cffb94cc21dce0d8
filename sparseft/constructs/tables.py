"""The counts of each (token group, class) pair that occurs; no dense table is made.

Legend: N texts, C classes, P occurrences, M pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparseft.constructs.candidates import Candidates

__all__ = ["ClassTable", "class_table", "with_labels"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClassTable:
    """M pairs of a group and a class.

    Attributes:
        group, label: int64 [M].
        y: int64 [M], texts of the class that hold the group.
        k: int64 [M], texts of any class that hold it.
        sizes: int64 [C], texts of each class.
    """

    group: Ints
    label: Ints
    y: Ints
    k: Ints
    sizes: Ints

    @property
    def counts(self) -> tuple[Ints, Ints, Ints]:
        """y, k, n, each int64 [M]; n is the size of the class."""
        return self.y, self.k, self.sizes[self.label]

    def take(self, pairs: Ints) -> ClassTable:
        """The pairs at these positions."""
        return ClassTable(
            self.group[pairs], self.label[pairs], self.y[pairs], self.k[pairs], self.sizes
        )


def with_labels(text: Ints, labels: Ints) -> tuple[Ints, Ints]:
    """Each occurrence once for every label of its text.

    Args:
        text: int64 [P], text numbers.
        labels: int64 [N], or multi-hot [N, C].

    Returns:
        Positions in `text` and labels, both int64 [P'], in the order of `text`.
    """
    if labels.ndim == 1:
        return np.arange(len(text)), labels[text]
    owner, label = np.nonzero(labels)
    sizes = np.bincount(owner, minlength=len(labels))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    times = sizes[text]
    position = np.repeat(np.arange(len(text)), times)
    within = np.arange(len(position)) - np.repeat(np.cumsum(times) - times, times)
    return position, label[starts[text][position] + within]


def class_table(found: Candidates, labels: Ints, classes: int) -> ClassTable:
    """The counts of every group with every class that it occurs with."""
    position, label = with_labels(found.text, labels)
    key, y = np.unique(found.group[position] * classes + label, return_counts=True)
    group, label = key // classes, key % classes
    sizes = np.bincount(labels, minlength=classes) if labels.ndim == 1 else labels.sum(axis=0)
    return ClassTable(group, label, y, found.frequency[group], sizes.astype(np.int64))
