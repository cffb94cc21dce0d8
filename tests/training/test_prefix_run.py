"""`training.prefix_cache` in a run: its record, its costs, resuming, and its configuration."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sparseft.config import RunConfig
from sparseft.errors import ConfigError
from sparseft.results import config_hash
from sparseft.training import RunOutcome, execute, run_folder
from tests.training.helpers import task_config, task_mapping, write_task
from tests.training.test_pipeline import _KILLED

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def plain_task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `task`, with a model without dropout."""
    return write_task(tmp_path_factory.mktemp("plain"), dropout=0.0)


def _run(task: Path, output: Path, method: str, **training: Any) -> RunOutcome:
    return execute(task_config(task, output, method, **training))


def _losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize("method", ["sparse", "layers", "lora_upper", "probe"])
@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_cached_run_finds_the_same_and_counts_its_cache(
    method: str, where: str, plain_task: Path, tmp_path: Path
) -> None:
    place = where if where == "memory" else str(tmp_path / "caches")
    # LoRA's own dropout is above the cut and draws the same numbers in both runs.
    plain = _run(plain_task, tmp_path / "plain", method)
    cached = _run(plain_task, tmp_path / "cached", method, prefix_cache=place)
    assert _losses(cached.folder) == pytest.approx(_losses(plain.folder), rel=1e-3)
    assert cached.result.metrics["loss"] == pytest.approx(plain.result.metrics["loss"], rel=1e-3)
    notes, cost = cached.result.notes["prefix_cache"], cached.result.cost
    assert notes["layers"] == {"probe": 3}.get(method, notes["layers"]) > 0
    states = notes["texts"] if method == "probe" else notes["tokens"]
    assert cost["cache_bytes"] == states * 16 * 4
    # Train and validation texts, 57 rows; test texts are read only once.
    assert 40 < notes["texts"] <= 57
    assert cost["flops_per_step"] < plain.result.cost["flops_per_step"]
    spent = cost["cache_seconds"] + cost["head_warmup_seconds"] + cost["analysis_seconds"]
    rest = cost["train_seconds"] + cost["evaluation_seconds"]
    assert 0 < spent < cached.result.seconds_to_best <= spent + rest + 1e-6
    assert plain.result.cost["cache_seconds"] == plain.result.cost["cache_bytes"] == 0
    assert "prefix_cache" not in plain.result.notes
    assert (tmp_path / "caches").exists() == (where == "folder")


def test_runs_of_one_cut_share_a_folder(plain_task: Path, tmp_path: Path) -> None:
    where = str(tmp_path / "caches")
    first = _run(plain_task, tmp_path, "layers", prefix_cache=where, epochs=1).result
    second = _run(plain_task, tmp_path, "lora_upper", prefix_cache=where, epochs=1).result
    assert not first.notes["prefix_cache"]["reused"] and second.notes["prefix_cache"]["reused"]
    assert len(list((tmp_path / "caches").iterdir())) == 1
    assert second.notes["prefix_cache"]["build_seconds"] > 0
    assert second.cost["cache_bytes"] == first.cost["cache_bytes"]


def test_a_method_without_a_frozen_prefix_runs_as_ever(task: Path, tmp_path: Path) -> None:
    plain = _run(task, tmp_path, "full", epochs=1)
    cached = _run(task, tmp_path, "full", epochs=1, prefix_cache="memory")
    assert cached.folder != plain.folder
    assert _losses(cached.folder) == _losses(plain.folder)
    assert cached.result.notes["prefix_cache"] == {"layers": 0}
    assert cached.result.cost["cache_bytes"] == cached.result.cost["cache_seconds"] == 0


def test_dropout_makes_it_another_run(task: Path, tmp_path: Path) -> None:
    plain = _run(task, tmp_path, "layers", epochs=1)
    cached = _run(task, tmp_path, "layers", epochs=1, prefix_cache="memory")
    assert _losses(cached.folder) != pytest.approx(_losses(plain.folder), rel=1e-3)


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_killed_run_goes_on_to_the_same_bits(where: str, task: Path, tmp_path: Path) -> None:
    place = where if where == "memory" else str(tmp_path / "caches")
    settings = {"checkpoint_every": 3, "prefix_cache": place}
    whole = _run(task, tmp_path / "whole", "sparse", **settings)
    mapping = task_mapping(task, tmp_path / "killed", "sparse", **settings)
    path = os.pathsep.join(map(str, (_ROOT, _ROOT / "kernels")))
    command = [sys.executable, "-c", _KILLED, json.dumps(mapping)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == -signal.SIGKILL
    config = RunConfig.from_mapping(mapping)
    state = torch.load(run_folder(config) / "checkpoint" / "state.pt", weights_only=True)
    resumed = execute(config)
    assert resumed.resumed
    assert resumed.result.cost["cache_seconds"] == state["cache_seconds"] > 0
    assert _losses(resumed.folder) == _losses(whole.folder)
    name = "delta/delta.safetensors"
    values, expected = load_file(resumed.folder / name), load_file(whole.folder / name)
    assert all(torch.equal(values[key], expected[key]) for key in expected)


def test_a_limit_ends_the_run_before_training(task: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"at most 1 kB.*prefix_cache_max_bytes"):
        _run(task, tmp_path, "layers", prefix_cache="memory", prefix_cache_max_bytes=1000)
    folder = run_folder(task_config(task, tmp_path, "layers", prefix_cache="memory"))
    assert not (folder / "result.json").exists() and not (folder / "metrics.jsonl").exists()


def test_the_setting_is_off_memory_or_a_folder(task: Path, tmp_path: Path) -> None:
    def setting(value: Any) -> str:
        return task_config(task, tmp_path, prefix_cache=value).training.prefix_cache

    assert [setting(value) for value in ("off", False, "memory", "some/folder")] == [
        "off",
        "off",  # how YAML reads a bare off
        "memory",
        "some/folder",
    ]
    for wrong in ("", True, None, 3):
        with pytest.raises(ConfigError, match=r"training\.prefix_cache"):
            setting(wrong)


def test_the_hash_knows_that_there_is_a_cache_but_not_where() -> None:
    def digest(**training: Any) -> str:
        return config_hash({"seed": 0, "training": {"epochs": 1, **training}})

    off = {"prefix_cache": "off", "prefix_cache_dtype": "float32", "prefix_cache_max_bytes": None}
    assert digest(**off) == digest()  # of records from before there was a cache
    memory = digest(**{**off, "prefix_cache": "memory"})
    assert memory != digest()
    assert memory == digest(**{**off, "prefix_cache": "a/folder", "prefix_cache_max_bytes": 5})
    half = {"prefix_cache": "memory", "prefix_cache_dtype": "bfloat16"}
    assert digest(**half) != memory
