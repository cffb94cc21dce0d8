"""`python -m sparseft.run +experiment=routing` from the command line to its files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sparseft import route, run
from sparseft.results import load_results
from sparseft.routing.dialogues import read_jsonl, write_jsonl
from sparseft.routing.retriever import SentenceEncoder
from sparseft.routing.turns import Turn
from sparseft.training.routing import execute_routing
from tests.training.routing_case import config, write_case


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case(tmp_path_factory.mktemp("routing"))


def _arguments(folder: Path, *more: str) -> list[str]:
    return [
        "+experiment=routing",
        "data=turns",
        f"data.root={folder}",
        "data.test=turns.jsonl",
        "model=path",
        f"model.id={folder / 'encoder'}",
        "model.max_length=32",
        "+task.routing.small.file=small.jsonl",
        "+task.routing.small.parameters=1e6",
        "+task.routing.large.file=large.jsonl",
        "+task.routing.large.parameters=1e8",
        "task.routing.rates=[0,0.5,1]",
        "task.routing.neighbours=3",
        "task.routing.resamples=20",
        "device=cpu",
        *more,
    ]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Any:
    """Runs in this process; exit status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sparseft.run", *arguments])
        try:
            run.main()
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        found = capfd.readouterr()
        return status, found.out, found.err

    return call


def test_one_run_says_what_it_found_and_its_router_routes(
    command: Any, folder: Path, tmp_path: Path
) -> None:
    arguments = _arguments(
        folder, "tracking.wandb=offline", "task.routing.routers=[random,knn,weighted_knn]"
    )
    status, out, err = command(*arguments)
    assert status == 0 and "Traceback" not in err, err
    (result,) = load_results(tmp_path)
    metrics = result.metrics
    for words in (
        "small and large on turns, seed 0",
        f"joint goal accuracy {metrics['jga']:.4f}",
        f"large {metrics['jga_large_alone']:.4f}",
        f"decides in {metrics['decision_ms_p50']:.1f} ms",
    ):
        assert words in out
    home = Path("runs/routing/turns/none") / result.config_hash[:12]
    for name in ("config.json", "routing.json", "turns.jsonl", "routing.html", "quality-cost.svg"):
        assert (home / name).is_file(), name
    logged = list((home / "wandb").rglob("media/html/pages/*.html"))
    assert {path.name.split("_")[0] for path in logged} == {
        "routing",
        "quality-cost",
        "quality-share",
    }
    saved = result.notes["router"]
    assert saved["saved"] and saved["router"] in ("knn", "weighted_knn")
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"id": "q", "user": "a seat at the theatre", "state": {}}\n')
    routes = tmp_path / "routes.jsonl"
    assert route.main([str(home / "router"), str(queries), "--out", str(routes)]) == 0
    assert json.loads(routes.read_text())["route"] in ("small", "large")
    assert command(*arguments)[1].startswith("this configuration and commit have a result already")


def test_a_sweep_over_seeds_and_models_is_a_table(
    command: Any, folder: Path, tmp_path: Path
) -> None:
    arguments = [entry for entry in _arguments(folder) if "small.file" not in entry]
    arguments += ["tracking.wandb=off", "task.routing.routers=[random]", "seed=0,1"]
    files = "+task.routing.small.file=small.jsonl,large.jsonl"
    status, out, err = command("-m", *arguments, files)
    # The large model beside itself has no turn that only it gets right.
    assert status == 2 and err.count("error: ") >= 2 and "Traceback" not in err
    assert len(load_results(tmp_path)) == 2
    head, row = out.splitlines()[-2:]
    assert head.split()[:4] == ["data", "small", "large", "seeds"]
    assert row.split()[:4] == ["turns", "small", "large", "2"]
    assert "lr" not in head.split() and "±" in row


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("task.routing.routers=[magic]", ["magic", "weighted_knn"]),
        ("task.routing.rates=[0,2]", ["task.routing.rates"]),
        ("+task.routing.small.kind=teapot", ["teapot", "recorded, tracker, local, endpoint"]),
        ("data.test=missing.jsonl", ["missing.jsonl"]),
        ("data.test=null", ["data.test"]),
        ("task.routing.retriever=nowhere", ["nowhere"]),
    ],
)
def test_a_mistake_is_one_clear_error(
    override: str, words: list[str], command: Any, folder: Path, tmp_path: Path
) -> None:
    key = override.split("=")[0]
    arguments = [entry for entry in _arguments(folder) if entry.split("=")[0] != key]
    status, out, err = command(*arguments, "tracking.wandb=off", override)
    assert status == 2 and out == "" and not list(tmp_path.iterdir())
    assert err.startswith("error: ") and len(err.splitlines()) == 1
    assert all(word in err for word in words), err


def test_gold_reaches_no_retriever_and_no_file_of_a_router(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gold values that no model ever says are in no text that a run embeds, asks with or saves."""

    def spoiled(turn: Turn) -> Turn:
        state = {**turn.state, "gold-slot": "zzgold"}
        delta = turn.delta if turn.number else {**turn.delta, "gold-slot": "zzgold"}
        return Turn(turn.dialogue, turn.number, turn.system, turn.user, state, delta, turn.domains)

    own = tmp_path / "data"
    own.mkdir()
    for name in ("small.jsonl", "large.jsonl"):
        (own / name).write_text((folder / name).read_text())
    write_jsonl(own / "turns.jsonl", [spoiled(t) for t in read_jsonl(folder / "turns.jsonl")])
    (own / "encoder").symlink_to(folder / "encoder")
    seen: list[str] = []
    embed = SentenceEncoder.embed
    monkeypatch.setattr(
        SentenceEncoder, "embed", lambda self, texts: (seen.extend(texts), embed(self, texts))[1]
    )
    settings = config(own, tmp_path / "out", routers=["knn", "verifier", "classifier"])
    outcome = execute_routing(settings)
    assert len(seen) > 100 and not any("gold" in text for text in seen)
    written = [path for path in outcome.folder.rglob("*") if path.is_file()]
    assert len(written) >= 6
    assert not [path.name for path in written if "zzgold" in path.read_text()]
