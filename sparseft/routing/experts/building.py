"""Experts from settings, what their calls cost, and those that come with a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

from sparseft.config import DataConfig, EndpointConfig, ExpertConfig
from sparseft.errors import ConfigError
from sparseft.routing.costs import ModelCost
from sparseft.routing.dialogues.tables import data_file
from sparseft.routing.expert import Expert
from sparseft.routing.experts.budget import FREE, Budget, Prices
from sparseft.routing.experts.cache import ResponseCache
from sparseft.routing.experts.recorded import RecordedExpert

__all__ = ["RECORDED_COSTS", "cost_of_expert", "default_experts", "expert_of"]

_RECORDED = "multiwoz24_dev_llm_predictions/predictions.parquet"

RECORDED_COSTS: Mapping[str, ModelCost] = {
    "llama3-8b": ModelCost(8.03e9, 0.05, 0.08),
    "llama3-70b": ModelCost(70.6e9, 0.59, 0.79),
    "gpt-3.5": ModelCost(None, 0.50, 1.50),
}
"""Of MultiWOZ's recorded systems, by the beginning of their names.

Operations where both sizes are published. OpenAI never said GPT-3.5's, so there it is money: list
prices of gpt-3.5-turbo-0125 (2024), and of a hosted Llama-3-8B at the time, dollars a million.
"""


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
        return _llama("llama3-8b"), _llama("llama3-70b")
    return None


def expert_of(
    settings: ExpertConfig,
    data: DataConfig,
    device: str = "cpu",
    slots: Mapping[str, str] | None = None,
) -> Expert:
    """The expert that settings describe.

    Args:
        data: relative files are of its folder.
        device: where a tracker or a local model answers.
        slots: names with descriptions, which local models and endpoints are told.

    Raises:
        DataError: recorded answers are missing or damaged.
        DeltaError, ModelError: a tracker's or a local model's.
        ConfigError: a parquet file without the name of a system, or an endpoint whose settings,
            key or cache cannot be used.
    """
    if settings.kind == "tracker":
        # Only here, as below: recorded answers need no model.
        from sparseft.routing.tracker import load_tracker_expert

        assert settings.delta is not None
        return load_tracker_expert(settings.delta, name=settings.name, device=device)
    if settings.kind == "local":
        from sparseft.routing.experts.local import load_language_expert

        assert settings.model is not None
        return load_language_expert(
            settings.model, slots or {}, delta=settings.delta, device=device, name=settings.name
        )
    if settings.kind == "endpoint":
        assert settings.endpoint is not None
        return _asked(settings, settings.endpoint, slots or {})
    return _recorded(settings, data)


def cost_of_expert(settings: ExpertConfig, data: DataConfig) -> ModelCost:
    """What its calls cost; of a recorded system that is known, what is not given is looked up."""
    own = ModelCost(
        settings.parameters,
        settings.prompt_price,
        settings.answer_price,
        settings.instruction,
        settings.exemplars,
    )
    named = settings.system if data.kind == "multiwoz" and settings.kind == "recorded" else None
    known = next(
        (cost for start, cost in RECORDED_COSTS.items() if named and named.startswith(start)), None
    )
    given = settings.parameters or settings.prompt_price or settings.answer_price
    if known is None or given:
        return own
    return replace(
        known,
        instruction=own.instruction or known.instruction,
        exemplars=own.exemplars or known.exemplars,
    )


def _ours(file: str, name: str, parameters: float) -> ExpertConfig:
    return ExpertConfig(file=f"answers/{file}.jsonl", name=name, parameters=parameters)


def _llama(name: str) -> ExpertConfig:
    return ExpertConfig(system=f"{name}.bm25-dialogctx.plain", name=name)


def _recorded(settings: ExpertConfig, data: DataConfig) -> RecordedExpert:
    file = settings.file
    if file is None:
        if data.kind != "multiwoz":
            raise ConfigError(
                f"expected the file of recorded answers for data={data.name}, got only the system "
                f"{settings.system!r}; set file."
            )
        file = _RECORDED
    path = _path(file, data)
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


def _asked(settings: ExpertConfig, asked: EndpointConfig, slots: Mapping[str, str]) -> Expert:
    # Only here: they need the official client.
    from sparseft.routing.experts.endpoint import EndpointExpert
    from sparseft.routing.experts.settings import Endpoint

    endpoint = Endpoint(
        asked.base_url,
        asked.model,
        key_variable=asked.key_variable,
        timeout=asked.timeout,
        concurrency=asked.concurrency,
        max_tokens=asked.max_tokens,
        prices=Prices(settings.prompt_price, settings.answer_price),
    )
    capped = asked.max_calls is not None or asked.max_money is not None
    return EndpointExpert(
        endpoint,
        slots,
        cache=None if asked.cache is None else ResponseCache(asked.cache),
        budget=Budget(asked.max_calls, asked.max_money) if capped else None,
        name=settings.name,
    )


def _path(file: str, data: DataConfig) -> Path:
    if data.kind == "dialogues" and file.startswith("answers/"):
        return Path(str(resources.files("sparseft.routing.dialogues"))) / file
    if data.kind == "multiwoz" and not Path(file).is_absolute():
        return data_file(data.root, *file.split("/"))
    return Path(data.root or ".") / file
