"""result.json: written only when right, read only when right."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sparseft import results
from sparseft.errors import ResultError
from sparseft.results import COST_KEYS, Result, config_hash, environment, load_results


def _mapping() -> dict[str, Any]:
    return {
        "schema_version": 1,
        "experiment": "test",
        "task": "classification",
        "method": "sparse",
        "model": "minilm",
        "seed": 0,
        "metrics": {"accuracy": 0.5, "macro_f1": 0.25},
        "validation": 0.5,
        "seconds_to_best": 1.5,
        "cost": {**dict.fromkeys(COST_KEYS, 1), "peak_memory_source": "VmHWM"},
        "selection": {"density": 0.05, "lowest_layer": 3, "units_by_kind": {"neuron": 4}},
        "data": {"name": "intent", "sha256": "0" * 64, "rows": {"train": 4}},
        "tuning": {"lr": 1e-3, "lr_scale": 1.0},
        "environment": environment("cpu", 1),
        "config": {"seed": 0},
        "config_hash": "ab" * 32,
        "notes": {},
    }


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    result = Result.from_mapping(_mapping())
    result.save(tmp_path / "a" / "result.json")
    assert load_results(tmp_path) == [result]
    assert json.loads((tmp_path / "a" / "result.json").read_text()) == _mapping()


def test_results_are_found_in_run_folders_and_committed_ones(tmp_path: Path) -> None:
    result = Result.from_mapping(_mapping())
    result.save(tmp_path / "runs" / "b" / "result.json")
    result.save(tmp_path / "results" / "full-0.json")
    (tmp_path / "runs" / "b" / "config.json").write_text("{}")
    assert len(load_results(tmp_path)) == 2


_BROKEN: list[tuple[str, Any]] = [
    ("schema_version", 2),
    ("seed", "0"),
    ("seed", True),
    ("method", ""),
    ("metrics", {}),
    ("metrics", {"accuracy": float("nan")}),
    ("metrics", {"accuracy": None}),
    ("validation", float("inf")),
    ("cost", {}),
    ("selection", {"density": 0.1}),
    ("data", {"name": "x"}),
    ("tuning", {"lr": 1.0}),
    ("environment", {}),
    ("config", []),
    ("extra", 1),
]


@pytest.mark.parametrize(("key", "value"), _BROKEN)
def test_a_wrong_value_is_neither_written_nor_read(key: str, value: Any, tmp_path: Path) -> None:
    mapping = {**_mapping(), key: value}
    path = tmp_path / "result.json"
    path.write_text(json.dumps(mapping))
    with pytest.raises(ResultError) as caught:
        load_results(tmp_path)
    assert str(path) in str(caught.value) and key in str(caught.value)
    if key in ("schema_version", "extra"):
        return
    path.unlink()
    with pytest.raises(ResultError):
        Result(**mapping).save(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", sorted(_mapping()))
def test_every_key_is_needed(key: str) -> None:
    mapping = _mapping()
    del mapping[key]
    with pytest.raises(ResultError, match=key):
        Result.from_mapping(mapping)


def test_costs_that_cannot_be_measured_are_null() -> None:
    mapping = _mapping()
    mapping["cost"].update(flops_per_step=None, peak_memory_bytes=None)
    assert Result.from_mapping(mapping).cost["flops_per_step"] is None
    mapping["cost"]["step_ms_median"] = None
    with pytest.raises(ResultError, match="step_ms_median"):
        Result.from_mapping(mapping)


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="none"):
        load_results(tmp_path / "nowhere")
    with pytest.raises(ResultError, match="run an experiment"):
        load_results(tmp_path)
    (tmp_path / "result.json").write_text('{"schema_version": 1, "met')
    with pytest.raises(ResultError, match=str(tmp_path / "result.json")):
        load_results(tmp_path)


def _config() -> dict[str, Any]:
    return {
        "seed": 0,
        "output": "runs",
        "device": "auto",
        "threads": None,
        "rerun": False,
        "tracking": {"wandb": "auto"},
        "training": {"epochs": 3, "progress": "auto", "checkpoint_every": None},
        "method": {"name": "full", "lr": 1e-5},
    }


def test_the_hash_ignores_where_and_how_a_run_is_watched() -> None:
    changed = {
        **_config(),
        "output": "elsewhere",
        "device": "cuda",
        "threads": 4,
        "rerun": True,
        "tracking": {"wandb": "off"},
    }
    changed["training"] = {**changed["training"], "progress": "off", "checkpoint_every": 5}
    assert config_hash(changed) == config_hash(_config())
    assert config_hash(dict(reversed(_config().items()))) == config_hash(_config())


@pytest.mark.parametrize("path", ["seed", "training.epochs", "method.lr", "method.name"])
def test_the_hash_sees_what_changes_the_finding(path: str) -> None:
    changed = copy.deepcopy(_config())
    section, _, key = path.rpartition(".")
    (changed[section] if section else changed)[key] = 17
    assert config_hash(changed) != config_hash(_config())


def test_environment_names_the_checkout_and_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    monkeypatch.setattr(results, "checkout_root", lambda: tmp_path.resolve())
    found = environment("cpu", 2)
    assert (found["commit"], found["dirty"]) == (git("rev-parse", "HEAD"), False)
    assert found["threads"] == 2 and found["torch"].startswith("2.")
    (tmp_path / "file").write_text("2")
    assert environment("cpu", 2)["dirty"] is True
    # The commit of a repository that merely contains the installation says nothing.
    (tmp_path / "inner").mkdir()
    monkeypatch.setattr(results, "checkout_root", lambda: tmp_path.resolve() / "inner")
    assert environment("cpu", 2)["commit"] == "unknown"
    monkeypatch.setattr(results, "checkout_root", lambda: None)
    assert environment("cpu", 2)["commit"] == "unknown"


def test_config_and_results_load_no_heavy_package() -> None:
    code = (
        "import sys, sparseft.config, sparseft.results, sparseft.paths; "
        "print([m for m in ('torch', 'transformers', 'hydra', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_copy_without_git_can_be_told_its_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(results, "checkout_root", lambda: tmp_path)
    assert environment("cpu", 1)["commit"] == "unknown"
    monkeypatch.setenv("SPARSEFT_COMMIT", "abc1234")
    assert environment("cpu", 1)["commit"] == "abc1234"
