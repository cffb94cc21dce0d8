"""One run on disk: its files, its skipping, its errors, and going on after SIGKILL."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sparseft.errors import ConfigError, DataError, ResultError, SparseftError
from sparseft.methods import names
from sparseft.results import Result, load_result
from sparseft.training import RunOutcome, execute, pipeline, run_folder
from tests.training.helpers import LABELS, task_config, task_mapping

_ROOT = Path(__file__).resolve().parents[2]


def _metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _run(task: Path, output: Path, method: str = "full", **training: Any) -> RunOutcome:
    return execute(task_config(task, output, method, **training))


@pytest.mark.parametrize("method", names())
def test_every_method_runs_from_data_to_result(method: str, task: Path, tmp_path: Path) -> None:
    outcome = _run(task, tmp_path, method)
    folder, result = outcome.folder, outcome.result
    assert load_result(folder / "result.json") == result
    assert folder.relative_to(tmp_path).parts[:3] == ("test", "words", method)
    assert folder.name == result.config_hash[:12]
    assert json.loads((folder / "config.json").read_text()) == result.config
    assert not (folder / "checkpoint").exists()
    with np.load(folder / "predictions.npz") as kept:
        right = kept["test_predictions"] == kept["test_labels"]
        assert right.mean() == pytest.approx(result.metrics["accuracy"])
        assert len(kept["test_ids"]) == len(kept["test_probability"]) == len(right)
        assert len(right) == result.data["rows"]["test"]
    assert tuple(result.data["label_names"]) == LABELS
    assert [line["step"] for line in _metrics(folder) if line["kind"] == "train"] == [*range(1, 13)]
    cost = result.cost
    assert 0 < cost["trainable_parameters"] <= 1.5 * cost["total_parameters"]
    assert cost["flops_per_step"] > 0 and cost["step_ms_median"] > 0
    assert result.seconds_to_best > cost["head_warmup_seconds"] > 0
    if method.startswith("sparse"):
        assert result.selection is not None and 0.1 < result.selection["density"] <= 0.2
        assert cost["analysis_seconds"] > 0
        assert (folder / "delta" / "delta.safetensors").stat().st_size == cost["delta_bytes"]
    else:
        assert result.selection is None
        state = load_file(folder / "state.safetensors")
        assert sum(value.numel() for value in state.values()) == cost["trainable_parameters"]


@pytest.mark.parametrize(
    ("save", "method", "kept"),
    [
        ("delta", "sparse", {"delta"}),
        ("delta", "full", set()),
        ("none", "sparse", set()),
        ("all", "probe", {"state.safetensors"}),
    ],
)
def test_what_is_saved(save: str, method: str, kept: set[str], task: Path, tmp_path: Path) -> None:
    outcome = _run(task, tmp_path, method, save=save, epochs=1)
    usual = {"config.json", "metrics.jsonl", "predictions.npz", "result.json"}
    assert {path.name for path in outcome.folder.iterdir()} == usual | kept
    assert outcome.result.cost["delta_bytes"] > 4 * outcome.result.cost["trainable_parameters"] - 1


def test_two_runs_have_the_same_bits_and_another_seed_has_not(task: Path, tmp_path: Path) -> None:
    first = _run(task, tmp_path / "a")
    second = _run(task, tmp_path / "b")
    assert first.result.metrics == second.result.metrics
    names = ("state.safetensors", "predictions.npz")
    for name in names:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()
    config = {**task_mapping(task, tmp_path / "c"), "seed": 1}
    other = execute(pipeline.RunConfig.from_mapping(config))
    assert (other.folder / names[0]).read_bytes() != (first.folder / names[0]).read_bytes()


def test_a_finished_run_is_skipped_unless_code_or_wish_differ(task: Path, tmp_path: Path) -> None:
    outcome = _run(task, tmp_path, "probe", epochs=1)
    path = outcome.folder / "result.json"
    written = path.stat().st_mtime_ns
    again = _run(task, tmp_path, "probe", epochs=1)
    assert again.skipped and again.result == outcome.result and path.stat().st_mtime_ns == written
    config = {**task_mapping(task, tmp_path, "probe", epochs=1), "rerun": True}
    assert not execute(pipeline.RunConfig.from_mapping(config)).skipped
    content = json.loads(path.read_text())
    content["environment"]["commit"] = "another"
    path.write_text(json.dumps(content))
    assert not _run(task, tmp_path, "probe", epochs=1).skipped
    path.write_text(path.read_text()[:100])
    with pytest.raises(ResultError, match=str(path)):
        _run(task, tmp_path, "probe", epochs=1)


def test_a_learning_rate_scale_tunes_the_body_or_the_head_that_is_all(
    task: Path, tmp_path: Path
) -> None:
    values = {}
    for scale in (1.0, 3.0):
        for method in ("probe", "bitfit"):
            mapping = task_mapping(task, tmp_path, method, epochs=1, warmup_share=0.0)
            outcome = execute(pipeline.RunConfig.from_mapping({**mapping, "lr_scale": scale}))
            values[method, scale] = _metrics(outcome.folder)[0]["lr"]
            assert outcome.result.tuning == {"lr": pytest.approx(3e-3 * scale), "lr_scale": scale}
    assert values["probe", 3.0] == pytest.approx(3 * values["probe", 1.0])
    assert values["bitfit", 3.0] == pytest.approx(3 * values["bitfit", 1.0])
    assert values["probe", 1.0] == pytest.approx(1e-3)


def test_errors_come_before_anything_is_written(task: Path, tmp_path: Path) -> None:
    mapping = task_mapping(task, tmp_path, "nothing")
    with pytest.raises(ConfigError, match=r"probe.*nothing"):
        execute(pipeline.RunConfig.from_mapping(mapping))
    mapping = task_mapping(task, tmp_path)
    mapping["data"]["test"] = "missing.csv"
    with pytest.raises(DataError, match=r"missing\.csv"):
        execute(pipeline.RunConfig.from_mapping(mapping))
    mapping = {**task_mapping(task, tmp_path), "device": "abacus"}
    with pytest.raises(ConfigError, match=r"abacus.*device=auto"):
        execute(pipeline.RunConfig.from_mapping(mapping))
    mapping = {**task_mapping(task, tmp_path), "task": {"metric": "micro_f1"}}
    with pytest.raises(ConfigError, match="accuracy or macro_f1"):
        execute(pipeline.RunConfig.from_mapping(mapping))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_result(
    task: Path, tmp_path: Path, disk_full: Callable[[int], AbstractContextManager[None]]
) -> None:
    with disk_full(6000), pytest.raises(SparseftError, match="free some space"):
        _run(task, tmp_path, "full", epochs=1)
    folder = run_folder(task_config(task, tmp_path, "full", epochs=1))
    left = {path.name for path in folder.iterdir()}
    assert "result.json" not in left and "state.safetensors" not in left
    assert not any(name.startswith(".") for name in left)
    assert _run(task, tmp_path, "full", epochs=1).result.metrics["accuracy"] > 0


# Runs a configuration and kills itself, as a power cut would, when step 8 is logged.
_KILLED = """
import json, os, signal, sys
import torch
from sparseft.config import RunConfig
from sparseft.training import execute, record
torch.set_num_threads(1)
write = record.MetricsLog.write
def write_then_die(self, kind, step, values):
    write(self, kind, step, values)
    if step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
