"""Field accuracy without decoding: every token of a gold answer predicted from those before it.

One forward pass instead of some forty, so it can be taken after every epoch. It differs from
decoding in that errors do not carry over to later fields, and in that the grammar has no say.

Legend: B rows, T tokens of the longest row, A learned tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from sparseft.models.language import IGNORED, AnswerModel
from sparseft.training.devices import autocast
from sparseft.training.prefix_cache import PrefixCache, replay

__all__ = ["Fields", "forced_fields"]


class Fields:
    """Which model fields of validation rows are right.

    Attributes:
        right: bool [N, F], whether each field of each row is right.
        loss: the model's mean loss.
        critical: the number of the critical field, if the model has one.
    """

    def __init__(self, right: np.ndarray, loss: float, critical: int | None = None) -> None:
        self.right = right
        self.loss = loss
        self.critical = critical

    @property
    def metrics(self) -> dict[str, float]:
        """field_accuracy, records (all fields right), loss, and the critical field's accuracy."""
        metrics = {
            "field_accuracy": float(self.right.mean()),
            "records": float(self.right.all(axis=1).mean()),
            "loss": self.loss,
        }
        if self.critical is not None:
            metrics["critical_accuracy"] = float(self.right[:, self.critical].mean())
        return metrics


@torch.no_grad()
def forced_fields(
    model: AnswerModel,
    batches: Iterable[Mapping[str, Tensor]],
    fields: int,
    critical: int | None = None,
    precision: str = "off",
    cache: PrefixCache | None = None,
) -> Fields:
    """Predict the rows' answers in eval mode; the model's mode is put back afterwards.

    Args:
        batches: of `sparseft.data.answers.AnswerBatches`.
        fields: F, the parts of an answer; the end token behind them is not scored.
        critical: the number of the critical one.
        precision: the `training.autocast` setting.
        cache: stored outputs of the model's frozen layers for all of these rows.
    """
    mode = model.training
    model.eval()
    found: dict[int, np.ndarray] = {}
    total, tokens = 0.0, 0
    try:
        for batch in batches:
            with autocast(precision, batch["input_ids"].device), replay(cache, batch):
                output = model(batch["input_ids"], batch["attention_mask"], batch["labels"])
            targets = batch["labels"][:, 1:]
            learned = targets != IGNORED  # [B, T - 1]
            wrong = (output.logits.argmax(dim=-1) != targets[learned]).cpu().numpy()  # [A]
            rows = learned.nonzero()[:, 0].cpu().numpy()
            parts = batch["parts"][:, 1:][learned].cpu().numpy()
            right = np.ones((len(targets), fields + 1), dtype=bool)
            right[rows[wrong], parts[wrong]] = False
            for place, row in enumerate(batch["indices"].tolist()):
                found[row] = right[place, :fields]
            total += float(output.loss) * len(wrong)
            tokens += len(wrong)
    finally:
        model.train(mode)
    return Fields(np.stack([found[row] for row in sorted(found)]), total / max(tokens, 1), critical)
