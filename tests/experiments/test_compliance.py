"""The compliance experiment's tables: what is read, scored, compared, counted and refused."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sparseft.compliance import Example, FieldValue, Record, Transcript, load_schema
from sparseft.compliance.corpora import load_corpus
from sparseft.compliance.corpus import Corpus
from sparseft.compliance.schema import parse_schema
from sparseft.compliance.scores import score
from sparseft.compliance.transcript import Turn
from sparseft.errors import DataError, ResultError, SparseftError
from sparseft.paths import checkout_root
from sparseft.training.compliance.metrics import main_metrics

FOLDER = Path(checkout_root() or ".") / "experiments" / "compliance"
RATES = {0.3: 0.5, 1.0: 0.9, 3.0: 0.7}  # scale: validation score on the first seed
SCHEMA = """
name: tiny
instruction: Fill in the record.
critical: {field: verdict, alarm: [violation]}
fields:
  reason: {kind: enum, description: why, values: {a: one, b: other}}
  verdict: {kind: enum, description: outcome, values: [compliant, violation]}
"""
GOLD = (("a", "violation"), ("b", "violation"), ("a", "compliant"), ("b", "compliant"))
WRONG = {"a": "b", "b": "a", "violation": "compliant", "compliant": "violation"}
MARKS = "".join(f"<!-- compliance {d} -->\nold\n<!-- /compliance {d} -->\n" for d in "xy")

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="experiments/ is not installed")
Modules = dict[str, ModuleType]


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Modules:
    """The experiment's files, which import each other by bare names, on an empty results/."""
    loaded = {}
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("settings", "run", "table"):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        loaded[name] = module
    monkeypatch.setattr(loaded["run"], "_RESULTS", tmp_path / "results")
    monkeypatch.setattr(loaded["table"], "_README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text("# Title\n")
    return loaded


def _job(modules: Modules, name: str, seed: int, scale: float, data: str = "service") -> Any:
    arm = next(arm for arm in modules["settings"].ARMS if arm.name == name)
    return modules["run"].Job(data, arm, seed, scale)


def _write(job: Any, content: Mapping[str, Any]) -> None:
    job.path.parent.mkdir(parents=True, exist_ok=True)
    job.path.write_text(json.dumps(content, sort_keys=True))


def _result(job: Any, config: Any, metrics: Any, sha256: str) -> dict[str, Any]:
    return {
        "config": config,
        "seed": job.seed,
        "model": "minilm",
        "validation": RATES[job.scale],
        "metrics": metrics,
        "seconds_to_best": 100.0 + 50 * job.seed,
        "cost": {
            "peak_memory_bytes": 2e9,
            "trainable_parameters": 1_000_000,
            "total_parameters": 20_000_000,
        },
        "tuning": {"lr": 1e-3 * job.scale, "lr_scale": job.scale},
        "data": {"sha256": sha256},
        "environment": {"commit": "0123456789", "dirty": False, "device": "cpu", "threads": 1},
    }


# --- A schema of two fields on four made-up conversations -----------------------------------------


@pytest.fixture
def tiny(modules: Modules, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    def example(name: str, reason: str, verdict: str) -> Example:
        transcript = Transcript(name, (Turn("agent", f"{name}: {reason}"),))
        return Example(transcript, {"reason": reason, "verdict": verdict})

    test = tuple(example(f"t{place}", *gold) for place, gold in enumerate(GOLD))
    other = example("other", "a", "compliant")
    corpus = Corpus("tiny", parse_schema(SCHEMA, "tiny"), (other,), (other,), test)
    monkeypatch.setattr(modules["table"], "corpus_of", lambda content: corpus)
    constant = {"reason": "a", "verdict": "violation"}
    monkeypatch.setitem(modules["table"].READERS, "service", lambda transcript: constant)
    return corpus


def _made_up(
    modules: Modules, corpus: Corpus, name: str, seed: int, scale: float, wrong: Sequence[int]
) -> Any:
    """A run with errors at these of the 8 values; its third record is sent to review."""
    job = _job(modules, name, seed, scale)
    values = [
        {
            key: WRONG[value] if 2 * place + column in wrong else value
            for column, (key, value) in enumerate(example.gold.items())
        }
        for place, example in enumerate(corpus.test)
    ]
    metrics = {
        "field_accuracy": 1 - len(wrong) / 8,
        "seconds_p50": 0.2 + 0.1 * seed,
        "seconds_p95": 0.4,
    }
    owner = "model" if "model only" in name else "hybrid"
    config = {"task": {"compliance": {"owner": owner}}}
    content = {
        "arm": name,
        "overrides": list(job.overrides()),
        "result": _result(job, config, metrics, corpus.sha256),
        "scores": {
            "majority": {"values": {"reason": "b", "verdict": "compliant"}},
            "calibration": {"values": {"ece": 0.01 * (1 + seed)}},
        },
        "records": [
            {"id": f"t{place}", "values": each, "review": int(place == 2), "seconds": 0.2}
            for place, each in enumerate(values)
        ],
    }
    _write(job, content)
    return job


def _all_made_up(modules: Modules, corpus: Corpus) -> None:
    for scale, wrong in ((0.3, (0, 1)), (1.0, (0,)), (3.0, ())):
        _made_up(modules, corpus, "sparse", 0, scale, wrong)
    _made_up(modules, corpus, "sparse", 1, 1.0, (3, 5))  # an alarm missed, a false one
    _made_up(modules, corpus, "sparse", 1, 3.0, ())  # of a rate that is not chosen
    _made_up(modules, corpus, "sparse, model only", 0, 1.0, (0, 2, 4))
    _made_up(modules, corpus, "lora", 0, 1.0, ())  # its rate is not chosen yet


def test_arms_are_taken_at_the_rate_of_validation_and_missing_runs_are_counted(
    modules: Modules, tiny: Corpus
) -> None:
    _all_made_up(modules, tiny)
    main, text, entries = modules["table"].tables_of("service", 200, 0.36, 0.5)
    arms = {entry["arm"]: entry for entry in entries if entry["table"] == "arms"}
    assert list(arms) == ["sparse", "sparse, model only", "majority", "rules only"]
    sparse = arms["sparse"]
    assert sparse["lr"] == 1e-3 and sparse["seeds"] == 2
    # 7 and 6 of 8 values are right.
    assert sparse["field_accuracy"] == pytest.approx(0.8125)
    assert sparse["field_accuracy_sd"] == pytest.approx(0.125 / 2**0.5)
    assert sparse["field_accuracy_low"] < 0.8125 < sparse["field_accuracy_high"]
    assert sparse["record_exact"] == pytest.approx(5 / 8)
    assert (sparse["valid"], sparse["reviewed"]) == (1.0, 0.25)
    assert sparse["ece"] == pytest.approx(0.015)
    # Added up over the seeds 3 of 4; Wilson's interval of 1.5 of 2.
    for name in ("critical_recall", "critical_precision"):
        assert (sparse[f"{name}_count"], sparse[f"{name}_total"]) == (3, 4)
        assert sparse[f"{name}_low"] == pytest.approx(0.1979, abs=2e-4)
        assert sparse[f"{name}_high"] == pytest.approx(0.9733, abs=2e-4)
    assert (sparse["seconds_to_best"], sparse["seconds_to_best_most"]) == (125.0, 150.0)
    # The majority's stored values, and the reader of the fixture: one reason in two, two verdicts.
    assert arms["majority"]["field_accuracy"] == arms["rules only"]["field_accuracy"] == 0.5
    assert arms["majority"]["critical_recall"] == 0.0
    assert arms["rules only"]["critical_recall"] == 1.0
    assert arms["rules only"]["reviewed"] is None
    # 31 runs; three sparse ones are missing, six of lora, ...
    shown = (
        "6 of 31 runs are done, 25 missing (sparse: 3; lora: 6; full: 7; sparse, model only: 4; "
        "sparse, no hard negatives: 5). Left out, as run.py does not ask for them: "
        "sparse.seed1.x3.json."
    )
    assert main[-1].endswith(shown) and main[-1] in text
    assert any(line.startswith("| sparse | 0.001 | 2 of 5 | 100.0 | 81.2 ± 8.8 [") for line in main)
    assert any("| 75.0 [19.8, 97.3] (3/4) |" in line for line in main)
    assert any("| 125 (100 to 150) | 2.0 | 1.00M (5.0%) |" in line for line in main)


def test_differences_fields_and_costs(modules: Modules, tiny: Corpus) -> None:
    _all_made_up(modules, tiny)
    _, text, entries = modules["table"].tables_of("service", 200, 0.36, 0.5)
    gaps = {entry["arm"]: entry for entry in entries if entry["table"] == "differences"}
    # Only seed 0 is common: 7 of 8 against 5 of 8.
    assert gaps["sparse, model only"]["seeds"] == 1
    assert gaps["sparse, model only"]["sparse_minus_this"] == pytest.approx(0.25)
    assert gaps["rules only"]["seeds"] == 2
    assert gaps["rules only"]["sparse_minus_this"] == pytest.approx(0.3125)
    fields = {entry["field"]: entry for entry in entries if entry["table"] == "fields"}
    assert fields["reason"]["accuracy"] == pytest.approx(7 / 8)
    assert fields["verdict"]["accuracy"] == pytest.approx(6 / 8)
    assert (fields["verdict"]["majority"], fields["verdict"]["rules_only"]) == (0.5, 0.5)
    cost = next(entry for entry in entries if entry["table"] == "cost")
    # A quarter of a second at 0.01 cents a second, half of them used: 0.005 cents.
    assert cost["dollars_an_evaluation"] == pytest.approx(5e-5)
    assert cost["stated_ratio_low"] == pytest.approx(500)
    rates = [entry for entry in entries if entry["table"] == "rates"]
    assert [entry["chosen"] for entry in rates] == [False, True, False, False]
    assert any(line == "| sparse, model only | 1 | " + _points(gaps) + " |" for line in text)


def _points(gaps: Mapping[str, Any]) -> str:
    keys = ("sparse_minus_this", "sparse_minus_this_low", "sparse_minus_this_high")
    value, low, high = (100 * gaps["sparse, model only"][key] for key in keys)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: c["result"]["metrics"].update(field_accuracy=0.9), ResultError, "0.9"),
        (lambda c: c["overrides"].append("training.epochs=1"), ResultError, "the overrides"),
        (lambda c: c["result"].update(seed=4), ResultError, "the seed"),
        (lambda c: c["result"].pop("tuning"), ResultError, "tuning"),
        (lambda c: c["records"][1].update(id="t9"), DataError, "'t1' for 't9'"),
        (lambda c: c["records"].pop(), DataError, "the 3 test conversations"),
        (lambda c: c["result"]["data"].update(sha256="f" * 64), DataError, "under the same ids"),
    ],
)
def test_what_is_not_the_run_that_it_says_is_refused(
    modules: Modules, tiny: Corpus, change: Any, error: type[Exception], message: str
) -> None:
    _all_made_up(modules, tiny)
    job = _job(modules, "sparse", 1, 1.0)
    content = json.loads(job.path.read_text())
    change(content)
    _write(job, content)
    with pytest.raises(error, match=message):
        modules["table"].tables_of("service", 10, 0.1, 1.0)


