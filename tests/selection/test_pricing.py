"""The sparse methods' options for a fitted cost model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparseft.errors import ConfigError, SelectionError
from sparseft.selection.calibration import Calibration
from tests.methods.common import prepare
from tests.tiny import tiny

OPTIONS: dict[str, Any] = {
    "density": 0.2, "folds": 0, "batches": 1, "calibration_seconds": 0.001,
}  # fmt: skip


def test_without_a_calibration_flops_count() -> None:
    prepared = prepare(tiny("bert"), "sparse", **OPTIONS)
    assert prepared.selection is not None
    assert prepared.selection.info["cost"] == "flops"


def test_a_run_calibrates_once_and_the_next_one_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "made" / "calibration.json"
    options = {**OPTIONS, "calibration": str(path)}
    first = prepare(tiny("bert"), "sparse", calibrate=True, **options)
    assert first.selection is not None and first.selection.info["cost"] == "calibrated"
    made = Calibration.load(path)
    assert first.analysis_seconds > made.seconds  # it counts
    stamp = path.stat().st_mtime_ns
    for calibrated in (True, False):
        again = prepare(tiny("bert"), "sparse_random", calibrate=calibrated, **options)
        assert again.selection is not None and again.selection.info["cost"] == "calibrated"
    assert path.stat().st_mtime_ns == stamp
    with pytest.raises(SelectionError, match="calibration of model="):
        prepare(tiny("llama"), "sparse", calibrate=True, **options)


def test_depth_rules_and_the_cache_reach_the_analysis() -> None:
    options = {**OPTIONS, "depth": "auto"}
    lowest = []
    for rule in ("worth", "merit", "marginal"):
        selection = prepare(tiny("bert"), "sparse", depth_rule=rule, **options).selection
        assert selection is not None
        lowest.append(selection.lowest_layer)
    assert lowest == sorted(lowest)
    cached = prepare(tiny("bert"), "sparse", priced_with_cache=True, **options).selection
    assert cached is not None and cached.info["prefix_cache"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibrate": "yes"}, r"method\.calibrate to be true or false, got 'yes'"),
        ({"priced_with_cache": 1}, r"method\.priced_with_cache"),
        ({"calibration": 3}, r"method\.calibration to be null or a file"),
        ({"calibration": ""}, r"method\.calibration"),
        ({"calibration_seconds": 0}, r"method\.calibration_seconds above 0"),
        ({"calibration_seconds": "10"}, r"method\.calibration_seconds to be a number"),
        ({"depth_rule": "deep"}, r"method\.depth_rule to be null or one of merit"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(tiny("bert"), "sparse", **{**OPTIONS, **options})


def test_a_missing_file_is_an_error_unless_it_is_to_be_made(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="expected a readable file"):
        prepare(tiny("bert"), "sparse", calibration=str(tmp_path / "none.json"), **OPTIONS)
