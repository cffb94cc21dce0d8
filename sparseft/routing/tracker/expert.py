"""Our own expert: a finetuned encoder that reads a turn in one pass.

Legend: B turns, S slots, C choices, M candidates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sparseft.models.tracker import TrackerModel, TrackerScores
from sparseft.routing.expert import Prediction
from sparseft.routing.states import DELETE
from sparseft.routing.tracker.rows import Encoded, TurnEncoder
from sparseft.routing.turns import Context
from sparseft.routing.values import normalised

__all__ = ["TrackerExpert", "read_turn"]


class TrackerExpert:
    """Says of each slot what is most likely; the score is the log-probability of the whole delta.

    Args:
        model: in eval mode, on any device.
        encoder: with the model's vocabulary.
        batch_size: turns that are read together.
        trained_on: ids of the dialogues that the model was trained on.
        name: for records.
    """

    def __init__(
        self,
        model: TrackerModel,
        encoder: TurnEncoder,
        *,
        batch_size: int = 32,
        trained_on: frozenset[str] = frozenset(),
        name: str = "tracker",
    ) -> None:
        self.name = name
        self.trained_on = trained_on
        self.model = model
        self.encoder = encoder
        self._batch_size = batch_size

    def __repr__(self) -> str:
        return f"TrackerExpert({self.name!r})"

    @torch.no_grad()
    def predict(self, contexts: Sequence[Context]) -> list[Prediction]:
        """One prediction a context, in order."""
        rows = [self.encoder.encode(context) for context in contexts]
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place].ids))
        found: dict[int, Prediction] = {}
        device = next(self.model.parameters()).device
        for start in range(0, len(order), self._batch_size):
            places = order[start : start + self._batch_size]
            began = time.perf_counter()
            own = [rows[place] for place in places]
            batch: dict[str, Any] = self.encoder.collate(own, device)
            scores = self.model.scores(
                batch["input_ids"], batch["attention_mask"], batch["labels"].spans
            )
            answers = read_batch(scores, own, self.encoder)
            seconds = (time.perf_counter() - began) / len(places)
            for place, row, (delta, score) in zip(places, own, answers, strict=True):
                kept = _changes(contexts[place], delta)
                notes = {"cut_tokens": row.cut} if row.cut else {}
                found[place] = Prediction(
                    kept, score, prompt_tokens=len(row.ids), seconds=seconds, notes=notes
                )
        return [found[place] for place in range(len(rows))]


def read_batch(
    scores: TrackerScores, rows: Sequence[Encoded], encoder: TurnEncoder
) -> list[tuple[dict[str, str], float]]:
    """Of each turn its delta and that delta's log-probability."""
    choices = scores.choices.float().cpu().numpy().astype(np.float64)
    candidates = scores.candidates.float().cpu().numpy().astype(np.float64)
    first = np.cumsum([0, *(len(row.spans) for row in rows)])
    return [
        read_turn(row, choices[place], candidates[first[place] : first[place + 1]], encoder)
        for place, row in enumerate(rows)
    ]


def read_turn(
    row: Encoded, choices: np.ndarray, candidates: np.ndarray, encoder: TurnEncoder
) -> tuple[dict[str, str], float]:
    """One turn's delta, each slot's most likely value, and its log-probability.

    Args:
        choices: float64 [C].
        candidates: float64 [M, S].
    """
    vocabulary = encoder.vocabulary
    delta: dict[str, str] = {}
    total, place = 0.0, 0
    for number, (slot, own) in enumerate(vocabulary.choices.items()):
        weights: dict[str, float] = {}
        for value, score in zip(own, choices[place : place + len(own)], strict=True):
            plain = normalised(slot, value)
            weights[plain] = weights.get(plain, 0.0) + math.exp(min(score, 50.0))
        place += len(own)
        column = candidates[:, number]
        # What is a thousandth as likely as nothing decides no slot.
        for at in np.flatnonzero(column > math.log(1e-3)).tolist():
            plain = normalised(slot, row.values[at])
            weights[plain] = weights.get(plain, 0.0) + math.exp(min(column[at], 50.0))
        rest = float(np.exp(column[column <= math.log(1e-3)]).sum())
        whole = 1.0 + rest + sum(weights.values())
        best = max(weights, key=lambda value: weights[value], default="")
        if best and weights[best] > 1.0:
            delta[slot] = vocabulary.spelled(slot, best)
            total += math.log(weights[best] / whole)
        else:
            total -= math.log(whole)
    return delta, total


def _changes(context: Context, delta: dict[str, str]) -> dict[str, str]:
    """Without what the state says already."""
    kept = {}
    for slot, value in delta.items():
        before = context.previous.get(slot)
        if before is None:
            new = value != DELETE
        else:
            new = normalised(slot, before) != normalised(slot, value)
        if new:
            kept[slot] = value
    return kept
