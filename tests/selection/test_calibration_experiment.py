"""The experiment's commands: the table of a record, and the agreement of files."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.sparse.helpers import analysed

_FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "calibration"


def _script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"calibration_{name}", _FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_the_readme_is_that_of_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = _script("measure", monkeypatch)
    record = json.loads((_FOLDER / "results" / "minilm.json").read_text())
    table = measure.table(record)
    assert table in (_FOLDER / "README.md").read_text()
    assert len(record["settings"]) == len(measure.SETTINGS)
    assert [row["setting"] for row in record["settings"]] == [s.name for s in measure.SETTINGS]


def test_agreement_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(analysed(seed=seed)[1].save(tmp_path / f"{seed}.json")) for seed in (0, 10, 20)]
    script = _script("agreement", monkeypatch)
    out = tmp_path / "agreement.json"
    monkeypatch.setattr(sys, "argv", ["agreement.py", *paths, "--json", str(out)])
    script.main()
    found = json.loads(out.read_text())
    shown = capsys.readouterr().out
    assert "3 selections" in shown and f"{found['overall']['jaccard']:.3f}" in shown
    monkeypatch.setattr(sys, "argv", ["agreement.py", paths[0]])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    assert "at least two selections, got 1" in capsys.readouterr().err
