"""A finished run of a sparse method, opened again: its data, and its model with the delta."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparseft import files
from sparseft.config import RunConfig
from sparseft.data import TaskData, load_data
from sparseft.errors import ConfigError, DataError, DeltaError
from sparseft.models import TextClassifier
from sparseft.reporting.predictor import Predictor, load
from sparseft.selection import Selection
from sparseft.sparse import selection_of

__all__ = ["SparseRun", "open_run"]


@dataclass(frozen=True)
class SparseRun:
    """What a run of a sparse method left behind, loaded.

    Attributes:
        folder: where it lies.
        config: its settings.
        data: its splits, drawn again; checked to be those that it was trained on.
        predictor: the base model with the delta, its tokenizer and label names.
        facts: what the delta says of itself: model, data, method, seed, metrics.
    """

    folder: Path
    config: RunConfig
    data: TaskData
    predictor: Predictor
    facts: Mapping[str, Any]

    @property
    def model(self) -> TextClassifier:
        """The classifier that carries the delta."""
        return self.predictor.model

    @property
    def selection(self) -> Selection:
        """Which units were trained."""
        return selection_of(self.model)


def open_run(
    folder: str | Path, *, data_root: str | Path | None = None, device: str = "auto"
) -> SparseRun:
    """Load the model, the delta and the data of a run.

    Args:
        folder: of the run, with config.json and delta/.
        data_root: where the data files lie now, if not where the run found them.
        device: "auto", "cpu", "cuda", …

    Raises:
        ConfigError: no run there, a run of another method, or settings of another release.
        DataError: the data are missing, or not those that the run was trained on.
        DeltaError: a damaged delta, or one of another base model.
        ModelError: the base model is missing.
    """
    path = Path(folder)
    config = _config(path)
    # Before the model is loaded: it is cheap, and says at once what is wrong.
    facts = _facts(path / "delta")
    settings = config.data
    if data_root is not None:
        settings = dataclasses.replace(settings, root=str(data_root))
    data = load_data(settings, config.seed)
    _check_data(data, facts, path)
    predictor = load(path, device)
    return SparseRun(path, config, data, predictor, facts)


def _config(path: Path) -> RunConfig:
    if not (path / "config.json").is_file():
        raise ConfigError(
            f"expected a run's folder with config.json at {path}, got none; give the folder that "
            "sparseft.run wrote, RUNS/EXPERIMENT/DATA/METHOD/HASH."
        )
    content = files.read_json(path / "config.json", ConfigError)
    if isinstance(content, Mapping) and content.get("format") == "sparseft.delta":
        raise ConfigError(
            f"expected a run's folder, got the delta at {path}; give the folder that holds it."
        )
    config = RunConfig.from_mapping(content)
    if not (path / "delta").is_dir():
        raise ConfigError(
            "expected a finished run of a sparse method with delta/ in its folder, got one of "
            f"{config.method['name']!r} without it at {path}; run method=sparse with "
            "training.save=delta."
        )
    return config


def _facts(folder: Path) -> Mapping[str, Any]:
    content = files.read_json(folder / "config.json", DeltaError)
    facts = content.get("extra") if isinstance(content, Mapping) else None
    if not isinstance(facts, Mapping):
        raise DeltaError(
            f"expected a delta's config.json in {folder}, got something else; "
            "save the delta again with this release."
        )
    return facts


def _check_data(data: TaskData, facts: Mapping[str, Any], path: Path) -> None:
    recorded = facts.get("data")
    wanted = recorded.get("sha256") if isinstance(recorded, Mapping) else None
    if wanted is not None and wanted != data.sha256:
        raise DataError(
            f"expected the rows that {path} was trained on (SHA-256 {str(wanted)[:12]}…), got "
            f"others ({data.sha256[:12]}…); restore the data files, or train again."
        )
    if list(data.label_names) != list(facts.get("label_names", ())):
        raise DataError(
            f"expected the classes that {path} was trained with, got "
            f"{', '.join(data.label_names[:5])}, …; restore the data files, or train again."
        )
