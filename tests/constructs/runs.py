"""A small task with planted constructs, and the configuration of its runs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from sparseft.config import RunConfig
from tests.constructs.helpers import planted
from tests.tiny import save_tiny_model
from tests.training.helpers import task_mapping

NAMES = ("pair", "single", "none")
TOKENS = {"mine": True, "tokens": 5, "resamples": 10}


def write_task(folder: Path, family: str = "bert") -> Path:
    save_tiny_model(folder / "model", family)
    for seed, (split, rows) in enumerate((("train", 60), ("validation", 15), ("test", 18))):
        texts, labels = planted(rows, seed)
        with (folder / f"{split}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["text", "label"])
            writer.writerows((t, NAMES[n]) for t, n in zip(texts, labels, strict=True))
    return folder


def config_of(
    task: Path, output: Path, method: str = "sparse", constructs: Any = TOKENS, **training: Any
) -> RunConfig:
    mapping = task_mapping(task, output, method, **{"epochs": 1, "save": "delta", **training})
    if method == "sparse":
        # Rows of the embedding are among what may be trained.
        mapping["method"] |= {"units": ["neuron", "embedding"], "density": 0.3, "depth": 1.0}
        mapping["method"] |= {"score": "fisher", "folds": 0}
    return RunConfig.from_mapping({**mapping, "constructs": constructs})
