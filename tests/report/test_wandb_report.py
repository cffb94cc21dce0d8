"""The W&B report's specification, made and checked without a network."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from sparseft.errors import ConfigError, ResultError
from sparseft.reporting import wandb_report
from sparseft.reporting.collect import collect
from sparseft.reporting.figures import study_figures
from sparseft.reporting.summary import Summary, summarise
from sparseft.reporting.svg import Figure
from tests.report.results_factory import METHODS, write_results

Parts = tuple[Summary, dict[str, list[Figure]]]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("results")
    write_results(folder, methods=METHODS[:6], lr_scales=(1.0,))
    write_results(folder, "o'data", methods=METHODS[:6], lr_scales=(1.0,))
    summary = summarise(collect(folder), resamples=50)
    return summary, {study.label: study_figures(study) for study in summary.studies}


def _blocks(parts: Parts) -> list[dict[str, Any]]:
    report = wandb_report.build(*parts, 50, project="tests", entity="team")
    # What `Report.save` sends.
    written = report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    blocks: list[dict[str, Any]] = json.loads(written)["blocks"]
    return blocks


def _panels(block: dict[str, Any]) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = block["metadata"]["panelBankSectionConfig"]["panels"]
    return panels


def _text(block: dict[str, Any]) -> str:
    return "".join(child.get("text", "") for child in block["children"])


def test_it_holds_the_same_as_the_page(parts: Parts) -> None:
    blocks = _blocks(parts)
    heads = [(block["level"], _text(block)) for block in blocks if block["type"] == "heading"]
    inner = [
        (2, "Score, cost and seeds"),
        (2, "Where the selection lies"),
        (2, "What the tokens say"),
        (2, "Learning rates tried"),
    ]
    assert heads == [
        (1, "All data sets"),
        (1, "o'data"),
        *inner,
        (1, "trec"),
        *inner,
        (1, "How to read this"),
    ]
    tables = [b["content"] for b in blocks if b["type"] == "markdown-block"]
    assert len(tables) == 1 + 2 * 4
    assert "Difference to sparse, points" in tables[1] and "**sparse**" in tables[1]
    assert "Peak memory" in tables[2]
    assert "**delivered**" in tables[3]
    notes = [block for block in blocks if block["type"] == "callout-block"]
    assert len(notes) == sum(len(study.notes) for study in parts[0].studies)


def test_panels_read_the_logged_runs_by_method(parts: Parts) -> None:
    grids = [block for block in _blocks(parts) if block["type"] == "panel-grid"]
    assert len(grids) == 2 * 3
    native = [_panels(grids[0]), _panels(grids[3])]
    for panels in native:
        scatter, bars = panels
        assert scatter["viewType"] == "Scatter Plot"
        assert scatter["config"]["xAxis"] == "summary:cost/step_ms_median"
        assert scatter["config"]["yAxis"] == "summary:test/accuracy"
        assert bars["viewType"] == "Bar Chart"
        assert bars["config"]["groupBy"] == "method.value.name"
    for grid, name in ((grids[0], "o'data"), (grids[3], "trec")):
        (runs,) = grid["metadata"]["runSets"]
        (rule,) = runs["filters"]["filters"]
        assert (rule["key"]["name"], rule["op"], rule["value"]) == ("tags", "IN", [name])
        assert runs["grouping"] == [{"section": "config", "name": "method.value.name"}]


def test_media_panels_show_every_drawing(parts: Parts) -> None:
    grids = [block for block in _blocks(parts) if block["type"] == "panel-grid"]
    shown = [
        key
        for grid in grids
        for panel in _panels(grid)
        if panel["viewType"] == "Media Browser"
        for key in panel["config"]["mediaKeys"]
    ]
    assert sorted(shown) == sorted(
        f"figures/{figure.name}" for listed in parts[1].values() for figure in listed
    )
    (runs,) = grids[1]["metadata"]["runSets"]
    assert runs["filters"]["filters"][0]["value"] == "report"


def test_drawings_are_logged_as_media_of_one_run(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    summary, figures = parts
    few = {summary.studies[0].label: figures[summary.studies[0].label][:2]}
    wandb_report.log_drawings(few, tmp_path, "tests", mode="offline")
    deadline = time.monotonic() + 30
    while not (media := sorted(tmp_path.rglob("media/**/*.html"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(media) == 2
    assert all("<svg" in path.read_text(encoding="utf-8") for path in media)
    (log,) = tmp_path.rglob("run-*.wandb")
    while b"figures/o-data-cost" not in log.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_a_login_it_says_what_to_set(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="WANDB_API_KEY"):
        wandb_report.publish(*parts, 50, tmp_path)
    monkeypatch.setattr(wandb_report.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install wandb-workspaces"):
        wandb_report.check_login()


def test_a_service_that_fails_is_one_clear_error(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("permission denied\nsecond line")

    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb_report, "log_drawings", fail)
    with pytest.raises(ResultError, match="permission denied; check the network") as caught:
        wandb_report.publish(*parts, 50, tmp_path, entity="team")
    assert "second line" not in str(caught.value)


def test_saving_sends_the_specification_and_gives_the_address(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    class _Saved:
        url = "https://wandb.example/team/tests/reports/1"

    class _Report:
        def save(self) -> _Saved:
            sent.append("report")
            return _Saved()

    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb_report, "log_drawings", lambda *_: sent.append("drawings"))
    monkeypatch.setattr(wandb_report, "build", lambda *_: _Report())
    address = wandb_report.publish(*parts, 50, tmp_path, entity="team")
    assert address == _Saved.url
    assert sent == ["drawings", "report"]
