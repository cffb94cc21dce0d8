"""The record of a run whose task is not classification, and the delta that it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparseft import sparse
from sparseft.config import RunConfig
from sparseft.methods import Prepared
from sparseft.results import Result, config_hash
from sparseft.training.meters import tensor_bytes
from sparseft.training.prefix_cache import CacheOfRun
from sparseft.training.progress import TrainOutcome

__all__ = ["result_of_task", "save_task_delta"]


def save_task_delta(
    config: RunConfig,
    prepared: Prepared,
    folder: Path,
    *,
    data: Mapping[str, Any],
    metrics: Mapping[str, float],
    beside: Mapping[str, str],
) -> int:
    """Write the delta with all that using it needs; returns the bytes of the trained values.

    Args:
        folder: of the run; nothing is written for a method without a selection.
        data: name and sha256 of what was trained on.
        beside: further files by name.
    """
    values = [p.detach() for p in (*prepared.body, *prepared.head)]
    if prepared.selection is None or config.training.save == "none":
        return tensor_bytes(values)
    extra = {
        "task": config.task.name,
        "model": config.to_mapping()["model"],
        "data": dict(data),
        "method": str(config.method["name"]),
        "seed": config.seed,
        "metrics": {f"test {name}": round(value, 6) for name, value in metrics.items()},
    }
    sparse.save_delta(prepared.model, folder / "delta", extra=extra, beside=dict(beside))
    return (folder / "delta" / "delta.safetensors").stat().st_size


def result_of_task(
    config: RunConfig,
    prepared: Prepared,
    outcome: TrainOutcome,
    cache: CacheOfRun,
    *,
    metric: str,
    metrics: dict[str, float],
    data: dict[str, Any],
    head_seconds: float,
    total_parameters: int,
    delta_bytes: int,
    environment: dict[str, Any],
    notes: Mapping[str, Any],
) -> Result:
    """The record.

    Args:
        metric: what validation was led by.
        data: name, sha256 and what else is to be said of it.
        head_seconds: of the head's warm-up.
        total_parameters: of the model before the method.
    """
    selection = prepared.selection
    trained = [*prepared.body, *prepared.head]
    mapping = config.to_mapping()
    return Result(
        experiment=config.experiment,
        task=config.task.name,
        method=str(config.method["name"]),
        model=config.model.name,
        seed=config.seed,
        metrics=metrics,
        validation=outcome.score,
        seconds_to_best=outcome.seconds_to_best
        + head_seconds
        + prepared.analysis_seconds
        + cache.seconds,
        cost={
            **outcome.cost,
            "analysis_seconds": prepared.analysis_seconds,
            "head_warmup_seconds": head_seconds,
            "cache_seconds": cache.seconds,
            "cache_bytes": cache.bytes,
            "constructs_seconds": 0.0,
            "trainable_parameters": sum(p.numel() for p in trained),
            "total_parameters": total_parameters,
            "delta_bytes": delta_bytes,
        },
        selection=None
        if selection is None
        else {
            "density": selection.density,
            "lowest_layer": selection.lowest_layer,
            "units_by_kind": selection.units_by_kind(),
            "heat_map": selection.heat_map(),
        },
        data=data,
        tuning={"lr": config.lr * prepared.lr_factor, "lr_scale": config.lr_scale},
        environment=environment,
        config=mapping,
        config_hash=config_hash(mapping),
        notes={
            **prepared.notes,
            **cache.notes,
            **outcome.notes,
            **notes,
            "metric": metric,
            "best_epoch": outcome.best_epoch,
            "best_step": outcome.best_step,
        },
    )
