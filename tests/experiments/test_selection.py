"""The selection experiment: its records, what it runs next, and the tables it makes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sparseft.paths import checkout_root

FOLDER = Path(checkout_root() or ".") / "experiments" / "selection"
NAMES = ("settings", "records", "run", "table")

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="experiments/ is not installed")


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The experiment's files, which import each other by bare names."""
    loaded = {}
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in NAMES:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        loaded[name] = module
    return loaded


def _line(modules: dict[str, ModuleType], job: Any, share: float, validation: float) -> dict:
    random = np.random.default_rng([job.seed, len(job.data)])
    labels = random.integers(0, 3, 200).astype(np.int32)
    right = np.random.default_rng([job.seed, int(1000 * share)]).random(200) < share
    guesses = np.where(right, labels, (labels + 1) % 3).astype(np.int32)
    pack = modules["records"].pack
    return {
        "stage": job.stage,
        "arm": job.arm,
        "data": job.data,
        "model": job.model,
        "seed": job.seed,
        "scale": job.scale,
        "lr": 1e-3 * job.scale,
        "validation": validation,
        "metrics": {"accuracy": float(right.mean()), "macro_f1": float(right.mean())},
        "seconds_to_best": 10.0 if job.arm == "full" else 4.0,
        "cost": {
            "step_ms_median": 100.0 if job.arm == "full" else 30.0,
            "peak_memory_bytes": 100,
            "trainable_parameters": 5,
            "total_parameters": 100,
        },
        "environment": {"commit": "0123456789"},
        "units": {"3/neuron/a": pack(np.arange(4, dtype=np.int32) + job.seed % 2)},
        "test": {
            "ids": pack(np.arange(200, dtype=np.int32)),
            "labels": pack(labels),
            "predictions": pack(guesses),
        },
    }


def test_arrays_survive_and_a_torn_line_is_left_out_and_written_over(
    modules: dict[str, ModuleType], tmp_path: Path
) -> None:
    records = modules["records"]
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    assert np.array_equal(records.unpack(json.loads(json.dumps(records.pack(array)))), array)
    path = tmp_path / "a.jsonl"
    records.append(path, {"x": 1})
    with path.open("a") as stream:
        stream.write('{"x": 2, "torn')
    assert list(records.read(tmp_path)) == [{"x": 1}]
    records.append(path, {"x": 3})
    assert list(records.read(tmp_path)) == [{"x": 1}, {"x": 3}]


def _finish(modules: dict[str, ModuleType], tmp_path: Path, arms: list[str]) -> Any:
    """Do all stages with made-up results: 0.3 is the best rate of full, 1.0 of the others."""
    board = modules["run"].Board("cpu", tmp_path, Path("CACHE"), arms)
    for stage in ("tuning", "edges", "seeds"):
        for job in list(getattr(board, stage)()):
            if job.key in board.done:
                continue
            good = {"full": 0.3}.get(job.arm, 1.0) == job.scale
            share = {"sparse": 0.9, "full": 0.7}.get(job.arm, 0.6)
            line = _line(modules, job, share, 0.8 if good else 0.5)
            modules["records"].append(board.results / f"{job.data}.jsonl", line)
        board.refresh()
    return board


def test_later_stages_take_the_best_rate_of_each_method(
    modules: dict[str, ModuleType], tmp_path: Path
) -> None:
    board = modules["run"].Board("cpu", tmp_path, Path("CACHE"), ["sparse", "full"])
    assert len(list(board.tuning())) == 2 * 3 * 6
    with pytest.raises(KeyError):
        list(board.seeds())
    board = _finish(modules, tmp_path, ["sparse", "full"])
    scales = {(job.arm, job.scale) for job in board.seeds()}
    assert scales == {("sparse", 1.0), ("full", 0.3)}
    # The best rate of full is the lowest, so one below it was tried, which was worse.
    edges = [(job.arm, round(job.scale, 3)) for job in board.edges()]
    assert edges == [("full", 0.1)] * 6
    assert all(job.key in board.done for job in [*board.tuning(), *board.seeds()])
    shared = modules["run"].mine(list(board.tuning()), 0, 2) + modules["run"].mine(
        list(board.tuning()), 1, 2
    )
    assert {job.key for job in shared} == {job.key for job in board.tuning()}


def test_controls_also_run_at_the_rate_of_the_method(
    modules: dict[str, ModuleType], tmp_path: Path
) -> None:
    board = _finish(modules, tmp_path, ["sparse", "sparse_random"])
    equal = [job for job in board.seeds() if job.stage == "equal rate"]
    assert {job.arm for job in equal} == {"sparse_random"} and len(equal) == 6 * 5
    assert {job.scale for job in equal} == {board.best_scale("sparse", "minilm")}


def test_every_run_of_every_stage_has_a_valid_configuration(
    modules: dict[str, ModuleType], tmp_path: Path
) -> None:
    board = _finish(modules, tmp_path, ["sparse"])
    every = modules["run"].Board("cpu", tmp_path, Path("CACHE"), [])
    jobs = {job.arm: job for job in [*every.tuning(), *board.variants(), *_variants(modules)]}
    assert len(jobs) >= len(modules["settings"].METHODS) + len(modules["settings"].DENSITIES)
    for job in jobs.values():
        config = modules["run"].compose_config(job, tmp_path / "out")
        assert config.seed == job.seed and config.data.name == job.data


def _variants(modules: dict[str, ModuleType]) -> list[Any]:
    settings, run = modules["settings"], modules["run"]
    board = run.Board("gpu", Path("none"), Path("CACHE"), [])
    return [board.job("variants", arm, "trec_fine", "minilm", 0, 1.0) for arm in settings.ABLATIONS]


def test_the_table_holds_means_intervals_and_ratios(
    modules: dict[str, ModuleType], tmp_path: Path
) -> None:
    _finish(modules, tmp_path / "results", ["sparse", "full", "sparse_random"])
    table = modules["table"]
    lines = list(modules["records"].read(tmp_path / "results" / "cpu"))
    size = modules["settings"].SIZES["cpu"]
    rows = table.rows_of(lines, ["sparse", "full", "sparse_random"], size.seeds)
    markdown, found = table.main_table(rows, tuple(size.data), 200)
    by_arm = {entry["arm"]: entry for entry in found}
    assert by_arm["sparse"]["accuracy"] == pytest.approx(0.9, abs=0.03)
    assert by_arm["full"]["sparse_minus_this"] == pytest.approx(0.2, abs=0.04)
    assert by_arm["full"]["low"] > 0.1 and by_arm["full"]["p_holm"] < 0.05
    assert by_arm["sparse"]["step_ms_median_ratio"] == pytest.approx(0.3)
    assert by_arm["sparse"]["seconds_to_best_ratio"] == pytest.approx(0.4)
    assert by_arm["full"]["sd_ratio"] == 1.0
    # Seeds 0, 2, 4 took units 0 to 3, seeds 1 and 3 units 1 to 4: 4 of 10 pairs are equal.
    assert by_arm["sparse"]["jaccard_between_seeds"] == pytest.approx((4 * 1 + 6 * 0.6) / 10)
    assert any(line.startswith("| sparse | 0.001 |") for line in markdown)
    tuning = table.tuning_table(lines, tuple(size.data), 0)
    # Three rates of each, and one beyond the lowest for full; a header and a rule.
    assert len(tuning) == 2 + 3 * 3 + 1
    assert any(line.startswith("| full | 0.0003 | 80.0 |") for line in tuning)
