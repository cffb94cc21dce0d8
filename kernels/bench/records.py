"""The file of finished cases: one JSON object a line, appended whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sparseft import files
from sparseft_kernels.dispatch import table_for

__all__ = ["Records", "folder_for", "write_csv"]

Record = Mapping[str, Any]

_COLUMNS = (
    "gpu", "operation", "dtype", "d", "tokens", "density", "options", "implementation", "config",
    "us_p20", "us_p50", "us_p80", "host_us", "floor_us", "share_of_floor", "relative_rms",
    "verified", "mode", "error", "commit", "dirty", "code", "torch", "triton", "cuda",
)  # fmt: skip


def folder_for(gpu: str, results: Path) -> Path:
    """Where the records of one kind of GPU are."""
    return results / table_for(gpu).stem


class Records:
    """Finished cases of one GPU: cases.jsonl in a folder.

    A line is written by one system call, so a run that is killed leaves no half record behind; a
    last line that a full disk cut short is passed over when the file is read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cases.jsonl"
        self._records: list[dict[str, Any]] = list(self._read())

    def _read(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue

    def append(self, record: dict[str, Any]) -> None:
        """Keep a record."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(record, sort_keys=True, allow_nan=False).encode() + b"\n"
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            line = b"\n" + line
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._records.append(record)

    def finished(self, key: str, code: str) -> bool:
        """Whether a case was measured with this code."""
        return any(r["key"] == key and r["code"] == code for r in self._records)

    def latest(self) -> list[dict[str, Any]]:
        """The newest record of each case."""
        return list({record["key"]: record for record in self._records}.values())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


def write_csv(records: Records) -> Path:
    """cases.csv beside the records: one line for each implementation of each case."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in records.latest():
        versions = record["environment"]
        for timing in record["timings"]:
            us = timing.get("microseconds", {})
            median = us.get("p50")
            writer.writerow({
                "gpu": record["gpu"], **record["case"],
                "options": _pairs(record["case"]["options"]),
                "implementation": timing["name"], "config": _pairs(timing["config"]),
                "us_p20": _round(us.get("p20")), "us_p50": _round(median),
                "us_p80": _round(us.get("p80")), "host_us": _round(timing.get("host_us")),
                "floor_us": _round(record["floor_us"]),
                "share_of_floor": _round(record["floor_us"] / median) if median else "",
                "relative_rms": timing.get("relative_rms", ""),
                "verified": timing["verified"], "mode": timing.get("mode", ""),
                "error": timing.get("error", ""), "code": record["code"],
                **{k: versions[k] for k in ("commit", "dirty", "torch", "triton", "cuda")},
            })  # fmt: skip
    return files.write_text(records.path.with_suffix(".csv"), text.getvalue())


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())


def _round(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
