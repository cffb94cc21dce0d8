"""The head of a tracker before any method starts: fitted to frozen features of some turns.

The others are left for the analysis, which then sees turns that the head has not (see
`sparseft.training.held_out`).

Legend: N turns, B turns of a part, L tokens, H hidden size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparseft.models import TrackerModel
from sparseft.models.tracker import TrackerLabels, tracker_loss
from sparseft.routing.tracker.rows import TurnBatches
from sparseft.training.devices import autocast

__all__ = ["WarmHead", "warm_up_tracker"]

_PART = 128  # turns of one call


@dataclass(frozen=True)
class WarmHead:
    """A fitted head.

    Attributes:
        seconds: it took.
        seen: numbers of the turns that it was fitted to.
    """

    seconds: float
    seen: frozenset[int]
    rows: TurnBatches
    seed: int

    def held_out(self, count: int, folds: int) -> Iterator[dict[str, Tensor]]:
        """At most `count` batches of turns that the head has not seen; one head for all `folds`."""
        numbers = np.array(sorted(set(range(self.rows.rows)) - self.seen), dtype=np.int64)
        numbers = np.random.default_rng([self.seed, 2]).permutation(numbers)
        numbers = numbers[: count * self.rows.batch_size]
        numbers = numbers[np.argsort(-self.rows.lengths[numbers], kind="stable")]
        for start in range(0, len(numbers), self.rows.batch_size):
            batch = self.rows.collate(numbers[start : start + self.rows.batch_size])
            yield {key: batch[key] for key in ("input_ids", "attention_mask", "labels")}


def warm_up_tracker(
    model: TrackerModel,
    rows: TurnBatches,
    *,
    steps: int,
    l2: float,
    most: int,
    precision: str,
    seed: int,
) -> WarmHead:
    """Fit the head by full-batch L-BFGS to the mean loss plus `l2` / 2 times its squared weights.

    Args:
        model: only its head changes.
        rows: the training turns.
        steps: most iterations, 1 or more.
        most: turns that are looked at; never more than two thirds of all.
        precision: the `training.autocast` setting.
        seed: of the draw.
    """
    start = time.perf_counter()
    count = max(1, min(most, 2 * rows.rows // 3))
    drawn = np.random.default_rng([seed, 1]).permutation(rows.rows)[:count]
    drawn = drawn[np.argsort(-rows.lengths[drawn], kind="stable")]
    parts = [
        _features(model, rows, drawn[k : k + _PART], precision) for k in range(0, count, _PART)
    ]
    _fit(model, parts, count, steps, l2)
    return WarmHead(time.perf_counter() - start, frozenset(drawn.tolist()), rows, seed)


_Part = tuple[Tensor, Tensor, TrackerLabels]  # hidden [B, L, H], mask [B, L]


@torch.no_grad()
def _features(model: TrackerModel, rows: TurnBatches, numbers: np.ndarray, precision: str) -> _Part:
    mode = model.training
    model.eval()
    try:
        batch = rows.collate(numbers)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        with autocast(precision, rows.device):
            hidden = model.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    finally:
        model.train(mode)
    return hidden.float(), mask, batch["labels"]


def _fit(model: TrackerModel, parts: list[_Part], count: int, steps: int, l2: float) -> None:
    parameters = list(model.head.parameters())
    flags = [p.requires_grad for p in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=steps, history_size=10, line_search_fn="strong_wolfe"
    )

    def objective() -> float:
        optimizer.zero_grad()
        penalty = model.head.choice.weight.square().sum() + model.head.span.weight.square().sum()
        whole = 0.5 * l2 * penalty
        whole.backward()
        total = float(whole.detach())
        for hidden, mask, labels in parts:
            scores = model.head(hidden, mask, labels.spans)
            loss = tracker_loss(scores, labels, model.layout) * (labels.turns / count)
            loss.backward()
            total += float(loss.detach())
        return total

    with torch.enable_grad():
        optimizer.step(objective)
    for parameter, flag in zip(parameters, flags, strict=True):
        parameter.grad = None
        parameter.requires_grad_(flag)
