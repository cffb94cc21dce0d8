"""From records to the dispatcher's break-even tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.records import Records
from bench.run import best_timing
from sparseft import files
from sparseft_kernels import dispatch

__all__ = ["table", "write_table"]


def table(records: Records) -> dict[str, Any]:
    """The content of a table: for each case the medians of what the dispatcher can choose.

    What was not verified has no place in it; nor has a case where nothing was.
    """
    operations: dict[str, list[dict[str, Any]]] = {}
    environment: Mapping[str, Any] = {}
    for record in records.latest():
        times: dict[str, float] = {}
        config: Mapping[str, int] = {}
        for name in dispatch.NAMES:
            best = best_timing(record, name)
            if best is not None:
                times[name] = best["microseconds"]["p50"]
                if name == "triton":
                    config = best["config"]
        if not times:
            continue
        environment = {**record["environment"], "gpu": record["gpu"]}
        entry = {
            "dtype": record["dispatch_dtype"],
            "dims": record["dims"],
            "microseconds": times,
            "config": config,
        }
        operations.setdefault(record["case"]["operation"], []).append(entry)
    for name, entries in operations.items():
        # Two densities of a small weight may select equally many units.
        unique = {(e["dtype"], *sorted(e["dims"].items())): e for e in entries}
        operations[name] = [unique[key] for key in sorted(unique, key=str)]
    return {"environment": environment, "operations": operations}


def write_table(records: Records, gpu: str, folder: Path | None = None) -> Path:
    """Write tables/<gpu>.json, where the dispatcher looks for it."""
    path = dispatch.table_for(gpu, dispatch.TABLES if folder is None else folder)
    return files.write_json(path, table(records))
