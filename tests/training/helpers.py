"""A small task on disk, its configuration, and loaders of fixed batches."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sparseft.config import RunConfig
from tests.tiny import save_tiny_model

LABELS = ("alpha", "beta", "gamma")


def write_task(folder: Path, dropout: float = 0.1) -> Path:
    """A tiny BERT with dropout and three CSV files whose label shows in the words."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tiny_model(folder / "model")
    settings = folder / "model" / "config.json"
    config = json.loads(settings.read_text())
    config.update(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    settings.write_text(json.dumps(config))
    random = np.random.default_rng(0)
    for split, rows in (("train", 42), ("validation", 15), ("test", 18)):
        with (folder / f"{split}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["text", "label"])
            for row in range(rows):
                kind = row % 3
                words = random.integers(0, 55, size=random.integers(3, 9))
                words[: 1 + row % 2] = 10 * kind + random.integers(0, 10)
                text = " ".join(f"word{word}" for word in words)
                writer.writerow([text, LABELS[kind]])
    return folder


def task_overrides(task: Path) -> list[str]:
    """The command line of a short run on the task in `task`, without W&B."""
    return [
        "model=path",
        f"model.id={task / 'model'}",
        "model.max_length=32",
        "data=files",
        "data.name=words",
        f"data.root={task}",
        "data.train=train.csv",
        "data.validation=validation.csv",
        "data.test=test.csv",
        "training.epochs=1",
        "tracking.wandb=off",
    ]


def task_mapping(
    folder: Path, output: Path, method: str = "full", **training: Any
) -> dict[str, Any]:
    """A run of `method` on the task in `folder`; `training` overrides its settings."""
    options: dict[str, Any] = {"density": 0.2} if method.startswith("sparse") else {}
    return {
        "experiment": "test",
        "output": str(output),
        "device": "cpu",
        "model": {"name": "tiny", "source": "path", "id": str(folder / "model"), "max_length": 32},
        "data": {
            "name": "words",
            "kind": "files",
            "root": str(folder),
            **{split: f"{split}.csv" for split in ("train", "validation", "test")},
        },
        "method": {"name": method, "lr": 3e-3, **options},
        "training": {
            "epochs": 2,
            "batch_size": 8,
            "head_warmup_steps": 5,
            "progress": "off",
            "save": "all",
            **training,
        },
        "tracking": {"wandb": "off"},
    }


def task_config(folder: Path, output: Path, method: str = "full", **training: Any) -> RunConfig:
    """`task_mapping`, checked."""
    return RunConfig.from_mapping(task_mapping(folder, output, method, **training))


class FixedBatches:
    """The same batches every epoch, as a loader."""

    def __init__(self, batches: list[dict[str, Tensor]]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def set_epoch(self, epoch: int) -> None:
        """The order does not change."""

    def batches(self, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """From number `start` on."""
        yield from self._batches[start:]
