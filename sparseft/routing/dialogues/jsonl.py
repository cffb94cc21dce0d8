"""A user's own turns, one JSON object a line.

    {"dialogue_id": "d1", "turn_id": 0, "domains": ["hotel"], "system": "", "user": "A room",
     "state": {"hotel-stay": "1"}, "delta": {"hotel-stay": "1"}}

`state` is the gold after the turn; `delta` what the turn changed of it, where a slot that is taken
away has the value [DELETE]. `domains` may be left out. Empty lines are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from sparseft import files
from sparseft.compliance.jsonl import strict_json
from sparseft.errors import DataError
from sparseft.routing.dialogues.rows import Located, checked, row_of, turn_of
from sparseft.routing.turns import Turn

__all__ = ["read_jsonl", "write_jsonl"]

_BOM = b"\xef\xbb\xbf"


def read_jsonl(path: str | Path) -> list[Turn]:
    """The turns of a file in its order.

    Raises:
        DataError: the file cannot be read or holds no turn, or a line is bad (lines count from 1);
            see also `rows.checked`.
    """
    turns = checked(_lines(Path(path)))
    if not turns:
        raise DataError(f"expected a turn in {path}, got none; write one JSON object a line.")
    return turns


def write_jsonl(path: str | Path, turns: Iterable[Turn]) -> Path:
    """Write turns so that `read_jsonl` gives them back.

    Raises:
        DataError: `read_jsonl` would refuse them.
        SparseftError: the file cannot be written; an old one is untouched.
    """
    kept = checked(
        (where, turn_of(row_of(turn), where))
        for where, turn in ((f"place {place} of the turns", t) for place, t in enumerate(turns))
    )
    lines = (json.dumps(row_of(turn), ensure_ascii=False) + "\n" for turn in kept)
    return files.write_text(Path(path), "".join(lines))


def _lines(path: Path) -> Iterator[Located]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"expected a readable JSONL file of turns at {path}, got: {error.strerror or error}; "
            "check the path."
        ) from error
    for number, line in enumerate(content.removeprefix(_BOM).split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"line {number} of {path}"
        try:
            row = strict_json(line, "a JSON object")
        except DataError as error:
            raise DataError(f"{error} It is in {where}.") from error
        if not isinstance(row, dict):
            raise DataError(
                f"expected a JSON object in {where}, got {str(row)[:80]!r}; correct it."
            )
        yield where, turn_of({"domains": [], **row}, where)
