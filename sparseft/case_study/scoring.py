"""Predictions of the scored test rows, again and again while units come and go.

Legend: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sparseft.data import BatchLoader, Split
from sparseft.data.draws import strata_of, stratified
from sparseft.errors import ConfigError, ModelError
from sparseft.models import TextClassifier
from sparseft.reporting.predictor import Predictor
from sparseft.training.prefix_cache import PrefixCache, replay

__all__ = ["Scored", "Scorer", "class_membership", "drawn"]


def drawn(split: Split, rows: int, random: np.random.Generator) -> Split:
    """At most `rows` of a split with the class shares of all of it, in its order."""
    if rows >= len(split):
        return split
    return split.take(stratified(strata_of(split.labels), rows, random))


def class_membership(labels: NDArray[np.integer], classes: int) -> NDArray[np.bool_]:
    """bool [N, C]: which classes each row belongs to; one, or any number of several."""
    if labels.ndim == 2:
        return np.asarray(labels != 0)
    return np.asarray(labels[:, None] == np.arange(classes)[None, :])


@dataclass(frozen=True, eq=False)
class Scored:
    """The rows' classes, and what the model says of them.

    Attributes:
        gold: bool [N, C].
        probability: float64 [N, C].
        multi_label: a class is predicted from a probability of one half on; else the likeliest is.
    """

    gold: NDArray[np.bool_]
    probability: NDArray[np.float64]
    multi_label: bool

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """bool [N, C]."""
        if self.multi_label:
            return self.probability >= 0.5
        return class_membership(self.probability.argmax(axis=1), self.gold.shape[1])

    @property
    def rows(self) -> NDArray[np.int64]:
        """int64 [C], the rows of each class."""
        return self.gold.sum(axis=0)

    @property
    def accuracy(self) -> float:
        """Share of the rows whose predicted classes are exactly their own."""
        return float((self.predicted == self.gold).all(axis=1).mean())

    def recall(self) -> NDArray[np.float64]:
        """float64 [C]: share of each class's rows that are found; NaN where it has none."""
        return _ratio((self.gold & self.predicted).sum(axis=0), self.rows)

    def recall_of_others(self) -> NDArray[np.float64]:
        """float64 [C]: for each class the share found among all rows of all other classes."""
        found = (self.gold & self.predicted).sum(axis=0)
        return _ratio(found.sum() - found, self.rows.sum() - self.rows)

    def gold_probability(self) -> NDArray[np.float64]:
        """float64 [C]: the mean probability that a class's own rows get for it; NaN without any."""
        return _ratio((self.probability * self.gold).sum(axis=0), self.rows)

    def certainty(self) -> NDArray[np.float64]:
        """float64 [N]: the probability of what is predicted; the least of several."""
        if self.multi_label:
            return np.maximum(self.probability, 1.0 - self.probability).min(axis=1)
        return self.probability.max(axis=1)


def _ratio(part: NDArray[np.generic], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole > 0, np.asarray(part, np.float64) / np.maximum(whole, 1), np.nan)


class Scorer:
    """Scores one split with a model as it is at each call.

    The layers below the lowest selected one are the base's whatever is ablated, so their outputs
    are computed once, where the model and the memory allow it.
    """

    def __init__(self, predictor: Predictor, split: Split, batch_size: int) -> None:
        self.model: TextClassifier = predictor.model
        device = next(self.model.parameters()).device
        loader = BatchLoader(
            split,
            predictor.tokenizer,
            batch_size,
            predictor.max_length,
            shuffle=False,
            device=device,
        )
        self._batches = list(loader)
        self._gold = class_membership(split.labels, len(predictor.label_names))
        self._cache = _cache(self.model, self._batches)

    @torch.no_grad()
    def score(self) -> Scored:
        """Predict all rows in eval mode; the model's mode is put back."""
        probability = np.zeros(self._gold.shape)
        mode = self.model.training
        self.model.eval()
        try:
            for batch in self._batches:
                with replay(self._cache, batch):
                    logits = self.model(batch["input_ids"], batch["attention_mask"]).logits.double()
                found = logits.sigmoid() if self.model.multi_label else logits.softmax(dim=-1)
                probability[batch["indices"].numpy()] = found.cpu().numpy()
        finally:
            self.model.train(mode)
        return Scored(self._gold, probability, self.model.multi_label)


def _cache(model: TextClassifier, batches: list[dict[str, torch.Tensor]]) -> PrefixCache | None:
    try:
        return PrefixCache.build(model, batches, progress="off")
    except (ModelError, ConfigError):
        # No frozen layer, a model that cannot be cut, or too little memory: slower, no less right.
        return None
