"""A run's folder: its name, the result that may lie there already, and who is told of the run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparseft.config import RunConfig
from sparseft.results import Result, config_hash, load_result
from sparseft.tracking import Tracker, open_tracker

__all__ = ["RunOutcome", "finished_result", "run_folder", "tracker_of_run"]


@dataclass(frozen=True)
class RunOutcome:
    """A finished run: its record, its folder, and whether it was there already."""

    result: Result
    folder: Path
    skipped: bool = False
    resumed: bool = False


def run_folder(config: RunConfig) -> Path:
    """`<output>/<experiment>/<data>/<method>/<first 12 digits of the config hash>`."""
    digest = config_hash(config.to_mapping())
    name = str(config.method["name"])
    return Path(config.output) / config.experiment / config.data.name / name / digest[:12]


def finished_result(path: Path, where: Mapping[str, Any], rerun: bool) -> Result | None:
    """The result of the same commit that lies there, unless it is to be done again."""
    if not path.exists():
        return None
    if rerun:
        # Where this is not allowed, the first write says so.
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    result = load_result(path)
    same = all(result.environment[key] == where[key] for key in ("commit", "sparseft"))
    return result if same else None


def tracker_of_run(config: RunConfig, folder: Path, mapping: dict[str, Any]) -> Tracker | None:
    """Weights & Biases, where the configuration asks for it."""
    if config.tracking.wandb == "off":
        return None
    method = str(config.method["name"])
    return open_tracker(
        config.tracking,
        folder,
        mapping,
        name=f"{config.data.name}-{method}-seed{config.seed}-{folder.name}",
        group=f"{config.experiment}/{config.data.name}/{method}",
        tags=[method, config.data.name, f"seed{config.seed}", *config.tracking.tags],
    )
