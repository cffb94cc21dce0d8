"""Every ready model config is valid, and the embedded one loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sparseft.config import ModelConfig, RunConfig

FOLDER = Path(__file__).resolve().parents[2] / "conf" / "model"
NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))


def model_config(name: str) -> ModelConfig:
    settings = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    if settings["id"] == "???":
        settings["id"] = "given/by-the-user"
    data, method = {"name": "intent"}, {"name": "full"}
    mapping = {"experiment": "e", "model": settings, "data": data, "method": method}
    return RunConfig.from_mapping(mapping).model


def test_the_ready_models_exist() -> None:
    expected = {"minilm", "smollm2", "path", "hub", "bert_base", "modernbert_base", "llama_3_2_1b"}
    assert expected <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_config_is_valid(name: str) -> None:
    config = model_config(name)
    assert config.pooling == "auto"
    if name in ("minilm", "smollm2"):
        assert (config.source, config.id, config.name) == ("embedded", name, name)
