"""metrics.jsonl is on disk at once, and a resumed run leaves no step twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from sparseft.errors import SparseftError
from sparseft.training import MetricsLog


class _Tracker:
    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, Any]]] = []

    def log(self, values: Mapping[str, Any], step: int) -> None:
        self.seen.append((step, dict(values)))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_on_disk_before_the_next_step(tmp_path: Path) -> None:
    tracker = _Tracker()
    with MetricsLog(tmp_path / "run" / "metrics.jsonl", tracker) as log:
        log.write("train", 1, {"loss": 0.5})
        assert _lines(tmp_path / "run" / "metrics.jsonl") == [
            {"kind": "train", "step": 1, "loss": 0.5}
        ]
        log.write("validation", 1, {"accuracy": 1.0})
    assert tracker.seen == [(1, {"train/loss": 0.5}), (1, {"validation/accuracy": 1.0})]


def test_later_steps_and_a_torn_line_are_dropped_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        for step in (1, 2, 3):
            log.write("train", step, {"loss": 1.0})
    path.write_text(path.read_text() + '{"kind": "train", "st')
    with MetricsLog(path, after_step=2) as log:
        log.write("train", 3, {"loss": 2.0})
    assert [line["step"] for line in _lines(path)] == [1, 2, 3]
    assert _lines(path)[-1]["loss"] == 2.0
    with MetricsLog(path):
        assert path.read_text() == ""


def test_a_full_disk_is_one_clear_error(
    tmp_path: Path, disk_full: Callable[[int], AbstractContextManager[None]]
) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    with disk_full(10), pytest.raises(SparseftError, match=r"metrics\.jsonl.*free some space"):
        log.write("train", 1, {"loss": 0.5})
    log.close()