record.MetricsLog.write = write_then_die
execute(RunConfig.from_mapping(json.loads(sys.argv[1])))
"""


@pytest.mark.parametrize("method", ["full", "sparse"])
def test_a_killed_run_goes_on_to_the_same_bits(
    method: str, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"checkpoint_every": 3}
    whole = _run(task, tmp_path / "whole", method, **settings)
    mapping = task_mapping(task, tmp_path / "killed", method, **settings)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (_ROOT, _ROOT / "kernels"))),
    }
    done = subprocess.run([sys.executable, "-c", _KILLED, json.dumps(mapping)], env=environment)
    assert done.returncode == -signal.SIGKILL
    config = pipeline.RunConfig.from_mapping(mapping)
    folder = run_folder(config)
    assert max(line["step"] for line in _metrics(folder)) == 8
    assert not (folder / "result.json").exists()
    if method == "sparse":  # the selection lies in the checkpoint: nothing is analysed twice
        monkeypatch.setattr(pipeline.methods, "get", lambda name: _must_not_run)
    resumed = execute(config)
    assert resumed.resumed and not resumed.skipped
    _same_run(resumed.result, whole.result)
    lines = [(line["kind"], line["step"], line["loss"]) for line in _metrics(folder)]
    assert lines == [(line["kind"], line["step"], line["loss"]) for line in _metrics(whole.folder)]
    assert len({line[:2] for line in lines}) == len(lines)
    name = "state.safetensors" if method == "full" else "delta/delta.safetensors"
    values, expected = load_file(folder / name), load_file(whole.folder / name)
    assert set(values) == set(expected)
    assert all(torch.equal(values[key], expected[key]) for key in expected)
    predictions = (folder / "predictions.npz").read_bytes()
    assert predictions == (whole.folder / "predictions.npz").read_bytes()
    assert not (folder / "checkpoint").exists()
    shutil.rmtree(folder)


def _must_not_run(*_: Any) -> Any:
    raise AssertionError("the method was prepared again")


def _same_run(one: Result, other: Result) -> None:
    assert one.metrics == other.metrics
    assert one.validation == other.validation
    assert one.config_hash == other.config_hash
    assert one.selection == other.selection
    assert one.cost["steps"] == other.cost["steps"]
