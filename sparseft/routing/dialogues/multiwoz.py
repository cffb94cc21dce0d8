"""MultiWOZ 2.1 and 2.4, as far as the folder of public data sets has them.

2.1: Eric et al., LREC 2020; 2.4: Ye et al., SIGDIAL 2022. In one turn of a hundred or fewer a gold
value joins several accepted ones with a vertical bar.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sparseft.errors import DataError
from sparseft.routing.dialogues.tables import data_file, read_turns
from sparseft.routing.turns import Turn

__all__ = ["SEPARATOR", "Version", "read_multiwoz", "recorded_turns"]

Version = Literal["2.1", "2.4"]
SEPARATOR = "|"

# (version, split) to file: of 2.4 there is a part of the validation split alone, and of the train
# split 538 dialogues; the READMEs of the data say what is missing.
_FILES = {
    ("2.1", "train"): ("multiwoz21", "train_subset.parquet"),
    ("2.1", "validation"): ("multiwoz21", "validation.parquet"),
    ("2.1", "test"): ("multiwoz21", "test.parquet"),
    ("2.4", "validation"): ("multiwoz24", "validation_subset.parquet"),
}


def read_multiwoz(version: str, split: str, root: str | Path | None = None) -> list[Turn]:
    """One split in the file's order.

    Args:
        version: 2.1 or 2.4.
        split: train (538 dialogues), validation or test of 2.1; validation (278) of 2.4.
        root: the folder of the data sets, see `tables.data_file`.

    Raises:
        DataError: there is no such split, or its file is missing or damaged.
    """
    if (version, split) not in _FILES:
        known = ", ".join(f"{v} {s}" for v, s in _FILES)
        raise DataError(
            f"expected a version and split of MultiWOZ ({known}), got {version} {split}; choose "
            "one of these."
        )
    return read_turns(data_file(root, *_FILES[version, split]))


def recorded_turns(root: str | Path | None = None) -> list[Turn]:
    """The 1,447 turns (200 dialogues of 2.4's validation split) that have recorded predictions.

    The predictions stand beside them, see `sparseft.routing.experts.RecordedExpert`.

    Raises:
        DataError: the file is missing or damaged.
    """
    return read_turns(data_file(root, "multiwoz24_dev_llm_predictions", "gold_turns.parquet"))
