"""Schema-Guided Dialogue (Rastogi et al., AAAI 2020), as far as the folder of data sets has it.

A gold value may join several accepted ones with a vertical bar, and a later turn may add one that
the user or the system has said since: such a turn has a delta though no value changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparseft.errors import DataError
from sparseft.routing.dialogues.rows import Located, checked, turn_of
from sparseft.routing.dialogues.tables import data_file, located_rows
from sparseft.routing.turns import Turn

__all__ = ["SEPARATOR", "read_sgd", "read_sgd_turns"]

SEPARATOR = "|"
_FILES = {
    "train": "train_subset.parquet",
    "validation": "validation_subset.parquet",
    "test": "test_partial.parquet",
}


def read_sgd(split: str, root: str | Path | None = None) -> list[Turn]:
    """One split in the file's order; see `read_sgd_turns`.

    Args:
        split: train (2,000 dialogues), validation (600) or test (2,921 of 4,201).
        root: the folder of the data sets, see `tables.data_file`.

    Raises:
        DataError: there is no such split, or its file is missing or damaged.
    """
    if split not in _FILES:
        raise DataError(
            f"expected a split of SGD ({', '.join(_FILES)}), got {split!r}; choose one of these."
        )
    return read_sgd_turns(data_file(root, "sgd", _FILES[split]))


def read_sgd_turns(path: str | Path) -> list[Turn]:
    """The turns of a file; their domains are the services that the turn has a frame of.

    The column `domains` is of the whole dialogue, so it would tell what the user comes to later;
    the frames are those of the column `active_intents` (SERVICE:INTENT).

    Raises:
        DataError: as `tables.read_turns`.
    """
    return checked(_turns(Path(path)))


def _turns(path: Path) -> Iterator[Located]:
    for where, row in located_rows(path, ["active_intents"]):
        yield where, turn_of({**row, "domains": _services(row["active_intents"], where)}, where)


def _services(intents: Any, where: str) -> list[str]:
    if not isinstance(intents, list) or not all(
        isinstance(each, str) and ":" in each for each in intents
    ):
        raise DataError(
            f"expected active_intents to be a list of SERVICE:INTENT, got {str(intents)[:80]!r} in "
            f"{where}; fetch the file again."
        )
    return [each.split(":", 1)[0] for each in intents]