def test_lines_go_between_the_marks(modules: Modules) -> None:
    place = modules["table"].with_tables
    text = place(f"before\n{MARKS}after\n", {"x": ["| 1 |"], "y": ["| 2 |", "| 3 |"]}, "R")
    assert text == "before\n" + MARKS.replace("old", "| 1 |", 1).replace("old", "| 2 |\n| 3 |") + (
        "after\n"
    )
    assert place(text, {"x": ["| 1 |"]}, "R") == text
    for broken in ("", MARKS + MARKS, MARKS.replace("/", "")):
        with pytest.raises(SparseftError, match="expected the marks <!-- compliance x -->"):
            place(broken, {"x": ["| 1 |"]}, "R")


# --- The simulator's conversations, from end to end -----------------------------------------------


def _simulated(modules: Modules, seed: int, scale: float, tmp_path: Path) -> None:
    """A run on three test conversations that gets one of 54 values wrong."""
    job = _job(modules, "sparse", seed, scale)
    small = (*job.overrides(), "data.rows=5", "data.test_rows=3")
    config = modules["run"].config_of(small, tmp_path / "out")
    schema = load_schema("service")
    corpus = load_corpus(config.data, schema, config.seed)
    records = []
    for place, example in enumerate(corpus.test):
        values = dict(example.gold)
        if place == 0:
            values["upset"] = not values["upset"]
        entries = {name: FieldValue(value, "model", "", 0.9) for name, value in values.items()}
        records.append(Record(example.transcript.id, "service", entries))
    scores = score(corpus.test, records, schema, train=corpus.train, resamples=10)
    settings = config.task.compliance
    assert settings is not None
    metrics = main_metrics(scores, [0.1, 0.2, 0.3], settings)
    content = {
        "arm": "sparse",
        "overrides": list(job.overrides()),
        "result": _result(job, config.to_mapping(), metrics, corpus.sha256),
        "scores": scores,
        "records": [
            {"id": record.transcript_id, "values": record.values(), "review": 0, "seconds": 0.2}
            for record in records
        ],
    }
    _write(job, content)


