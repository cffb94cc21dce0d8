"""How far a training is, and what is known of it when it has ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Progress", "TrainOutcome"]


@dataclass
class Progress:
    """How far a run is; a checkpoint holds all of it."""

    epoch: int = 0  # the one that the next step belongs to
    step_of_epoch: int = 0
    step: int = 0  # optimizer steps done
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    refresh_seconds: float = 0.0  # part of train_seconds
    refreshes: int = 0
    exchanged_units: int = 0
    milliseconds: list[float] = field(default_factory=list)
    peak_memory_bytes: int = 0
    best_score: float | None = None
    best_loss: float = math.inf
    best_step: int = 0
    best_epoch: int = 0
    seconds_to_best: float = 0.0  # of training and evaluation alone
    stopped: bool = False


@dataclass(frozen=True)
class TrainOutcome:
    """What training found and cost; the model holds the best step's values.

    Attributes:
        score: the best validation score.
        best_epoch: the epoch (from 1) after which it was reached; `best_step` likewise.
        seconds_to_best: training and evaluation up to it, without head warm-up and analysis.
        cost: steps, train_seconds, evaluation_seconds, refresh_seconds, step_ms_*,
            flops_per_step, peak_memory_bytes, peak_memory_source, optimizer_state_bytes,
            averaging_bytes.
        notes: plain data for the record.
    """

    score: float
    best_epoch: int
    best_step: int
    seconds_to_best: float
    cost: dict[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)
