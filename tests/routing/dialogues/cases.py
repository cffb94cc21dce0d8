"""Rows of dialogue files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from sparseft.routing import DELETE


def rows() -> list[dict[str, Any]]:
    """Two dialogues in the files' shape, the second in the wrong order; states as objects."""
    return [
        _row("a", 0, "", "A room in the north.", {"hotel-area": "north"}, {"hotel-area": "north"}),
        _row("a", 1, "Which?", "Not there.", {}, {"hotel-area": DELETE}),
        _row("b", 1, "And?", "Ça va.", {"taxi-day": "monday"}, {}),
        _row("b", 0, "", "A taxi.", {"taxi-day": "monday"}, {"taxi-day": "monday"}),
    ]


def _row(
    dialogue: str, turn: int, system: str, user: str, state: dict[str, str], delta: dict[str, str]
) -> dict[str, Any]:
    return {
        "dialogue_id": dialogue,
        "turn_id": turn,
        "domains": ["hotel" if dialogue == "a" else "taxi"],
        "system": system,
        "user": user,
        "state": state,
        "delta": delta,
    }


def table(path: Path, content: list[dict[str, Any]]) -> Path:
    """Write a parquet file; states and deltas that are objects become JSON."""
    plain = [
        {name: json.dumps(v) if isinstance(v, dict) else v for name, v in row.items()}
        for row in content
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(plain), path)
    return path


def lines(path: Path, content: list[Any]) -> Path:
    """Write a JSONL file."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in content), encoding="utf-8")
    return path
