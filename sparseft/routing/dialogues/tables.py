"""Turns of a parquet file: one row a user turn, its state and delta as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sparseft.compliance.jsonl import strict_json
from sparseft.errors import DataError
from sparseft.paths import default_data_root
from sparseft.routing.dialogues.rows import checked, turn_of
from sparseft.routing.turns import Turn

__all__ = ["data_file", "located_rows", "read_turns"]

_COLUMNS = ("dialogue_id", "turn_id", "domains", "system", "user", "state", "delta")


def read_turns(path: str | Path) -> list[Turn]:
    """The turns of a file in its order.

    Args:
        path: a parquet file with dialogue_id, turn_id (user turns from 0), domains (list), system
            (empty at turn 0), user, state and delta (JSON objects of slot to value; a slot that
            is taken away has the value `DELETE`). Further columns are left alone.

    Raises:
        DataError: the file is missing or damaged, lacks a column, or a row is bad (rows count
            from 0); see also `rows.checked`.
    """
    return checked((where, turn_of(row, where)) for where, row in located_rows(Path(path)))


def located_rows(path: Path, further: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each row stands, and its fields with state and delta read.

    Args:
        further: columns that must be there as well.

    Raises:
        DataError: as `read_turns`.
    """
    import pyarrow
    import pyarrow.parquet

    columns = [*_COLUMNS, *further]
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            found = file.schema_arrow.names
            lacking = [name for name in columns if name not in found]
            if lacking:
                raise DataError(
                    f"expected a column {lacking[0]!r} in {path}, got the columns "
                    f"{', '.join(map(repr, found))}; see sparseft.routing.dialogues.read_turns."
                )
            rows = file.read(columns=columns).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"expected a parquet file of dialogue turns at {path}, got: {error}; check the path, "
            "the file may be damaged."
        ) from error
    for number, row in enumerate(rows):
        where = f"row {number} of {path}"
        yield where, {**row, **{name: _parsed(row[name], where) for name in ("state", "delta")}}


def data_file(root: str | Path | None, *parts: str) -> Path:
    """A file of the public data sets.

    Args:
        root: their folder; None: `../shared/data` beside the checkout or the working directory.
        parts: folder and name below it.

    Raises:
        DataError: there is no such folder or file.
    """
    name = "/".join(parts)
    folder = default_data_root() if root is None else Path(root).expanduser()
    if folder is None:
        raise DataError(
            f"expected {name} in the folder of public data sets, got none: there is no "
            "../shared/data beside the checkout or the working directory; set data.root=FOLDER, or "
            "use the built-in dialogues."
        )
    path = folder.joinpath(*parts)
    if not path.is_file():
        raise DataError(
            f"expected the file {name} in {folder}, got none; set data.root=FOLDER to the one that "
            "holds it, or use the built-in dialogues."
        )
    return path


def _parsed(text: Any, where: str) -> Any:
    if not isinstance(text, str):
        raise DataError(f"expected a JSON object, got {text!r} in {where}; fetch the file again.")
    try:
        return strict_json(text.encode(), "a JSON object")
    except (DataError, ValueError) as error:
        raise DataError(f"{error} It is in {where}.") from error
