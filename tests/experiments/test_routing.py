"""The routing experiment's figures are those of `task=routing` for the same answers."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparseft.paths import checkout_root
from sparseft.routing.dialogues import read_jsonl
from sparseft.routing.retriever import load_encoder
from sparseft.routing.scores import resample
from sparseft.training.routing import CHOSEN, execute_routing
from tests.training.routing_case import config, write_case

FOLDER = Path(checkout_root() or ".") / "experiments" / "routing"
SYSTEMS = {"small": "llama3-8b.made-up.plain", "large": "gpt-3.5.made-up.plain"}
RESAMPLES = 20

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="experiments/ is not installed")


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, ModuleType]:
    """The experiment's files, which import each other by bare names, on results of their own."""
    loaded = {}
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("settings", "run", "table"):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        loaded[name] = module
    monkeypatch.setattr(loaded["table"], "_HERE", tmp_path)
    return loaded


def _recorded(folder: Path) -> Path:
    """Both models' answers as the table that the experiment reads."""
    rows: list[dict[str, Any]] = []
    for side, system in SYSTEMS.items():
        for line in (folder / f"{side}.jsonl").read_text().splitlines():
            said = json.loads(line)
            row = {name: said[name] for name in ("dialogue_id", "turn_id")}
            rows.append({"system_name": system, "pred_delta": json.dumps(said["delta"]), **row})
    path = folder / "predictions.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_a_run_has_the_experiments_figures(
    modules: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, run, table = (modules[name] for name in ("settings", "run", "table"))
    folder = write_case(tmp_path)
    path = _recorded(folder)
    turns = read_jsonl(folder / "turns.jsonl")
    monkeypatch.setattr(run, "recorded_turns", lambda: turns)
    pair = settings.Pair("made-up", SYSTEMS["small"], SYSTEMS["large"])
    wanted = {
        side: {
            "file": path.name,
            "system": system,
            "prompt_price": cost.prompt_price,
            "answer_price": cost.answer_price,
            "instruction": cost.instruction,
            "exemplars": cost.exemplars,
        }
        for side, system in SYSTEMS.items()
        for start, cost in settings.COSTS.items()
        if system.startswith(start)
    }
    rates = list(settings.RATES)
    options = {"rates": rates, "neighbours": settings.K, "resamples": RESAMPLES, **wanted}
    ours = config(folder, tmp_path / "out", **options)
    content = run.run(pair, ours.seed, load_encoder(ours.model), path)
    (tmp_path / "results").mkdir()
    record = tmp_path / "results" / f"made-up.seed{settings.SEEDS[0]}.json"
    record.write_text(json.dumps(content))
    study = table.load(pair, "state")
    expected = table._figures(study, resample(study.groups, RESAMPLES, seed=0))
    outcome = execute_routing(ours)
    found = json.loads((outcome.folder / "routing.json").read_text())
    assert found["unit"] == study.unit == "money"
    assert found["pools"] == content["pools"]
    names = {**run.NAMES}
    assert {names.get(row.router, row.router) for row in expected} == set(found["routers"]) - {
        CHOSEN
    }
    for row in expected:
        own = found["routers"][names.get(row.router, row.router)]
        # Records keep five digits of a cost.
        for name in ("aiq", "apgr", "cpt50", "cpt80", "share", "quality", "cost", "gap_closed"):
            assert own[name] == pytest.approx(getattr(row, name), rel=1e-4, nan_ok=True), name
        for name in ("aiq_interval", "above_interval"):
            assert own[name] == pytest.approx(getattr(row, name), rel=1e-3, abs=1e-6), name
        for mine, theirs in zip(own["points"], row.points, strict=True):
            for name in ("share", "quality", "cost"):
                assert mine[name] == pytest.approx(getattr(theirs, name), rel=1e-4), name
