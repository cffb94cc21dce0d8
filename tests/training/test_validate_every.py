"""Validation after every k-th epoch, and after the last step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sparseft.config import TrainingConfig
from sparseft.errors import ConfigError
from tests.tiny import tiny, tiny_batch
from tests.training.test_loop import _evaluation, _lines, _prepared, _train


def _validated(folder: Path) -> list[tuple[int, int]]:
    lines = [line for line in _lines(folder) if line["kind"] == "validation"]
    return [(line["epoch"], line["step"]) for line in lines]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"epochs": 5, "validate_every": 2}, [(2, 4), (4, 8), (5, 10)]),
        ({"epochs": 4, "validate_every": 2}, [(2, 4), (4, 8)]),
        ({"epochs": 3, "validate_every": 9}, [(3, 6)]),
        # Stopped within the third epoch.
        ({"epochs": 9, "validate_every": 2, "max_steps": 5}, [(2, 4), (3, 5)]),
    ],
)
def test_epochs_that_are_validated(
    settings: dict[str, Any], expected: list[tuple[int, int]], tmp_path: Path
) -> None:
    model = tiny("bert")
    scores = iter([0.5, 0.9, 0.7])
    outcome = _train(
        _prepared(model),
        [tiny_batch(model)] * 2,
        tmp_path,
        lambda: _evaluation(next(scores)),
        **settings,
    )
    assert _validated(tmp_path) == expected
    best = expected[min(1, len(expected) - 1)]
    assert (outcome.best_epoch, outcome.best_step) == best


def test_patience_is_counted_in_epochs(tmp_path: Path) -> None:
    model = tiny("bert")
    settings: dict[str, Any] = {"epochs": 12, "validate_every": 2, "early_stop_patience": 3}
    outcome = _train(_prepared(model), [tiny_batch(model)] * 2, tmp_path, **settings)
    # The best is the second epoch; after the fourth only two have passed, after the sixth four.
    assert _validated(tmp_path) == [(2, 4), (4, 8), (6, 12)]
    assert outcome.cost["steps"] == 12


def test_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.validate_every"):
        TrainingConfig(validate_every=0)
