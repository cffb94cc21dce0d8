"""Predictions of a split and the metrics over them.

Legend: N rows, C labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparseft.models import TextClassifier
from sparseft.training.devices import autocast
from sparseft.training.prefix_cache import PrefixCache, replay

__all__ = ["Evaluation", "evaluate", "metrics_of"]


@dataclass(frozen=True)
class Evaluation:
    """The metrics and per-row predictions of a split, in the split's order.

    Attributes:
        predictions: int64 [N]; where a text may have several labels, uint8 [N, C].
        labels: of the same kind.
        probability: float32 [N] of the predicted label; several labels: [N, C] of each.
    """

    metrics: dict[str, float]
    predictions: np.ndarray
    labels: np.ndarray
    probability: np.ndarray


@torch.no_grad()
def evaluate(
    model: TextClassifier,
    batches: Iterable[Mapping[str, Tensor]],
    out_of_scope: int | None = None,
    precision: str = "off",
    cache: PrefixCache | None = None,
) -> Evaluation:
    """Predict all rows of `batches` in eval mode; the model's mode is put back afterwards.

    Args:
        model: a classifier.
        batches: with input_ids, attention_mask, labels, and `indices` that say each row's place.
        out_of_scope: the label of texts that belong to no class, where the data has one.
        precision: the `training.autocast` setting.
        cache: stored outputs of the model's frozen layers for all of these texts.
    """
    mode = model.training
    model.eval()
    logits, labels, places = [], [], []
    try:
        for batch in batches:
            with autocast(precision, batch["input_ids"].device), replay(cache, batch):
                output = model(batch["input_ids"], batch["attention_mask"])
            logits.append(output.logits.float().cpu())
            labels.append(batch["labels"].cpu())
            places.append(batch["indices"].cpu())
    finally:
        model.train(mode)
    order = torch.argsort(torch.cat(places))
    scores, truth = torch.cat(logits)[order], torch.cat(labels)[order]  # [N, C], [N] or [N, C]
    loss = float(model.loss(scores.double(), truth))
    if model.multi_label:
        probability = scores.sigmoid()
        predictions = (probability >= 0.5).numpy().astype(np.uint8)
        actual = truth.numpy().astype(np.uint8)
    else:
        probability, chosen = scores.softmax(dim=1).max(dim=1)
        predictions, actual = chosen.numpy(), truth.numpy()
    metrics = metrics_of(predictions, actual, scores.shape[1], out_of_scope)
    return Evaluation({**metrics, "loss": loss}, predictions, actual, probability.numpy())


def metrics_of(
    predictions: np.ndarray, labels: np.ndarray, num_labels: int, out_of_scope: int | None = None
) -> dict[str, float]:
    """Accuracy and F1, as scikit-learn defines them; where a ratio is 0/0 it is 0.

    Args:
        predictions: int [N], or 0/1 [N, C] where a text may have several labels; accuracy is then
            the share of rows whose labels are all right.
        labels: of the same kind.
        num_labels: C.
        out_of_scope: the label of texts that belong to no class. Adds `in_scope_accuracy` (over
            the rows of other labels) and `out_of_scope_recall`, each only where it has rows.

    Returns:
        accuracy and macro_f1 (single label: over the labels that occur in labels or predictions);
        with several labels also micro_f1.
    """
    if labels.ndim == 2:
        right = (predictions == labels).all(axis=1)
        true = ((predictions == 1) & (labels == 1)).sum(axis=0)
        predicted, actual = (predictions == 1).sum(axis=0), (labels == 1).sum(axis=0)
        return {
            "accuracy": float(right.mean()),
            "macro_f1": float(_f1(true, predicted, actual).mean()),
            "micro_f1": float(_f1(true.sum(), predicted.sum(), actual.sum())),
        }
    right = predictions == labels
    true = np.bincount(labels[right], minlength=num_labels)
    predicted = np.bincount(predictions, minlength=num_labels)
    actual = np.bincount(labels, minlength=num_labels)
    occurs = (predicted + actual) > 0
    metrics = {
        "accuracy": float(right.mean()),
        "macro_f1": float(_f1(true, predicted, actual)[occurs].mean()),
    }
    if out_of_scope is not None:
        outside = labels == out_of_scope
        if not outside.all():
            metrics["in_scope_accuracy"] = float(right[~outside].mean())
        if outside.any():
            metrics["out_of_scope_recall"] = float(right[outside].mean())
    return metrics


def _f1(true: np.ndarray, predicted: np.ndarray, actual: np.ndarray) -> np.ndarray:
    total = np.asarray(predicted + actual)
    return np.where(total > 0, 2.0 * true / np.maximum(total, 1), 0.0)
