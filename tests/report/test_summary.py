"""Grouping, choosing and comparing, on made-up results whose answer is known."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparseft.errors import ConfigError, ResultError
from sparseft.reporting.collect import collect
from sparseft.reporting.naming import distinct_labels
from sparseft.reporting.summary import Study, Summary, summarise
from tests.report.results_factory import METHODS, write_results

FEW = tuple(maker for maker in METHODS if maker.name in ("sparse", "full", "lora", "probe"))


def _summary(folder: Path, **options: Any) -> Summary:
    return summarise(collect(folder), resamples=200, **options)


def _study(folder: Path, **options: Any) -> Study:
    (study,) = _summary(folder, **options).studies
    return study


def _edit(path: Path, change: Any) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def _of(study: Study, label: str) -> Any:
    return next(entry for entry in study.methods if entry.label == label)


def test_the_learning_rate_is_chosen_on_validation_not_on_test(tmp_path: Path) -> None:
    write_results(tmp_path, methods=FEW)
    study = _study(tmp_path)
    for entry in study.methods:
        chosen = next(tried for tried in entry.tried if tried.chosen)
        assert chosen.lr_scale == 1.0
        assert [tried.lr_scale for tried in entry.tried] == [0.3, 1.0, 3.0]
        tests = {
            scale: statistics.fmean(
                json.loads(path.read_text())["metrics"]["accuracy"]
                for path in (tmp_path / "trec" / entry.method).glob(f"*-{scale:g}/result.json")
            )
            for scale in (0.3, 1.0, 3.0)
        }
        assert entry.score.mean == pytest.approx(tests[1.0])
    # What makes this test say something: on test data another rate looks better.
    assert any(tests[3.0] > tests[1.0] for _ in [0])


def test_a_rate_with_fewer_seeds_is_not_eligible(tmp_path: Path) -> None:
    paths = write_results(tmp_path, methods=FEW[:1])
    for path in paths:
        if path.parent.name == "0-3":
            _edit(path, lambda record: record.update(validation=0.999))
        elif path.parent.name.endswith("-3"):
            path.unlink()
    study = _study(tmp_path)
    assert study.methods[0].lr == pytest.approx(1e-3)
    assert any("fewer seeds" in note for note in study.notes)


def test_means_ratios_and_shares(tmp_path: Path) -> None:
    write_results(tmp_path, methods=FEW, lr_scales=(1.0,))
    study = _study(tmp_path)
    sparse, full = _of(study, "sparse"), _of(study, "full")
    records = [
        json.loads((tmp_path / "trec" / "sparse" / f"{seed}-1" / "result.json").read_text())
        for seed in range(3)
    ]
    scores = [record["metrics"]["accuracy"] for record in records]
    assert sparse.score.mean == pytest.approx(statistics.fmean(scores))
    assert sparse.score.sd == pytest.approx(statistics.stdev(scores))
    ratios = [
        run.result.cost["step_ms_median"] / base.result.cost["step_ms_median"]
        for run, base in zip(sparse.runs, full.runs, strict=True)
    ]
    assert sparse.step_ratio.mean == pytest.approx(statistics.fmean(ratios))
    assert full.step_ratio.mean == 1.0
    assert sparse.trainable_share == pytest.approx(0.05, rel=1e-3)
    assert sparse.cost("analysis_seconds") == pytest.approx(1.6)
    assert (study.test_rows, study.metric, study.model) == (200, "accuracy", "minilm")
    assert sparse.is_reference and sparse.comparison is None
    assert full.comparison.difference == pytest.approx(full.score.mean - sparse.score.mean)
    assert _of(study, "probe").comparison.high < 0
    assert [e.score.mean for e in study.methods] == sorted(
        (e.score.mean for e in study.methods), reverse=True
    )


def test_ratios_are_never_taken_across_devices(tmp_path: Path) -> None:
    paths = write_results(tmp_path, methods=FEW, lr_scales=(1.0,))
    for path in paths:
        if path.parts[-3:-1] == ("probe", "0-1") or "lora" in path.parts:
            _edit(path, lambda record: record["environment"].update(device="other"))
    summary = _summary(tmp_path)
    study = summary.studies[0]
    assert _of(study, "lora").step_ratio is None
    assert _of(study, "probe").step_ratio.sd is not None
    assert any("2 kinds of device" in note for note in summary.notes)


def test_several_labels_are_compared_by_micro_f1(tmp_path: Path) -> None:
    write_results(tmp_path, methods=FEW, lr_scales=(1.0,), multi_label=True)
    study = _study(tmp_path)
    assert study.metric == "micro_f1"
    full = _of(study, "full")
    assert full.comparison.difference == pytest.approx(
        full.score.mean - _of(study, "sparse").score.mean
    )


def test_other_settings_are_another_study_and_named_by_what_differs(tmp_path: Path) -> None:
    write_results(tmp_path / "a", methods=FEW, lr_scales=(1.0,), rows=200, shots=10)
    write_results(tmp_path / "b", methods=FEW, lr_scales=(1.0,), rows=150, shots=5)
    assert [s.label for s in _summary(tmp_path).studies] == ["trec · shots 10", "trec · shots 5"]


def test_options_of_a_method_tell_namesakes_apart(tmp_path: Path) -> None:
    write_results(tmp_path / "a", methods=FEW, lr_scales=(1.0,))
    for path in write_results(tmp_path / "b", methods=FEW[:1], lr_scales=(1.0,)):
        _edit(path, lambda record: record["config"]["method"].update(density=0.1, depth=None))
    with pytest.raises(ConfigError, match=r"sparse, sparse · density 0\.1"):
        _summary(tmp_path, reference="nothing")
    study = _study(tmp_path, reference="sparse · density 0.1")
    assert study.reference is not None and study.reference.label == "sparse · density 0.1"
    assert "sparse" in {entry.label for entry in study.methods}


def test_labels_name_a_section_before_its_details() -> None:
    entries = [
        ("trec", {"model.name": "minilm", "model.id": "minilm", "data.rows": None}),
        ("trec", {"model.name": "smollm2", "model.id": "smollm2", "data.rows": 600}),
        ("cr", {"model.name": "minilm", "model.id": "minilm"}),
    ]
    assert distinct_labels(entries) == ["trec · minilm", "trec · rows 600 · smollm2", "cr"]


def test_an_unknown_reference_names_those_there_are(tmp_path: Path) -> None:
    write_results(tmp_path, methods=FEW, lr_scales=(1.0,))
    with pytest.raises(ConfigError, match="full, lora, probe, sparse"):
        _summary(tmp_path, reference="spars")


def test_a_data_set_without_the_reference_is_shown_without_comparison(tmp_path: Path) -> None:
    write_results(tmp_path, methods=FEW, lr_scales=(1.0,))
    write_results(tmp_path, "cr", methods=FEW[1:], lr_scales=(1.0,))
    first, second = _summary(tmp_path).studies
    assert first.reference is None and second.reference is not None
    assert all(entry.comparison is None for entry in first.methods)
    assert "nothing is compared" in first.notes[-1]


def test_missing_predictions_leave_the_interval_out(tmp_path: Path) -> None:
    write_results(tmp_path, methods=FEW, lr_scales=(1.0,))
    for path in (tmp_path / "trec" / "lora").rglob("predictions.npz"):
        path.unlink()
    study = _study(tmp_path)
    assert _of(study, "lora").comparison is None
    assert _of(study, "full").comparison is not None
    assert any("No predictions in common" in note and "lora" in note for note in study.notes)


def test_the_same_run_twice_is_refused(tmp_path: Path) -> None:
    write_results(tmp_path / "a", methods=FEW, lr_scales=(1.0,))
    write_results(tmp_path / "b", methods=FEW[:1], lr_scales=(1.0,))
    with pytest.raises(ResultError, match="remove one"):
        _summary(tmp_path)


def test_other_test_rows_are_refused(tmp_path: Path) -> None:
    write_results(tmp_path, methods=FEW, lr_scales=(1.0,))
    path = tmp_path / "trec" / "lora" / "0-1" / "predictions.npz"
    with np.load(path) as arrays:
        moved = {**arrays, "test_ids": arrays["test_ids"] + 1}
    np.savez(path, **moved)
    with pytest.raises(ResultError, match="same rows for seed 0"):
        _summary(tmp_path)


def test_uneven_protocols_are_noted(tmp_path: Path) -> None:
    write_results(tmp_path, methods=FEW[:2], seeds=(0, 1, 2, 3, 4))
    write_results(tmp_path, methods=FEW[2:], seeds=(0, 1), lr_scales=(1.0, 3.0))
    notes = " ".join(_study(tmp_path).notes)
    assert "Not the same number of learning rates" in notes
    assert "Not the same seeds" in notes
    assert "lowest or highest that was tried" in notes
    assert "Fewer than five seeds" not in notes


def test_heat_maps_are_averaged_over_seeds(tmp_path: Path) -> None:
    write_results(tmp_path, methods=FEW, lr_scales=(1.0,))
    study = _study(tmp_path)
    sparse = _of(study, "sparse")
    maps = [run.result.selection["heat_map"]["share"] for run in sparse.runs]
    assert np.allclose(sparse.heat_map["share"], np.mean(maps, axis=0))
    assert _of(study, "full").heat_map is None
    assert len(study.examples) == 2


def test_records_of_a_results_folder_are_found_with_their_predictions(tmp_path: Path) -> None:
    for path in write_results(tmp_path / "runs", methods=FEW, lr_scales=(1.0,)):
        name = f"{path.parent.parent.name}-{path.parent.name}"
        (tmp_path / "results").mkdir(exist_ok=True)
        path.rename(tmp_path / "results" / f"{name}.json")
        (path.parent / "predictions.npz").rename(tmp_path / "results" / f"{name}.npz")
    collection = collect(tmp_path / "results")
    assert len(collection.runs) == 12
    assert all(run.scores is not None and run.examples == [] for run in collection.runs)


def test_hidden_folders_are_left_alone(tmp_path: Path) -> None:
    paths = write_results(tmp_path, methods=FEW[:1], lr_scales=(1.0,))
    hidden = tmp_path / ".sweep"
    hidden.mkdir()
    (hidden / "result.json").write_text("{half")
    assert len(collect(tmp_path).runs) == len(paths)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("result.json", b'{"schema_version": 1, "exper', "expected JSON"),
        ("result.json", b'{"schema_version": 2}', "schema_version"),
        ("predictions.npz", b"PK\x03\x04 cut off", r"predictions\.npz"),
        ("examples.json", b'[{"text": "a"}]', "list of examples"),
    ],
)
def test_a_damaged_file_is_named_or_skipped(
    file: str, content: bytes, message: str, tmp_path: Path
) -> None:
    write_results(tmp_path, methods=FEW, lr_scales=(1.0,))
    damaged = tmp_path / "trec" / "sparse" / "1-1" / file
    damaged.write_bytes(content)
    with pytest.raises(ResultError, match=message) as caught:
        collect(tmp_path)
    assert str(damaged) in str(caught.value) and "--skip-damaged" in str(caught.value)
    collection = collect(tmp_path, skip_damaged=True)
    assert len(collection.runs) == 11
    assert collection.damaged == ("trec/sparse/1-1/result.json",)


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="got none; check the path"):
        collect(tmp_path / "missing")
    with pytest.raises(ResultError, match="run an experiment first"):
        collect(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(ResultError, match="only damaged ones"):
        collect(tmp_path, skip_damaged=True)
