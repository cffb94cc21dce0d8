"""metrics.jsonl: one line per logged step, on disk as soon as it is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from sparseft import files
from sparseft.errors import SparseftError

__all__ = ["MetricsLog", "StepTracker"]


class StepTracker(Protocol):
    """What training needs of a tracker: to be told of each step."""

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Take the values of one optimizer step."""


class MetricsLog:
    """Appends lines of {"kind", "step", …} to a file and hands the same values to a tracker.

    `kind` is "train" or "validation"; a step has at most one line of each kind. The tracker sees
    the values under `kind/name`.

    Args:
        path: metrics.jsonl.
        tracker: told of every line too, where there is one.
        after_step: lines of later steps, left by a run that was killed after its last checkpoint,
            are removed; 0 starts the file anew.

    Raises:
        SparseftError: the file cannot be written.
    """

    def __init__(self, path: Path, tracker: StepTracker | None = None, after_step: int = 0) -> None:
        self._path = path
        self._tracker = tracker
        self.shift = 0  # added to the steps: of a training that follows another one
        files.write_text(path, "".join(line + "\n" for line in _kept(path, after_step)))
        self._stream = path.open("a", encoding="utf-8")

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Append one line.

        Raises:
            SparseftError: the disk is full, for example.
        """
        step += self.shift
        line = json.dumps({"kind": kind, "step": step, **values}, allow_nan=False)
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except OSError as error:
            raise SparseftError(
                f"expected to write {self._path}, got: {error.strerror or error}; "
                "free some space or choose another output folder."
            ) from error
        if self._tracker is not None:
            named = {f"{kind}/{name}": value for name, value in values.items()}
            self._tracker.log(named, step)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _kept(path: Path, after_step: int) -> list[str]:
    if after_step == 0 or not path.exists():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            continue  # the line that was being written when the run was killed
        if step <= after_step:
            kept.append(line)
    return kept
