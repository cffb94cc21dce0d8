"""The record of one run: result.json, its schema, and where a run came from.

The schema is the contract between runs and reports. Plain data only: this module loads no torch.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sparseft import files
from sparseft.errors import ResultError
from sparseft.paths import checkout_root

__all__ = [
    "COST_KEYS",
    "SCHEMA_VERSION",
    "Result",
    "config_hash",
    "environment",
    "load_result",
    "load_results",
]

SCHEMA_VERSION = 1

COST_KEYS = (
    "train_seconds",
    "evaluation_seconds",
    "analysis_seconds",
    "head_warmup_seconds",
    "steps",
    "step_ms_median",
    "step_ms_p20",
    "step_ms_p80",
    "flops_per_step",
    "peak_memory_bytes",
    "trainable_parameters",
    "total_parameters",
    "optimizer_state_bytes",
    "delta_bytes",
)
# The rest of a cost is a number; these say how one was measured, or that it could not be.
_NULLABLE_COSTS = ("flops_per_step", "peak_memory_bytes")
_ENVIRONMENT_KEYS = (
    "commit",
    "dirty",
    "sparseft",
    "python",
    "torch",
    "transformers",
    "triton",
    "device",
    "threads",
)
# What changes where and how a run is done or watched, but not what it finds.
_NOT_HASHED = ("output", "tracking", "threads", "device", "rerun")
_NOT_HASHED_TRAINING = ("progress", "checkpoint_every", "measure_flops", "prefix_cache_max_bytes")


@dataclass(frozen=True)
class Result:
    """One run. The fields are the keys of result.json.

    Attributes:
        metrics: of the test split: accuracy, macro_f1, loss, …
        validation: the best validation score, of the metric that `config.task` asks for.
        seconds_to_best: constructs, head warm-up, analysis, prefix cache, steps and evaluations up
            to it.
        cost: the COST_KEYS, times in seconds or milliseconds; FLOPs of a step of median size;
            `peak_memory_source` says how memory was measured; `cache_seconds` and `cache_bytes` of
            the prefix cache and `constructs_seconds` of mining and of new tokens, 0 without them
            and absent in records from before them.
        selection: {density, lowest_layer, units_by_kind, heat_map}; None where there is none.
        data: {name, sha256, rows, …} with the loader's report.
        tuning: {lr, lr_scale} of the trained body.
        notes: what the method said about itself.
    """

    experiment: str
    task: str
    method: str
    model: str
    seed: int
    metrics: dict[str, float]
    validation: float
    seconds_to_best: float
    cost: dict[str, Any]
    selection: dict[str, Any] | None
    data: dict[str, Any]
    tuning: dict[str, float]
    environment: dict[str, Any]
    config: dict[str, Any]
    config_hash: str
    notes: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_mapping(self) -> dict[str, Any]:
        """The content of result.json."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, mapping: Any, source: str = "the result") -> Result:
        """The checked result in `mapping`; `source` names it in errors.

        Raises:
            ResultError: another schema version, a missing or unknown key, or a wrong value.
        """
        _check(mapping, source)
        return cls(**mapping)

    def save(self, path: Path) -> Path:
        """Write result.json atomically, after checking it.

        Raises:
            ResultError: the result breaks its own schema, with a metric of NaN for example.
        """
        mapping = self.to_mapping()
        _check(mapping, str(path))
        return files.write_json(path, mapping)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check(mapping: Any, source: str) -> None:
    def require(valid: bool, key: str, expected: str, got: Any) -> None:
        if not valid:
            raise ResultError(
                f"expected {key} in {source} to be {expected}, got {got!r}; "
                "the file is damaged or was written by another version: remove it and run again."
            )

    require(isinstance(mapping, Mapping), "the content", "an object", type(mapping).__name__)
    version = mapping.get("schema_version")
    require(version == SCHEMA_VERSION, "schema_version", str(SCHEMA_VERSION), version)
    keys = {entry.name for entry in fields(Result)}
    for key in sorted(keys - set(mapping)):
        require(False, key, "present", "nothing")
    for key in sorted(set(mapping) - keys):
        require(False, key, "absent (it is no key of the schema)", mapping[key])
    for key in ("experiment", "task", "method", "model", "config_hash"):
        require(isinstance(mapping[key], str) and mapping[key] != "", key, "a text", mapping[key])
    seed = mapping["seed"]
    require(isinstance(seed, int) and not isinstance(seed, bool), "seed", "a whole number", seed)
    for key in ("validation", "seconds_to_best"):
        require(_number(mapping[key]), key, "a finite number", mapping[key])
    for key in ("metrics", "cost", "data", "tuning", "environment", "config", "notes"):
        require(isinstance(mapping[key], Mapping), key, "an object", mapping[key])
    require(len(mapping["metrics"]) > 0, "metrics", "not empty", mapping["metrics"])
    for key, value in mapping["metrics"].items():
        require(_number(value), f"metrics.{key}", "a finite number", value)
    for key in COST_KEYS:
        value = mapping["cost"].get(key)
        absent = value is None and key in mapping["cost"] and key in _NULLABLE_COSTS
        require(absent or _number(value), f"cost.{key}", "a finite number", value)
    for key in ("lr", "lr_scale"):
        value = mapping["tuning"].get(key)
        require(_number(value), f"tuning.{key}", "a finite number", value)
    for section, names in (
        ("data", ("name", "sha256", "rows")),
        ("environment", _ENVIRONMENT_KEYS),
    ):
        for key in names:
            require(key in mapping[section], f"{section}.{key}", "present", "nothing")
    selection = mapping["selection"]
    require(
        selection is None
        or (isinstance(selection, Mapping) and {"density", "lowest_layer"} <= set(selection)),
        "selection",
        "null, or an object with density and lowest_layer",
        selection,
    )