def test_end_to_end_on_the_simulator(
    modules: Modules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    table, out, readme = modules["table"], tmp_path / "tables", tmp_path / "README.md"

    def tables(*arguments: str) -> None:
        monkeypatch.setattr(
            sys, "argv", ["table.py", "--out", str(out), "--resamples", "100", *arguments]
        )
        table.main()

    with pytest.raises(SystemExit, match="got none that a table can be made of"):
        tables()
    for scale in RATES:
        _simulated(modules, 0, scale, tmp_path)
    _simulated(modules, 1, 1.0, tmp_path)
    with pytest.raises(SystemExit, match="expected the marks <!-- compliance service -->"):
        tables("--readme")
    assert not out.exists() and readme.read_text() == "# Title\n"

    readme.write_text("# Title\n" + MARKS.replace(" x ", " service ").replace(" y ", " abcd "))
    capsys.readouterr()
    tables("--readme")
    shown = capsys.readouterr().out
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(first) == {"service.md", "service.csv"}
    assert shown.startswith(first["service.md"].decode().rstrip())
    assert "## abcd" in shown and "0 of 26 runs are done, 26 missing" in shown
    between = readme.read_text()
    assert "| sparse | 0.001 | 2 of 5 | 100.0 | 98.1 ± 0.0 [" in between
    assert "4 of 31 runs are done, 27 missing" in between and "No run yet." in between
    assert "old" not in between
    with (out / "service.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    named = {row["arm"]: row for row in rows if row["table"] == "arms"}
    assert float(named["sparse"]["field_accuracy"]) == pytest.approx(53 / 54, abs=1e-7)
    assert float(named["sparse"]["seconds_p50"]) == pytest.approx(0.2)
    assert 0.4 < float(named["rules only"]["field_accuracy"]) < 1
    upset = next(row for row in rows if row["field"] == "upset")
    assert float(upset["accuracy"]) == pytest.approx(2 / 3, abs=1e-7)

    tables("--readme")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    assert readme.read_text() == between
