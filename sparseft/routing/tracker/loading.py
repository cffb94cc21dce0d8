"""A tracker from the delta that a run saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sparseft import files, models, sparse
from sparseft.config import ModelConfig
from sparseft.errors import DeltaError
from sparseft.routing.tracker.expert import TrackerExpert
from sparseft.routing.tracker.rows import TurnEncoder
from sparseft.routing.tracker.vocabulary import Vocabulary

__all__ = ["FORMAT", "SETTINGS_FILE", "load_tracker_expert", "tracker_settings"]

SETTINGS_FILE = "tracker.json"
FORMAT = 1


def tracker_settings(
    vocabulary: Vocabulary, max_length: int, separator: str | None, trained_on: frozenset[str]
) -> dict[str, Any]:
    """What stands beside a tracker's delta."""
    return {
        "format": FORMAT,
        "vocabulary": vocabulary.to_json(),
        "max_length": max_length,
        "separator": separator,
        "trained_on": sorted(trained_on),
    }


def load_tracker_expert(
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    device: str = "cpu",
    batch_size: int = 32,
) -> TrackerExpert:
    """The expert of a finished run: base model, delta, vocabulary.

    Args:
        folder: a delta's folder, or its run's.
        name: for records; by default that of the base model with the data it was trained on.
        device: such as "cpu" or "cuda".
        batch_size: turns read together.

    Raises:
        DeltaError: the folder holds no delta of a tracker, a damaged one, or one of another base.
        ModelError: the base model is missing.
    """
    path = Path(folder)
    path = path / "delta" if (path / "delta").is_dir() else path
    if not (path / SETTINGS_FILE).is_file():
        raise DeltaError(
            f"expected a delta of a tracker at {path} (with {SETTINGS_FILE}), got none; give the "
            "folder that `python -m sparseft.run +experiment=dst` names."
        )
    settings = files.read_json(path / SETTINGS_FILE, DeltaError)
    facts = files.read_json(path / "config.json", DeltaError)
    try:
        if settings["format"] != FORMAT:
            raise DeltaError(
                f"expected the format {FORMAT} in {path / SETTINGS_FILE}, got "
                f"{settings['format']!r}; use the version of sparseft that wrote it."
            )
        vocabulary = Vocabulary.from_json(settings["vocabulary"])
        length, separator = int(settings["max_length"]), settings["separator"]
        trained_on = frozenset(map(str, settings["trained_on"]))
        config = ModelConfig(**facts["extra"]["model"])
        data = str(facts["extra"]["data"]["name"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DeltaError(
            f"expected the settings of a tracker in {path}, got: {error!r}; the files are damaged, "
            "finetune again."
        ) from error
    loaded = models.load_tracker(config, vocabulary.layout)
    sparse.load_delta(loaded.model, path)
    return TrackerExpert(
        loaded.model.to(device).eval(),
        TurnEncoder(loaded.tokenizer, vocabulary, length, separator),
        batch_size=batch_size,
        trained_on=trained_on,
        name=name or f"{config.name} tracker of {data}",
    )
