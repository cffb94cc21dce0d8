"""Finished runs of a tiny model on disk, and the model that a test opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import sparseft
from sparseft import files, models
from sparseft.config import RunConfig
from sparseft.data import load_data
from sparseft.models import TextClassifier
from tests.tiny import tiny, tiny_batch
from tests.training.helpers import task_mapping, write_task


def write_run(
    folder: Path, name: str = "run", *, units: tuple[str, ...] = ("neuron", "head"), **changed: Any
) -> Path:
    """A run's folder with config.json and delta/, as a run of the sparse method leaves it.

    The trained values are the base's, moved; `changed` replaces keys of the delta's facts.
    """
    if not (folder / "model").is_dir():
        write_task(folder)
    mapping = RunConfig.from_mapping(task_mapping(folder, folder / "out", "sparse")).to_mapping()
    config = RunConfig.from_mapping(mapping)
    data = load_data(config.data, config.seed)
    loaded = models.load(config.model, data.num_labels, data.multi_label, config.seed)
    moved(loaded.model, units)
    facts = {
        "model": mapping["model"],
        "data": {"name": data.name, "sha256": data.sha256},
        "label_names": list(data.label_names),
        "multi_label": data.multi_label,
        **changed,
    }
    sparseft.save_delta(loaded.model, folder / name / "delta", extra=facts)
    files.write_json(folder / name / "config.json", mapping)
    return folder / name


def moved(model: TextClassifier, units: tuple[str, ...]) -> TextClassifier:
    """The model with a selection of the given kinds whose values moved, as by training."""
    batches = [tiny_batch(model, seed=seed) for seed in range(2)]
    # Embedding rows need the backward pass of every layer.
    depth = 1.0 if "embedding" in units else 0.67
    selection = sparseft.analyze(
        model,
        batches,
        budget=sparseft.Budget(density=0.2),
        units=units,
        depth=depth,
        block_edge=8,
        info={"depth": depth},
    )
    sparseft.sparsify(model, selection)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in sparseft.trainable(model):
            step = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            parameter.add_(0.3 * step.to(parameter.dtype))
    sparseft.sync(model)
    return model


def sparse_tiny(
    family: str = "bert",
    units: tuple[str, ...] = ("neuron", "head"),
    dtype: torch.dtype = torch.float32,
) -> TextClassifier:
    """A tiny classifier with moved selected units; the head stays in fp32."""
    model = tiny(family)
    model.backbone.to(dtype)
    return moved(model, units)


def change_json(path: Path, **changed: Any) -> None:
    """Replace keys of a JSON file."""
    content = json.loads(path.read_text())
    files.write_json(path, {**content, **changed})
