"""Turn accuracy on validation dialogues, each turn after its gold state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from sparseft.models import TrackerModel
from sparseft.models.tracker import tracker_loss
from sparseft.routing.metrics import turn_exact
from sparseft.routing.states import State, applied, difference
from sparseft.routing.tracker.expert import read_batch
from sparseft.routing.tracker.rows import TurnBatches
from sparseft.routing.turns import Context, Turn
from sparseft.training.devices import autocast
from sparseft.training.prefix_cache import PrefixCache, replay

__all__ = ["Turns", "validate_turns"]


class Turns:
    """Which turns are right, values normalised, and the mean loss."""

    def __init__(self, right: np.ndarray, loss: float) -> None:
        self.right = right
        self.loss = loss

    @property
    def metrics(self) -> Mapping[str, float]:
        """turn_accuracy and loss."""
        return {"turn_accuracy": float(self.right.mean()), "loss": self.loss}


@torch.no_grad()
def validate_turns(
    model: TrackerModel,
    rows: TurnBatches,
    contexts: Sequence[Context],
    turns: Sequence[Turn],
    separator: str | None,
    precision: str = "off",
    cache: PrefixCache | None = None,
) -> Turns:
    """Read the turns in eval mode; the model's mode is put back afterwards.

    Args:
        rows: of `contexts`.
        turns: with their gold.
        precision: the `training.autocast` setting.
        cache: stored outputs of the model's frozen layers for all of these rows.
    """
    mode = model.training
    model.eval()
    found: dict[tuple[str, int], State] = {}
    loss = 0.0
    try:
        for batch in rows:
            labels = batch["labels"]
            with autocast(precision, rows.device), replay(cache, batch):
                scores = model.scores(batch["input_ids"], batch["attention_mask"], labels.spans)
            loss += float(tracker_loss(scores, labels, model.layout)) * labels.turns / rows.rows
            numbers = batch["indices"].tolist()
            answers = read_batch(scores, [rows.encoded[k] for k in numbers], rows.encoder)
            for number, (delta, _) in zip(numbers, answers, strict=True):
                context = contexts[number]
                after = applied(context.previous, delta)
                found[context.id] = difference(context.previous, after)
    finally:
        model.train(mode)
    return Turns(turn_exact(turns, found, normalise=True, separator=separator).right, loss)
