"""The runs below a folder: their result.json and the predictions beside each."""

from __future__ import annotations

import logging
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sparseft.errors import ResultError
from sparseft.files import read_json
from sparseft.reporting.statistics import RowScores
from sparseft.results import Result, load_result

__all__ = ["Collection", "Run", "collect"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        result: the checked record.
        path: of the record.
        scores: the parts of its test metric for each row; None where no predictions were kept.
    """

    result: Result
    path: Path
    scores: RowScores | None

    @cached_property
    def examples(self) -> list[dict[str, Any]]:
        """The texts with token saliency that the run wrote; empty where it wrote none.

        Raises:
            ResultError: the file is damaged.
        """
        path = self.path.with_name("examples.json")
        if self.path.name != "result.json" or not path.is_file():
            return []
        content = read_json(path, ResultError)
        needed = {"text", "tokens", "saliency", "label", "prediction", "probability"}
        valid = isinstance(content, list) and all(
            isinstance(entry, dict)
            and needed <= set(entry)
            and len(entry["tokens"]) == len(entry["saliency"])
            for entry in content
        )
        if not valid:
            raise ResultError(
                f"expected a list of examples with {', '.join(sorted(needed))} in {path}, got "
                "something else; the file is damaged, remove it."
            )
        return content


@dataclass(frozen=True)
class Collection:
    """All runs below a folder, and the files that were left out because they are damaged."""

    root: Path
    runs: tuple[Run, ...]
    damaged: tuple[str, ...]


def collect(folder: str | Path, skip_damaged: bool = False) -> Collection:
    """Read every `result.json` and `results/*.json` below `folder`.

    Predictions are read from `predictions.npz` beside a `result.json`, or from `NAME.npz` beside a
    `results/NAME.json`.

    Args:
        folder: where to look.
        skip_damaged: leave damaged records out and name them, instead of stopping at the first.

    Raises:
        ResultError: no such folder, no result in it, a damaged record, or the same run twice.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ResultError(f"expected a folder of results at {root}, got none; check the path.")
    paths = [
        path for path in sorted(root.rglob("*.json")) if _is_record(path.relative_to(root), path)
    ]
    runs: list[Run] = []
    damaged: list[str] = []
    for path in paths:
        try:
            run = Run(load_result(path), path, _scores(path))
            _ = run.examples  # a damaged file must show before anything is written
            runs.append(run)
        except ResultError as error:
            if not skip_damaged:
                raise ResultError(f"{error} (--skip-damaged leaves it out.)") from error
            _LOG.warning("left out: %s", error)
            damaged.append(str(path.relative_to(root)))
    if not runs:
        got = f"only damaged ones: {', '.join(damaged)}" if damaged else "none"
        raise ResultError(
            f"expected result.json files below {root}, got {got}; run an experiment first."
        )
    return Collection(root, tuple(runs), tuple(damaged))


def _is_record(relative: Path, path: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    return not hidden and (path.name == "result.json" or path.parent.name == "results")


def _scores(record: Path) -> RowScores | None:
    kept = "predictions.npz" if record.name == "result.json" else f"{record.stem}.npz"
    path = record.with_name(kept)
    if not path.is_file():
        return None
    try:
        # Opened here, because numpy leaves a damaged file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return RowScores.of(
                arrays["test_ids"], arrays["test_labels"], arrays["test_predictions"]
            )
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        # ResultError is a ValueError too: its message says what does not fit, this one says where.
        raise ResultError(
            f"expected test_ids, test_labels and test_predictions in {path}, got: {error}; "
            "the file is damaged, run it again."
        ) from error
