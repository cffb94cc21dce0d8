"""From a `DataConfig` to the rows of one run: checks, splits, leakage removal, draws.

The order matters and is fixed: empty texts are dropped; labels are numbered by the full train
split; validation is read or drawn; texts that occur in train leave validation and test; and only
then is the training subset drawn, so that the scored rows do not depend on the subset.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sparseft.config import DataConfig
from sparseft.data import draws
from sparseft.data.rows import Rows, checked_rows, encoded, is_multi_label, label_names
from sparseft.data.sources import RawRows, SplitName, read_raw
from sparseft.data.task import OUT_OF_SCOPE, Split, TaskData
from sparseft.errors import DataError

__all__ = ["load_data", "normalised"]

_log = logging.getLogger(__name__)


def normalised(text: str) -> str:
    """The text as it is compared between splits: case-folded, white space collapsed."""
    return " ".join(text.casefold().split())


def load_data(config: DataConfig, seed: int) -> TaskData:
    """The train, validation and test rows that `config` describes.

    Args:
        seed: draws the training subset (`config.shots` or `config.rows`). The validation split and
            the cuts of validation and test are drawn by `config.split_seed`, so that runs of all
            seeds are scored on the same rows.

    Raises:
        DataError: the data cannot be found or read, is empty or has a single class, or test or
            validation has a label that train has not.
        ConfigError: a seed is negative.
    """
    raw = read_raw(config)
    multi_label = is_multi_label(config, raw.train)
    if multi_label and raw.out_of_scope:
        raise DataError(
            "expected data.out_of_scope only where each text has one label, got it with several; "
            "give these rows an empty list of labels instead."
        )
    dropped: dict[str, int] = {}
    out_of_scope: dict[str, int] = {}

    def checked(split: SplitName, main: RawRows) -> Rows:
        result = checked_rows(main, multi_label)
        extra = raw.out_of_scope.get(split)
        if extra is not None:
            added = checked_rows(replace(extra, labels=[OUT_OF_SCOPE] * len(extra.texts)), False)
            out_of_scope[split] = len(added.texts)
            result = result.followed_by(added)
        dropped[split] = result.total - len(result.texts)
        return result

    train_rows = checked("train", raw.train)
    names = label_names(train_rows)
    full = encoded(train_rows, names, multi_label)
    test = encoded(checked("test", raw.test), names, multi_label)
    if raw.validation is not None:
        train = full
        validation = encoded(checked("validation", raw.validation), names, multi_label)
    elif "validation" in raw.out_of_scope:
        raise DataError(
            "expected data.out_of_scope.validation only beside data.validation, got it alone; "
            "leave it null: out-of-scope validation rows are drawn from the train ones."
        )
    else:
        train, validation = _validation_split(full, config)
    validation, validation_removed = _without(validation, train)
    test, test_removed = _without(test, full)
    for split_name, split in (("validation", validation), ("test", test)):
        if len(split) == 0:
            raise DataError(
                f"expected {split_name} rows that do not occur in train, got none; "
                f"check data.{split_name} and data.validation_share."
            )
    train, short = _training_subset(train, names, config, seed)
    validation = _cut(validation, config.validation_rows, config.split_seed, "validation_rows")
    test = _cut(test, config.test_rows, config.split_seed, "test_rows")
    report = {
        "rows": {"train": len(train), "validation": len(validation), "test": len(test)},
        "train_rows_available": len(full),
        "labels": len(names),
        "multi_label": multi_label,
        "test_texts_removed": test_removed,
        "validation_texts_removed": validation_removed,
        "validation_drawn_from_train": raw.validation is None,
        "dropped_empty": dropped,
        "out_of_scope": out_of_scope,
        "shots": config.shots,
        "train_rows_drawn": config.rows,
        "labels_with_fewer_shots": short,
    }
    _log.info("%s: %s", config.name, report)
    return TaskData(
        name=config.name,
        label_names=names,
        multi_label=multi_label,
        train=train,
        validation=validation,
        test=test,
        sha256=_digest(names, (train, validation, test)),
        report=report,
    )


# --- splits and draws


def _validation_split(full: Split, config: DataConfig) -> tuple[Split, Split]:
    count = max(1, round(config.validation_share * len(full)))
    strata = draws.strata_of(full.labels)
    # keep=1: a class whose only row went to validation could not be learned.
    random = draws.generator(config.split_seed, "validation")
    drawn = draws.stratified(strata, count, random, keep=1)
    rest = np.setdiff1d(np.arange(len(full)), drawn, assume_unique=True)
    return full.take(rest), full.take(drawn)


def _without(split: Split, train: Split) -> tuple[Split, int]:
    """`split` without the texts that occur in `train`, and how many rows that removed."""
    known = {normalised(text) for text in train.texts}
    new = np.array([normalised(text) not in known for text in split.texts], bool)
    return split.take(np.flatnonzero(new)), int((~new).sum())


def _training_subset(
    train: Split, names: Sequence[str], config: DataConfig, seed: int
) -> tuple[Split, dict[str, int]]:
    """The drawn rows, and the labels that have fewer rows than the shots asked for."""
    if config.rows is not None:
        strata = draws.strata_of(train.labels)
        classes = len(np.unique(strata))
        if not classes <= config.rows <= len(train):
            raise DataError(
                f"expected data.rows between {classes} (one for each class) and {len(train)} (all "
                f"training rows), got {config.rows}; change data.rows."
            )
        random = draws.generator(seed, "train")
        return train.take(draws.stratified(strata, config.rows, random, least=1)), {}
    if config.shots is None:
        return train, {}
    draw = draws.shots if train.labels.ndim == 1 else draws.shots_multi_label
    subset = train.take(draw(train.labels, config.shots, draws.generator(seed, "train")))
    if subset.labels.ndim == 1:
        counts = np.bincount(subset.labels, minlength=len(names))
    else:
        counts = subset.labels.sum(axis=0, dtype=np.int64)
    short = {name: int(n) for name, n in zip(names, counts, strict=True) if n < config.shots}
    if short:
        _log.warning("%s: labels with fewer than %d rows: %s", config.name, config.shots, short)
    return subset, short


def _cut(split: Split, rows: int | None, seed: int, stream: str) -> Split:
    if rows is None or rows >= len(split):
        return split
    random = draws.generator(seed, stream)
    return split.take(draws.stratified(draws.strata_of(split.labels), rows, random))


def _digest(names: Sequence[str], splits: Sequence[Split]) -> str:
    digest = hashlib.sha256(json.dumps(list(names)).encode())
    for split in splits:
        digest.update(b"\n--\n")
        for row in zip(split.ids.tolist(), split.texts, split.labels.tolist(), strict=True):
            digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()
