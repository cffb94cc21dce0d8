"""The data side of a task: three splits, their label names, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["OUT_OF_SCOPE", "Split", "TaskData"]

OUT_OF_SCOPE = "oos"  # the label of texts that belong to no class


@dataclass(frozen=True)
class Split:
    """Texts with their labels, in the order of the source.

    Attributes:
        texts: the texts as the source holds them.
        labels: class indices, int64 [rows]; where a text may have several labels, uint8
            [rows, labels] with a 1 for each of them.
        ids: int64 [rows], the row numbers (from 0) in the source file. Rows of an out-of-scope
            file are counted on from the end of the main file.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    ids: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.texts) == len(self.labels) == len(self.ids):
            raise ValueError(
                "expected as many labels and ids as texts, got "
                f"{len(self.texts)} texts, {len(self.labels)} labels and {len(self.ids)} ids."
            )

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, positions: np.ndarray) -> Split:
        """The rows at `positions`, in that order."""
        return Split(
            texts=tuple(self.texts[i] for i in positions.tolist()),
            labels=self.labels[positions],
            ids=self.ids[positions],
        )


@dataclass(frozen=True)
class TaskData:
    """The resolved rows of one run.

    Attributes:
        name: the data set's name in the configuration.
        label_names: the names of the class indices; "oos", where present, is the last one.
        multi_label: whether a text may have several labels.
        sha256: over the label names and the id, text and labels of every row of every split, so
            two runs with the same value saw the same data.
        report: JSON-able counts: the rows of each split, removed and dropped rows, the draws.
    """

    name: str
    label_names: tuple[str, ...]
    multi_label: bool
    train: Split
    validation: Split
    test: Split
    sha256: str
    report: Mapping[str, Any]

    @property
    def num_labels(self) -> int:
        """The width of the classification head."""
        return len(self.label_names)
