"""Batches that a head has not been fitted to, for an analysis that looks at what generalises.

A head that was fitted to a row says little of what the body gets wrong there: its residual is the
overfitting's, not the task's. So the rows are split into folds, each fold's batches are shown under
a head that was fitted to the other folds (cross-fitting: Chernozhukov et al. 2018), and the head
is put back afterwards.

Legend: N rows, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from sparseft.models import TextClassifier
from sparseft.training.head import HeadFeatures, fit_head

__all__ = ["folds_of", "held_out_batches"]


def folds_of(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold number for each row, int64 [N]: as even as can be within each class and over all.

    Args:
        labels: class numbers [N]; of multi-hot labels any one number for each distinct row.
        folds: how many, at least 2.
        seed: of the draw.
    """
    random = np.random.default_rng([seed, folds])
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.int64)
    # One count through all classes: classes of one row do not all land in the same fold.
    fold[order] = np.arange(len(labels)) % folds
    return fold


def held_out_batches(
    model: TextClassifier,
    features: HeadFeatures,
    collate: Callable[[np.ndarray], dict[str, Tensor]],
    *,
    batch_size: int,
    count: int,
    folds: int,
    steps: int,
    l2: float,
    seed: int,
) -> Iterator[dict[str, Tensor]]:
    """Batches of training rows, each under a head that has not seen them.

    While the iterator is not exhausted or closed, the model's head is a fold's own.

    Args:
        model: its head is replaced in place, and put back at the end.
        features: of all training rows, as `warm_up_head` read them.
        collate: makes the batch of the rows at some positions of the split.
        batch_size: rows of a batch.
        count: most batches in all; the rows are drawn by the seed.
        folds: at least 2; at most as many as there are rows.
        steps, l2: of the heads, as in `warm_up_head`.
        seed: of the draws.
    """
    labels = features.labels.cpu().numpy()
    if labels.ndim == 2:
        labels = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    fold = folds_of(labels, folds, seed)
    random = np.random.default_rng([seed, folds, 1])
    wanted = np.zeros(len(labels), bool)
    wanted[random.permutation(len(labels))[: count * batch_size]] = True
    positions = features.indices.numpy()
    kept = [model.head.weight.detach().clone(), model.head.bias.detach().clone()]

    def put_back() -> None:
        with torch.no_grad():
            model.head.weight.copy_(kept[0])
            model.head.bias.copy_(kept[1])

    try:
        for number in range(folds):
            inside = np.flatnonzero((fold == number) & wanted)
            outside = torch.from_numpy(np.flatnonzero(fold != number))
            if not len(inside) or not len(outside):
                continue
            put_back()
            fit_head(model, features, outside.to(features.vectors.device), steps=steps, l2=l2)
            # `inside` goes from the longest text to the shortest, as the features were read.
            for start in range(0, len(inside), batch_size):
                yield collate(positions[inside[start : start + batch_size]])
    finally:
        put_back()
