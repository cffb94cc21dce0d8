"""Bad input at the command line: one clear error, a failing status, and nothing half-written."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from sparseft.run import main
from tests.training.helpers import task_overrides, write_task

_Fault = Callable[..., AbstractContextManager[None]]
_Content = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("task"))


def _arguments(task: Path, output: Path) -> list[str]:
    """A good run of half a second; later arguments override it."""
    return [
        f"output={output}",
        *task_overrides(task),
        "training.head_warmup_steps=2",
    ]


class _Ended:
    """What a run of the command left for its user."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def run(
    task: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., _Ended]:
    """The command in this process, in an empty working directory; output lies in tmp/runs."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    def call(*arguments: str) -> _Ended:
        command = ["run", *_arguments(task, tmp_path / "runs"), *arguments]
        monkeypatch.setattr(sys, "argv", command)
        capfd.readouterr()
        status = 0
        try:
            main()
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else 1
        seen = capfd.readouterr()
        return _Ended(status, seen.out, seen.err)

    return call


def _csv(path: Path, *rows: str) -> str:
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return str(path)


# Arguments (with FILE for a data file made of the rows) and what the error has to say.
_BAD = {
    "unknown method": (["method=abacus"], [], r"method/abacus"),
    "unknown method name": (["method.name=abacus"], [], r"expected a method.*sparse.*got 'abacus'"),
    "unknown model": (["model=abacus"], [], r"model/abacus"),
    "unknown embedded model": (
        ["model=minilm", "model.id=abacus"],
        [],
        r"minilm.*smollm2.*got 'abacus'",
    ),
    "no model in the folder": (["model.id=/nowhere"], [], r"expected .*/nowhere"),
    "unknown task": (["task=abacus"], [], r"task/abacus"),
    "unknown task name": (["task.name=abacus"], [], r"task\.name.*classification.*got 'abacus'"),
    "unknown setting": (["+training.epoch=3"], [], r"epoch"),
    "a setting of another type": (["training.epochs=many"], [], r"training\.epochs.*'many'"),
    "no training rows": (["data.train=FILE"], [], r"expected .*rows.*got (0|none|no)"),
    "one class": (["data.train=FILE"], ["word1,alpha", "word2,alpha"], r"alpha"),
    "missing column": (["data.text_column=message"], [], r"column 'message'.*'text', 'label'"),
    "missing file": (["data.train=nothing.csv"], [], r"nothing\.csv.*no such file"),
    "label unseen in train": (["data.test=FILE"], ["word1 word2,delta"], r"delta"),
    "density of 0": (["method=sparse", "method.density=0"], [], r"density in \(0, 1\].*got 0"),
    "density above 1": (["method=sparse", "method.density=5"], [], r"density in \(0, 1\].*got 5"),
    "negative seed": (["seed=-1"], [], r"seed.*0 or greater.*got -1"),
}


@pytest.mark.parametrize("case", _BAD)
def test_one_error_and_no_files(case: str, run: Callable[..., _Ended], tmp_path: Path) -> None:
    arguments, rows, message = _BAD[case]
    file = _csv(tmp_path / "data.csv", *rows)
    ended = run(*(argument.replace("FILE", file) for argument in arguments))
    assert ended.status != 0
    assert "Traceback" not in ended.err
    said = " ".join(ended.err.split())
    assert re.search(message, said), ended.err
    written = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert written == []
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_good_run_ends_well_and_writes_below_its_output_alone(
    run: Callable[..., _Ended], tmp_path: Path
) -> None:
    ended = run("method=probe")
    assert ended.status == 0, ended.err
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_an_output_that_cannot_be_written_is_named(
    run: Callable[..., _Ended], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    ended = run("method=probe", f"output={tmp_path / 'file'}")
    assert ended.status == 2
    assert ended.err.splitlines()[-1].startswith("error: expected to write")
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_damaged_result_is_named_and_kept(
    run: Callable[..., _Ended], tmp_path: Path, content_of: _Content
) -> None:
    assert run("method=probe").status == 0
    (result,) = (tmp_path / "runs").rglob("result.json")
    result.write_text(result.read_text()[:100])
    before = content_of(tmp_path / "runs")
    ended = run("method=probe")
    assert ended.status == 2
    assert str(result) in ended.err and "Traceback" not in ended.err
    assert content_of(tmp_path / "runs") == before
    assert run("method=probe", "rerun=true").status == 0


def test_a_full_disk_leaves_no_result_and_the_same_command_then_ends_well(
    run: Callable[..., _Ended], tmp_path: Path, disk_full: _Fault
) -> None:
    with disk_full(3000):
        ended = run("method=probe")
    assert ended.status == 2
    assert "free some space" in ended.err and "Traceback" not in ended.err
    assert list((tmp_path / "runs").rglob("result.json")) == []
    assert run("method=probe").status == 0


def test_the_process_ends_with_status_2(task: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sparseft.run", *_arguments(task, tmp_path)]
    done = subprocess.run(
        [*command, "method.name=abacus"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected a method")
    assert done.stdout == ""
