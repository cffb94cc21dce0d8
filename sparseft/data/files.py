"""Reading the columns of a data file: parquet, CSV, TSV, or JSON Lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from sparseft.errors import DataError

__all__ = ["Columns", "missing_column", "read_columns", "read_csv"]

Columns = list[list[Any]]  # one list of values per requested column


def read_columns(path: Path, columns: Sequence[str]) -> Columns:
    """The values of `columns` in the file at `path`, its format told by its suffix.

    Raises:
        DataError: the file is missing, damaged, of another format, or lacks a column.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"expected a data file ending in {', '.join(_READERS)}, got {path}; "
            "convert it to one of these."
        )
    try:
        return reader(path, columns)
    except FileNotFoundError as error:
        raise DataError(
            f"expected a data file at {path}, got no such file; "
            "correct its name or data.root (the folder that relative names start from)."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected UTF-8 text in {path}, got byte 0x{error.object[error.start]:02x}; "
            "save the file as UTF-8."
        ) from error
    except OSError as error:
        raise DataError(
            f"expected to read {path}, got: {error.strerror or error}; check the file and its "
            "permissions."
        ) from error


def missing_column(column: str, found: Sequence[str], source: str) -> DataError:
    """The error for a column that `source` lacks."""
    return DataError(
        f"expected a column {column!r} in {source}, got the columns {', '.join(map(repr, found))}; "
        "set data.text_column and data.label_column."
    )


def _read_parquet(path: Path, columns: Sequence[str]) -> Columns:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            found = file.schema_arrow.names
            for column in columns:
                if column not in found:
                    raise missing_column(column, found, str(path))
            table = file.read(columns=list(dict.fromkeys(columns)))
    except pyarrow.ArrowInvalid as error:
        raise DataError(
            f"expected a parquet file at {path}, got: {error}; the file is damaged or of another "
            "format."
        ) from error
    return [table.column(column).to_pylist() for column in columns]


def read_csv(stream: TextIO, columns: Sequence[str], source: str, delimiter: str = ",") -> Columns:
    """The values of `columns` (all text) in CSV with a header line.

    Raises:
        DataError: a column is missing, or a row has another number of fields than the header.
    """
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        places = []
        for column in columns:
            if column not in header:
                raise missing_column(column, header, source)
            places.append(header.index(column))
        values: Columns = [[] for _ in columns]
        for row in reader:
            if not row:  # an empty line
                continue
            if len(row) != len(header):
                raise DataError(
                    f"expected {len(header)} fields in line {reader.line_num} of {source}, "
                    f"got {len(row)}; quote texts that hold the delimiter."
                )
            for column_values, place in zip(values, places, strict=True):
                column_values.append(row[place])
    except csv.Error as error:
        raise DataError(
            f"expected CSV in {source}, got in line {reader.line_num}: {error}; "
            "correct the quotes there."
        ) from error
    return values


def _read_csv_file(path: Path, columns: Sequence[str]) -> Columns:
    # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
    with open(path, encoding="utf-8-sig", newline="") as stream:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        return read_csv(stream, columns, str(path), delimiter)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open(path, encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"expected one JSON object in line {number} of {path}, got: {error.msg}; "
                    "write one object a line."
                ) from error
            if not isinstance(record, dict):
                raise DataError(
                    f"expected a JSON object in line {number} of {path}, got a "
                    f"{type(record).__name__}; write one object a line."
                )
            yield number, record


def _read_jsonl(path: Path, columns: Sequence[str]) -> Columns:
    values: Columns = [[] for _ in columns]
    for number, record in _records(path):
        for column_values, column in zip(values, columns, strict=True):
            if column not in record:
                raise missing_column(column, list(record), f"line {number} of {path}")
            column_values.append(record[column])
    return values


_READERS: dict[str, Callable[[Path, Sequence[str]], Columns]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv_file,
    ".tsv": _read_csv_file,
    ".jsonl": _read_jsonl,
}
