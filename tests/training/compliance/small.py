"""The configuration of a small run of the compliance task, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparseft.config import RunConfig

__all__ = ["small_config"]


def small_config(
    model: Path, output: Path, method: str = "sparse", max_length: int = 48, **compliance: Any
) -> RunConfig:
    """Fifteen simulated conversations, two epochs; `compliance` are options of the task."""
    options: dict[str, Any] = {"density": 0.3, "batches": 2} if method == "sparse" else {}
    return RunConfig.from_mapping(
        {
            "experiment": "test",
            "output": str(output),
            "device": "cpu",
            "model": {"name": "tiny", "source": "path", "id": str(model), "max_length": max_length},
            "data": {"name": "service", "kind": "simulator", "rows": 15, "test_rows": 3},
            "method": {"name": method, "lr": 3e-3, **options},
            "training": {
                "epochs": 2,
                "batch_size": 4,
                "eval_batch_size": 4,
                "head_warmup_steps": 5,
                "prefix_cache": "memory",
                "measure_flops": False,
                "progress": "off",
            },
            "task": {"name": "compliance", "compliance": compliance},
            "tracking": {"wandb": "off"},
        }
    )
