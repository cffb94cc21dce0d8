"""Settings are checked once, at the border, and every configuration file passes it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from sparseft import methods, paths
from sparseft.config import OutOfScopeConfig, RunConfig
from sparseft.errors import ConfigError, SparseftError

_CONF = Path(__file__).resolve().parents[1] / "conf"

_CHOICES = [
    f"{group}={path.stem}"
    for group in ("data", "method", "model", "task", "training", "tracking")
    for path in sorted((_CONF / group).glob("*.yaml"))
    if not path.stem.startswith("_")
]
_EXPERIMENTS = sorted(path.stem for path in (_CONF / "experiment").glob("*.yaml"))
# Files that leave something for the command line to say.
_NEEDED = {
    "data=files": ["data.name=mine", "data.train=a.csv", "data.test=b.csv"],
    "data=hub": ["data.name=mine", "data.id=owner/set"],
    "model=path": ["model.id=some/folder"],
    "model=hub": ["model.id=owner/model"],
}


def _mapping(**changes: Any) -> dict[str, Any]:
    return {
        "experiment": "test",
        "model": {"name": "minilm"},
        "data": {"name": "intent"},
        "method": {"name": "full", "lr": 2e-5},
        **changes,
    }


def _composed(overrides: list[str]) -> RunConfig:
    with initialize_config_dir(str(_CONF), version_base="1.3"):
        composed = compose("config", overrides)
    mapping: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    return RunConfig.from_mapping(mapping)


@pytest.mark.parametrize("choice", _CHOICES)
def test_every_configuration_file_composes_and_is_valid(choice: str) -> None:
    config = _composed([choice, *_NEEDED.get(choice, [])])
    group, _, name = choice.partition("=")
    found = {
        "data": config.data.name,
        "method": config.method["name"],
        "task": config.task.name,
    }
    # A file's name is what results and folders call it.
    if group in found and choice not in _NEEDED:
        assert found[group] == name


def test_every_method_has_a_configuration_file() -> None:
    files = {choice.removeprefix("method=") for choice in _CHOICES if choice.startswith("method=")}
    assert files == {*methods.names(), "none"}  # none: of task=routing


@pytest.mark.parametrize("name", _EXPERIMENTS)
def test_an_experiment_sweeps_over_what_exists(name: str) -> None:
    assert _composed([f"+experiment={name}"]).experiment == name
    params = OmegaConf.load(_CONF / "experiment" / f"{name}.yaml").hydra.sweeper.params
    for key, values in params.items():
        for value in str(values).split(","):
            _composed([f"+experiment={name}", f"{key}={value.strip()}"])


def test_the_intent_experiment_compares_every_method_at_three_rates_and_seeds() -> None:
    params = OmegaConf.load(_CONF / "experiment" / "intent.yaml").hydra.sweeper.params
    sizes = {key: [v.strip() for v in str(values).split(",")] for key, values in params.items()}
    assert set(sizes["method"]) == set(methods.names())
    assert len(sizes["seed"]) == 3 and len(sizes["lr_scale"]) == 3


def test_a_config_survives_its_own_mapping() -> None:
    mapping = _mapping(
        data={"name": "clinc", "out_of_scope": {"train": "a.csv"}, "multi_label": False},
        tracking={"tags": ["a", "b"]},
        training={"clip_norm": None, "weight_decay": 1},
    )
    config = RunConfig.from_mapping(mapping)
    assert config.data.out_of_scope == OutOfScopeConfig(train="a.csv")
    assert config.training.weight_decay == 1.0 and config.training.clip_norm is None
    plain = json.loads(json.dumps(config.to_mapping()))
    assert RunConfig.from_mapping(plain) == config


def test_the_learning_rate_is_scaled() -> None:
    assert RunConfig.from_mapping(_mapping(lr_scale=3)).lr == pytest.approx(6e-5)


def test_a_bare_off_in_yaml_means_off() -> None:
    config = RunConfig.from_mapping(_mapping(tracking={"wandb": False}))
    assert config.tracking.wandb == "off"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sead": 1}, ["sead", "seed"]),
        ({"training": {"epoch": 3}}, ["training.epoch", "epochs"]),
        ({"seed": "one"}, ["seed", "whole number", "'one'"]),
        ({"seed": True}, ["seed", "whole number"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"training": {"epochs": 0}}, ["training.epochs", "0"]),
        ({"training": {"head_lr": float("nan")}}, ["training.head_lr", "nan"]),
        ({"training": {"warmup_share": 1.0}}, ["training.warmup_share"]),
        ({"training": {"schedule": "cosine"}}, ["training.schedule", "linear", "constant"]),
        ({"data": {}}, ["data.name"]),
        ({"data": {"name": "x", "shots": 0}}, ["data.shots"]),
        ({"data": {"name": "x", "shots": 1, "rows": 1}}, ["data.shots", "data.rows"]),
        ({"data": {"name": "x", "multi_label": "no"}}, ["data.multi_label", "'no'"]),
        ({"data": {"name": "x/../y"}}, ["data.name"]),
        ({"model": None}, ["model"]),
        ({"model": {"name": "m", "source": "web"}}, ["model.source", "embedded", "hub"]),
        ({"method": {"lr": 1e-3}}, ["method.name"]),
        ({"method": {"name": "full", "lr": 0}}, ["method.lr"]),
        ({"lr_scale": 0}, ["lr_scale"]),
        ({"threads": 0}, ["threads"]),
        ({"tracking": {"tags": "a"}}, ["tracking.tags", "list"]),
        ({"experiment": ""}, ["experiment"]),
    ],
)
def test_a_wrong_setting_is_one_clear_error(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_mapping(_mapping(**changes))
    message = str(caught.value)
    assert message.startswith("expected ") and ", got " in message
    for word in words:
        assert word in message


def test_a_config_cannot_be_changed() -> None:
    config = RunConfig.from_mapping(_mapping())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 3  # type: ignore[misc]


def test_conf_dir_is_absolute_and_complete() -> None:
    assert paths.conf_dir() == _CONF
    assert paths.conf_dir().is_absolute()


def test_conf_dir_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "sparseft"
    monkeypatch.setattr(paths, "_PACKAGE", package)
    with pytest.raises(ConfigError, match="reinstall"):
        paths.conf_dir()
    (package / "conf").mkdir(parents=True)
    (package / "conf" / "config.yaml").touch()
    assert paths.checkout_root() is None
    assert paths.conf_dir() == package / "conf"


def test_default_data_root_is_beside_the_checkout_or_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(paths, "_PACKAGE", tmp_path / "a" / "b" / "sparseft")
    assert paths.default_data_root() is None
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert paths.default_data_root() == tmp_path / "shared" / "data"


def test_errors_are_value_errors_too() -> None:
    assert issubclass(ConfigError, ValueError) and issubclass(ConfigError, SparseftError)
