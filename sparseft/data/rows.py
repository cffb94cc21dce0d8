"""Checked rows: every one has a text, its labels are names, and names become class indices."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparseft.config import DataConfig
from sparseft.data.sources import RawRows
from sparseft.data.task import OUT_OF_SCOPE, Split
from sparseft.errors import DataError

__all__ = ["Rows", "checked_rows", "encoded", "is_multi_label", "label_names"]


@dataclass(frozen=True)
class Rows:
    """Checked rows with label names; `total` counts the source's rows, dropped ones included."""

    texts: list[str]
    labels: list[tuple[str, ...]]
    ids: list[int]
    source: str
    total: int

    def followed_by(self, other: Rows) -> Rows:
        ids = self.ids + [self.total + i for i in other.ids]
        return Rows(
            self.texts + other.texts,
            self.labels + other.labels,
            ids,
            self.source,
            self.total + other.total,
        )


def is_multi_label(config: DataConfig, train: RawRows) -> bool:
    """Whether a text may have several labels; "auto" asks the train rows.

    Raises:
        DataError: the labels are lists although the configuration says they are single.
    """
    lists = any(isinstance(label, (list, tuple)) for label in train.labels)
    if config.multi_label == "auto":
        return lists
    if lists and not config.multi_label:
        raise DataError(
            f"expected one label for each text in {train.source}, got lists in column "
            f"{config.label_column!r}; set data.multi_label=true."
        )
    return bool(config.multi_label)


def checked_rows(rows: RawRows, multi_label: bool) -> Rows:
    """The rows that have a text, with their labels as names.

    Raises:
        DataError: a value is no text or no label, or no row has a text.
    """
    texts, labels, ids = [], [], []
    for text, label, row in zip(rows.texts, rows.labels, rows.ids, strict=True):
        if text is not None and not isinstance(text, str):
            raise DataError(
                f"expected texts in {rows.source}, got {text!r} in row {row + 1}; "
                "set data.text_column to a column of texts."
            )
        if text is None or not text.strip():
            continue
        texts.append(text)
        labels.append(_names_of(label, multi_label, row, rows.source))
        ids.append(row)
    if not texts:
        raise DataError(
            f"expected rows with a text in {rows.source}, got none of {len(rows.texts)} rows; "
            "check the file and data.text_column."
        )
    return Rows(texts, labels, ids, rows.source, len(rows.texts))


def _names_of(label: Any, multi_label: bool, row: int, source: str) -> tuple[str, ...]:
    if multi_label:
        if isinstance(label, str) and label.startswith("["):  # CSV has no lists of its own
            try:
                label = json.loads(label)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"expected a JSON list of labels in row {row + 1} of {source}, got {label!r}; "
                    'write for example ["a", "b"].'
                ) from error
        if isinstance(label, (list, tuple)):
            return tuple(dict.fromkeys(_name_of(part, row, source) for part in label))
    elif isinstance(label, (list, tuple)):
        raise DataError(
            f"expected one label in row {row + 1} of {source}, got {label!r}; "
            "set data.multi_label=true."
        )
    return (_name_of(label, row, source),)


def _name_of(label: Any, row: int, source: str) -> str:
    if isinstance(label, str) and label.strip():
        return label
    if isinstance(label, bool):
        return "true" if label else "false"
    if isinstance(label, int):
        return str(label)
    if isinstance(label, float) and math.isfinite(label):
        return str(int(label)) if label.is_integer() else str(label)
    raise DataError(
        f"expected a label in row {row + 1} of {source}, got {label!r}; "
        "label the row or remove it (some public test splits hide their labels)."
    )


def label_names(train: Rows) -> tuple[str, ...]:
    """The names of the class indices: numbers by value, else by spelling; "oos" last.

    Raises:
        DataError: there are fewer than two.
    """
    found = {name for names in train.labels for name in names}
    if len(found) < 2:
        raise DataError(
            f"expected at least two different labels in {train.source}, got "
            f"{', '.join(map(repr, found)) or 'none'}; a classifier has nothing to tell apart. "
            "Check data.label_column."
        )
    try:
        ordered = sorted(found, key=lambda name: (int(name), name))
    except ValueError:
        ordered = sorted(found)
    return tuple(sorted(ordered, key=lambda name: name == OUT_OF_SCOPE))


def encoded(rows: Rows, names: Sequence[str], multi_label: bool) -> Split:
    """The rows with their labels as class indices.

    Raises:
        DataError: a row has a label that is not in `names`.
    """
    index = {name: i for i, name in enumerate(names)}
    unseen = Counter(name for row in rows.labels for name in row if name not in index)
    if unseen:
        listed = ", ".join(f"{name!r} ({n} rows)" for name, n in unseen.most_common(5))
        raise DataError(
            f"expected only labels of the train split in {rows.source}, got {listed}"
            f"{' and more' if len(unseen) > 5 else ''}; remove them, or add such rows to train."
        )
    if multi_label:
        labels = np.zeros((len(rows.texts), len(names)), np.uint8)
        for i, row in enumerate(rows.labels):
            labels[i, [index[name] for name in row]] = 1
    else:
        labels = np.array([index[row[0]] for row in rows.labels], np.int64)
    return Split(tuple(rows.texts), labels, np.array(rows.ids, np.int64))