def load_result(path: Path) -> Result:
    """Read and check one result file.

    Raises:
        ResultError: it is missing, no JSON, or breaks the schema; the message names the file.
    """
    return Result.from_mapping(files.read_json(path, ResultError), str(path))


def load_results(folder: str | Path) -> list[Result]:
    """Every `result.json` and `results/*.json` below `folder`, sorted by path.

    Raises:
        ResultError: there is no such folder, no result in it, or one of them is damaged.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ResultError(f"expected a folder of results at {root}, got none; check the path.")
    paths = [
        path
        for path in sorted(root.rglob("*.json"))
        if path.name == "result.json" or path.parent.name == "results"
    ]
    if not paths:
        raise ResultError(
            f"expected result.json files below {root}, got none; run an experiment first."
        )
    return [load_result(path) for path in paths]


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of a resolved configuration.

    Left out is what does not change the finding: output, tracking, threads, device, rerun, and of
    the training its progress bar, checkpoint interval, whether FLOPs are counted, and where a
    prefix cache lies. One that is off leaves no trace, nor do constructs that are not mined or
    the settings of another task: records from before them keep their hash.
    """
    kept = {key: value for key, value in config.items() if key not in _NOT_HASHED}
    if isinstance(kept.get("training"), Mapping):
        training = kept["training"]
        hashed = {k: v for k, v in training.items() if k not in _NOT_HASHED_TRAINING}
        cache = hashed.pop("prefix_cache", "off")
        dtype = hashed.pop("prefix_cache_dtype", None)
        kept["training"] = hashed if cache == "off" else {**hashed, "prefix_cache": dtype}
    constructs = kept.get("constructs")
    if isinstance(constructs, Mapping) and not constructs.get("mine"):
        del kept["constructs"]
    task = kept.get("task")
    if isinstance(task, Mapping) and task.get("compliance") is None:
        kept["task"] = {key: value for key, value in task.items() if key != "compliance"}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def environment(device: str, threads: int) -> dict[str, Any]:
    """Where a run takes place: code, versions, machine.

    Args:
        device: the name of the device, such as "cpu" or "NVIDIA H100 80GB HBM3".
        threads: CPU threads that torch uses.
    """
    commit, dirty = _commit()
    packages = ("sparseft", "torch", "transformers", "triton")
    return {
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
        "device": device,
        "threads": threads,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> tuple[str, bool]:
    """The checkout's commit and whether it has changes.

    A copy without its git history can be told its commit by SPARSEFT_COMMIT, else it is "unknown".
    """
    without_git = os.environ.get("SPARSEFT_COMMIT") or "unknown", False
    root = checkout_root()
    if root is None:
        return without_git

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(root), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # A checkout inside somebody else's repository must not report that one's commit.
    top = git("rev-parse", "--show-toplevel")
    commit = git("rev-parse", "HEAD")
    if top is None or commit is None or Path(top).resolve() != root:
        return without_git
    return commit, bool(git("status", "--porcelain", "--untracked-files=no"))
