"""One line of JSON per run: what the tables need, small enough to be committed.

A line holds the run's figures, environment and commit, the overrides that repeat it, its test
predictions and, of a selection, which units it took (both as base64 of zlib).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseft.selection import Selection

__all__ = ["append", "pack", "read", "unit_bits", "unpack"]


def pack(array: NDArray[Any]) -> dict[str, Any]:
    """An array as JSON."""
    data = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "zlib": data}


def unpack(packed: dict[str, Any]) -> NDArray[Any]:
    """What `pack` packed."""
    data = zlib.decompress(base64.b64decode(packed["zlib"]))
    return np.frombuffer(data, packed["dtype"]).reshape(packed["shape"])


def unit_bits(selection: Selection) -> dict[str, Any]:
    """Which units of each group are taken, as numbers: {group: packed int32}."""
    return {
        f"{choice.layer}/{choice.kind}/{choice.label}": pack(choice.units.astype(np.int32))
        for choice in selection.choices
    }


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a line; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n"
    with path.open("a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                # A process died in the middle of its line, which `read` leaves out.
                line = "\n" + line
        stream.write(line.encode())
        stream.flush()
        os.fsync(stream.fileno())


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """All whole lines of `*.jsonl` in a folder."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue
