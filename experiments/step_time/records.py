"""The GPU benchmark's records: one file per model, method and mode, written atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cases import METHODS

import sparseft
import sparseft_kernels
from sparseft import files

__all__ = ["EAGER", "GRAPHS", "Key", "Records", "load"]

EAGER, GRAPHS = "eager", "graphs"
# What another run would find again. Skipped and failed ones are tried again.
_FINAL = ("measured", "does not fit", "cannot be captured")

# What decides about a step's time: of the library, and of this folder.
_PARTS = ("methods", "models", "optim", "selection", "sparse")
_MEASURING = ("capture", "cases", "memory", "shapes", "sitting", "timing")


@dataclass(frozen=True)
class Key:
    """What one record is about; `mode` is "eager" or "graphs"."""

    model: str
    method: str
    mode: str

    def path(self, folder: Path) -> Path:
        """Its file."""
        return folder / f"{self.model}-{self.method}-{self.mode}.json"


class Records:
    """The records of a folder, as one run sees them.

    A record is finished if it is of the same code and device, and final or of this very run.

    Args:
        folder: where they lie.
        environment: of `sparseft.results.environment`.
        run: the run's name: a method that failed in it is not tried twice.
    """

    def __init__(self, folder: Path, environment: Mapping[str, Any], run: str) -> None:
        self.folder, self._environment, self.run = folder, dict(environment), run
        self._code = _code()

    def status(self, key: Key) -> str | None:
        """What is known of `key` for good, or in this run; None where it is to be measured."""
        path = key.path(self.folder)
        if not path.exists():
            return None
        record = files.read_json(path)
        device = record["environment"]["device"]
        same = (record["code"], device) == (self._code, self._environment["device"])
        valid = same and (record["status"] in _FINAL or record["run"] == self.run)
        return str(record["status"]) if valid else None

    def finished(self, key: Key) -> bool:
        """Whether nothing is left to do for `key`."""
        return self.status(key) is not None

    def pending(self, model: str, modes: Iterable[str]) -> list[Key]:
        """What is left of a model, in the order of METHODS."""
        keys = [Key(model, method, mode) for method in METHODS for mode in modes]
        return [key for key in keys if not self.finished(key)]

    def valid(self) -> list[dict[str, Any]]:
        """The records of this code and device."""
        return [
            record
            for record in load(self.folder)
            if self.finished(Key(record["model"], record["method"], record["mode"]))
        ]

    def write(self, key: Key, status: str, content: Mapping[str, Any]) -> None:
        """Keep what was found out about `key`.

        `status` is measured, does not fit, cannot be captured, skipped or failed.
        """
        record = {
            "schema_version": 1,
            "model": key.model,
            "method": key.method,
            "mode": key.mode,
            "status": status,
            "run": self.run,
            "code": self._code,
            "environment": self._environment,
            **content,
        }
        files.write_json(key.path(self.folder), record)
        print(_line(key, status, record), flush=True)


def _code() -> str:
    """A short hash of the code that a step runs through.

    Finer than the commit: another commit with the same code needs no new measurement, and a
    checkout with changes, or a copy without git, is told from others too.
    """
    sources = [
        path
        for package, parts in ((sparseft, _PARTS), (sparseft_kernels, ("",)))
        for part in parts
        for path in (Path(package.__path__[0]) / part).rglob("*.py")
    ] + [Path(__file__).parent / f"{name}.py" for name in _MEASURING]
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def load(folder: Path) -> list[dict[str, Any]]:
    """All records of a folder, of whatever code and device."""
    return [files.read_json(path) for path in sorted(folder.glob("*.json"))]


def _line(key: Key, status: str, record: Mapping[str, Any]) -> str:
    name = f"{key.model:16s} {key.method:16s} {key.mode:7s}"
    if status != "measured":
        return f"{name} {status}: {record['reason']}"
    ratio, peak = record["ratio_median"], record["memory"]["peak_bytes"]
    return (
        f"{name} {record['ms_median']:9.2f} ms"
        + (f"   ratio {ratio:.3f}" if ratio is not None else "")
        + (f"   peak {peak / 2**30:.2f} GiB" if peak is not None else "")
    )
