"""The command line: one run, a sweep, and every mistake as one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sparseft import run
from sparseft.errors import DataError
from sparseft.results import load_results
from sparseft.training import RunOutcome
from tests.training.helpers import task_overrides, write_task

_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("task"))


def _overrides(task: Path, *more: str) -> list[str]:
    return [
        *task_overrides(task),
        "training.head_warmup_steps=3",
        *more,
    ]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capfd)


class Command:
    """`python -m sparseft.run` in this process: starting another one takes seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        self._monkeypatch.setattr(sys, "argv", ["sparseft.run", *arguments])
        try:
            run.main()
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        captured = self._capfd.readouterr()
        return status, captured.out, captured.err


def test_one_run_prints_what_it_found_and_where_it_lies(
    command: Command, task: Path, tmp_path: Path
) -> None:
    arguments = _overrides(task, "+experiment=intent", "method.density=0.2")
    status, out, err = command(*arguments)
    assert status == 0 and "Traceback" not in err
    (result,) = load_results(tmp_path)
    assert result.experiment == "intent" and result.method == "sparse"
    for words in (
        f"accuracy {result.metrics['accuracy']:.4f}",
        f"macro-F1 {result.metrics['macro_f1']:.4f}",
        f"median {result.cost['step_ms_median']:.1f} ms",
        f"p20 {result.cost['step_ms_p20']:.1f}",
        f"{result.cost['trainable_parameters']:,} of",
        "head warm-up",
        "analysis",
    ):
        assert words in out
    folder = Path("runs") / "intent" / "words" / "sparse" / result.config_hash[:12]
    assert str(folder / "result.json") in out and str(folder / "delta") in out
    examples = json.loads((tmp_path / folder / "examples.json").read_text())
    assert examples and all(len(e["tokens"]) == len(e["saliency"]) for e in examples)
    # Nothing of Hydra's own is left in the working directory.
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert command(*arguments)[1].startswith("this configuration and commit have a result already")


def test_a_sweep_goes_on_after_a_failure_and_skips_what_is_done(
    command: Command, task: Path, tmp_path: Path
) -> None:
    settings = [entry for entry in _overrides(task) if not entry.startswith("model.max_length")]
    arguments = ["-m", *settings, "seed=0,1", "method=probe,full"]
    status, out, err = command(*arguments, "model.max_length=32,9999")
    assert status == 2
    assert len(load_results(tmp_path)) == 4
    assert "4 runs failed" in err and "Traceback" not in err
    assert err.count("error: seed=0 method=probe model.max_length=9999: expected") == 1
    rows = [line.split() for line in out.splitlines()]
    assert ["words", "probe"] in [row[:2] for row in rows]
    assert ["words", "full"] in [row[:2] for row in rows]
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    status, out, _ = command(*arguments, "model.max_length=32")
    assert status == 0 and out.count("was done before") == 4


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("method=nothing", ["method/nothing", "probe", "sparse"]),
        ("model=nothing", ["model/nothing", "minilm", "smollm2"]),
        ("data=nothing", ["data/nothing", "banking77", "intent"]),
        ("task=nothing", ["task/nothing", "classification"]),
        ("+experiment=nothing", ["experiment/nothing", "intent"]),
        ("sead=3", ["sead"]),
        ("training.epochs=0", ["training.epochs", "greater than 0"]),
        ("method.name=nothing", ["nothing", "probe", "sparse", "method.name"]),
        ("+method.rank=3", ["method.rank", "density"]),
        ("method.density=0", ["density"]),
        ("method.density=1.5", ["density"]),
        ("data.test=missing.csv", ["missing.csv"]),
        ("data.text_column=body", ["body", "text", "label"]),
        ("data.name=???", ["data.name"]),
        ("device=abacus", ["abacus", "device=auto"]),
    ],
)
def test_a_mistake_is_one_clear_error(
    override: str, words: list[str], command: Command, task: Path, tmp_path: Path
) -> None:
    group = override.split("=")[0]
    arguments = [entry for entry in _overrides(task) if entry.split("=")[0] != group]
    if override == "model=nothing":
        arguments = [entry for entry in arguments if not entry.startswith("model.")]
    status, out, err = command(*arguments, override)
    assert status == 2 and out == ""
    assert "Traceback" not in err
    assert err.startswith("error: ") and len(err.splitlines()) == 1
    for word in words:
        assert word in err
    assert not list(tmp_path.rglob("result.json"))


def test_an_output_without_write_permission(command: Command, task: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    arguments = _overrides(task, "output=file/runs", "method=probe")
    for sweep in ([], ["-m"]):
        status, _, err = command(*sweep, *arguments)
        assert status == 2 and "Traceback" not in err
        assert err.splitlines()[-1].startswith("error: expected to write ")
        assert "file/runs" in err


def test_a_damaged_result_is_named(command: Command, task: Path, tmp_path: Path) -> None:
    arguments = _overrides(task, "method=probe")
    assert command(*arguments)[0] == 0
    (path,) = tmp_path.rglob("result.json")
    path.write_text("{")
    status, _, err = command(*arguments)
    assert status == 2 and str(path.relative_to(tmp_path)) in err
    assert command(*arguments, "rerun=true")[0] == 0
    assert json.loads(path.read_text())["method"] == "probe"


def test_a_bug_keeps_its_traceback_and_in_a_sweep_the_other_runs(
    command: Command, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run.execute

    def broken(config: run.RunConfig, **options: Any) -> RunOutcome:
        if config.seed == 0:
            raise KeyError("a bug")
        return real(config, **options)

    monkeypatch.setattr(run, "execute", broken)
    arguments = _overrides(task, "method=probe")
    with pytest.raises(KeyError):
        command(*arguments)
    status, out, err = command("-m", *arguments, "seed=0,1")
    assert status == 1 and "Traceback" in err and "1 runs failed" in err
    assert "accuracy" in out


def test_a_worker_of_a_parallel_launcher_hands_its_error_on(
    task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object, **options: Any) -> RunOutcome:
        raise DataError("no data")

    class _Job:
        mode = run.RunMode.MULTIRUN
        job = type("job", (), {"num": 0})
        overrides = type("overrides", (), {"task": ["seed=0"]})

    monkeypatch.setattr(run, "_execute", broken)
    monkeypatch.setattr(run, "_config", lambda _: None)
    monkeypatch.setattr(run.HydraConfig, "get", staticmethod(lambda: _Job))
    monkeypatch.setenv("SPARSEFT_MAIN_PROCESS", "1")
    with pytest.raises(DataError):
        run._one(run.OmegaConf.create(), run._Sweep())
    monkeypatch.setenv("SPARSEFT_MAIN_PROCESS", str(os.getpid()))
    sweep = run._Sweep()
    run._one(run.OmegaConf.create(), sweep)
    assert [name for name, _ in sweep.failures] == ["seed=0: "]


def test_it_runs_as_a_module_from_another_directory(task: Path, tmp_path: Path) -> None:
    paths = os.pathsep.join(map(str, (_ROOT, _ROOT / "kernels")))
    command = [sys.executable, "-W", "error", "-m", "sparseft.run", *_overrides(task)]
    done = subprocess.run(
        [*command, "method=probe"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "probe on words" in done.stdout
    assert len(load_results(tmp_path)) == 1
