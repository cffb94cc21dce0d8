"""A small saved delta and the base model it belongs to, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sparseft
from sparseft import models
from sparseft.config import ModelConfig
from sparseft.models import LoadedModel
from tests.tiny import save_tiny_model, tiny_batch

LABELS = ["cancel_order", "refund_missing", "change_address"]


def model_section(folder: Path, family: str = "bert") -> dict[str, Any]:
    """Save a tiny base model; how the configuration names it."""
    base = save_tiny_model(folder / family, family)
    return {"name": "tiny", "source": "path", "id": str(base), "max_length": 16}


def trained(section: dict[str, Any], multi_label: bool = False) -> LoadedModel:
    """The base with a selection whose values and head were moved, as training would."""
    loaded = models.load(ModelConfig(**section), len(LABELS), multi_label)
    batches = [tiny_batch(loaded.model, seed=seed) for seed in range(2)]
    selection = sparseft.analyze(
        loaded.model, batches, budget=sparseft.Budget(density=0.2), units=("neuron",)
    )
    sparseft.sparsify(loaded.model, selection)
    for parameter in sparseft.trainable(loaded.model):
        parameter.data.mul_(1.5)
    # A new head's weights are so small that every text would get nearly the same answer.
    loaded.model.head.weight.data.mul_(10)
    sparseft.sync(loaded.model)
    return loaded


def save_delta(
    folder: Path, family: str = "bert", multi_label: bool = False, **changed: Any
) -> Path:
    """A delta folder; `changed` replaces its extra facts (None removes one)."""
    section = model_section(folder, family)
    loaded = trained(section, multi_label)
    extra = {"model": section, "label_names": LABELS, "multi_label": multi_label, **changed}
    kept = {key: value for key, value in extra.items() if value is not None}
    return sparseft.save_delta(loaded.model, folder / "run" / "delta", extra=kept)
