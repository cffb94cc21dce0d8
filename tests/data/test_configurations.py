"""Every file of conf/data: its keys, and the sets under ../shared/data as they are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparseft.config import DataConfig, OutOfScopeConfig
from sparseft.data import load_data
from sparseft.paths import conf_dir

FOLDER = Path(__file__).resolve().parents[2] / "conf" / "data"
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.yaml"))

# name: labels, rows of train before any draw, test rows without texts of train
EXPECTED = {
    "acl_arc": (6, 1688, 87),
    "banking77": (77, 10003, 3073),
    "clinc150": (151, 15100, 5498),
    "cr": (2, 2996, 381),
    "csabstruct": (5, 11333, 1177),
    "goemotions": (28, 43410, 5385),
    "mpqa": (2, 8585, 946),
    "mr": (2, 8525, 1091),
    "scicite": (3, 7320, 1861),
    "semeval2010_task8": (19, 8000, 2717),
    "snips": (7, 13084, 689),
    "sst2": (2, 6920, 1819),
    "sst5": (5, 8544, 2208),
    "trec": (6, 5452, 489),
    "trec_fine": (50, 5452, 489),
    "tweet_eval_emotion": (4, 3257, 1421),
    "tweet_eval_irony": (2, 2862, 784),
    "tweet_eval_offensive": (2, 11916, 855),
}


def read(name: str) -> dict[str, Any]:
    base = yaml.safe_load((FOLDER / "_base.yaml").read_text(encoding="utf-8"))
    own = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert own.pop("defaults") == ["_base"]
    return {**base, **own}


def config_of(name: str, **settings: Any) -> DataConfig:
    values = {**read(name), **settings}
    if values["out_of_scope"] is not None:
        values["out_of_scope"] = OutOfScopeConfig(**values["out_of_scope"])
    return DataConfig(**values)


def test_every_set_is_expected() -> None:
    conversations = {"service", "abcd", "transcripts"}  # of task=compliance
    dialogues = {"dialogues", "multiwoz", "multiwoz_all", "turns"}  # of task=dst and task=routing
    assert set(NAMES) == {*EXPECTED, *conversations, *dialogues, "intent", "files", "hub"}
    assert conf_dir() / "data" == FOLDER


def test_the_base_holds_every_key_and_its_default() -> None:
    base = yaml.safe_load((FOLDER / "_base.yaml").read_text(encoding="utf-8"))
    defaults = {
        field.name: "???" if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(DataConfig)
    }
    assert base == defaults


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_named_as_its_set_and_composes(name: str) -> None:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(FOLDER.parent), version_base="1.3"):
        overrides = [f"+data={name}", "data.shots=3"] + ["data.id=x/y"] * (name == "hub")
        composed = OmegaConf.to_container(compose(overrides=overrides).data)
    assert composed["name"] == name
    assert composed["shots"] == 3
    # As here, where Hydra is not used.
    expected = {**read(name), "shots": 3} | ({"id": "x/y"} if name == "hub" else {})
    assert composed == expected


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_public_set_loads(name: str, shared_data: Path) -> None:
    data = load_data(config_of(name, root=str(shared_data), shots=2), seed=0)
    labels, train_rows, test_rows = EXPECTED[name]
    assert len(data.label_names) == labels
    assert data.report["train_rows_available"] == train_rows
    assert len(data.test) == test_rows
    assert data.multi_label == (name == "goemotions")
    assert len(data.validation) > 50
    if not data.multi_label:
        short = data.report["labels_with_fewer_shots"]
        assert short == ({"Entity-Destination(e2,e1)": 1} if "semeval" in name else {})
        assert len(data.train) == 2 * labels - len(short)


def test_out_of_scope_rows_of_clinc150(shared_data: Path) -> None:
    data = load_data(config_of("clinc150", root=str(shared_data)), seed=0)
    assert data.label_names[-1] == "oos"
    assert data.report["out_of_scope"] == {"train": 100, "validation": 100, "test": 1000}
    assert (data.test.labels == 150).sum() == 1000
