"""Experts from settings, and those that come with a data set."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from sparseft.config import DataConfig, ExpertConfig
from sparseft.errors import ConfigError
from sparseft.routing.costs import ModelCost
from sparseft.routing.dialogues.tables import data_file
from sparseft.routing.expert import Expert
from sparseft.routing.experts.budget import FREE
from sparseft.routing.experts.recorded import RecordedExpert

__all__ = ["cost_of_expert", "default_experts", "expert_of"]

_RECORDED = "multiwoz24_dev_llm_predictions/predictions.parquet"


def default_experts(data: DataConfig) -> tuple[ExpertConfig, ExpertConfig] | None:
    """The small and the large expert that a data set comes with; None where it has none."""
    if data.kind == "dialogues":
        # Weights of the layers; embeddings are looked up. `answers/README.md` says how they were
        # made.
        return (
            _ours("small", "tracker of two layers", 3_550_000.0),
            _ours("large", "tracker of six layers", 10_650_000.0),
        )
    if data.kind == "multiwoz":
        return _llama("8b", 8.03e9, 0.05, 0.08), _llama("70b", 70.6e9, 0.59, 0.79)
    return None


def expert_of(settings: ExpertConfig, data: DataConfig, device: str = "cpu") -> Expert:
    """The expert that settings describe.

    Raises:
        DataError: recorded answers are missing or damaged.
        DeltaError, ModelError: a tracker's.
        ConfigError: a parquet file without the name of a system.
    """
    if settings.kind == "tracker":
        # Only here: recorded answers need no model.
        from sparseft.routing.tracker import load_tracker_expert

        assert settings.delta is not None
        return load_tracker_expert(settings.delta, name=settings.name, device=device)
    assert settings.file is not None
    path = _path(settings.file, data)
    if path.suffix == ".parquet":
        if settings.system is None:
            raise ConfigError(
                f"expected the system of an expert whose answers are in {path.name}, got none; "
                "name one of its systems."
            )
        found = RecordedExpert.from_parquet(path, settings.system)
        found.name = settings.name or settings.system
        return found
    return RecordedExpert.from_jsonl(path, name=settings.name or path.stem, prices=FREE)


def cost_of_expert(settings: ExpertConfig) -> ModelCost:
    """What its calls cost."""
    return ModelCost(
        settings.parameters,
        settings.prompt_price,
        settings.answer_price,
        settings.instruction,
        settings.exemplars,
    )


def _ours(file: str, name: str, parameters: float) -> ExpertConfig:
    return ExpertConfig(file=f"answers/{file}.jsonl", name=name, parameters=parameters)


def _llama(size: str, parameters: float, prompt_price: float, answer_price: float) -> ExpertConfig:
    return ExpertConfig(
        file=_RECORDED,
        system=f"llama3-{size}.bm25-dialogctx.plain",
        name=f"llama3-{size}",
        parameters=parameters,
        prompt_price=prompt_price,
        answer_price=answer_price,
        instruction=200,
        exemplars=10,
    )


def _path(file: str, data: DataConfig) -> Path:
    if data.kind == "dialogues" and file.startswith("answers/"):
        return Path(str(resources.files("sparseft.routing.dialogues"))) / file
    if data.kind == "multiwoz" and not Path(file).is_absolute():
        return data_file(data.root, *file.split("/"))
    return Path(data.root or ".") / file
