"""The head before any method starts: logistic regression on the pretrained model's features.

Every method gets the same one, so a difference between methods is not one of head initialisation,
and the body's first gradients are not those of a random head (Kumar et al. 2022, "Fine-Tuning can
Distort Pretrained Features and Underperform Out-of-Distribution").

With few rows and many dimensions a weakly penalised head fits every row by itself, and leaves the
body next to no gradient. `l2="auto"` takes the strongest penalty of a grid at which the head still
predicts 90% of its rows, so that what it cannot do in a simple way is left to the body (the
discrepancy principle of Morozov 1966); where no penalty gets there, the weakest.

Legend: N rows, H hidden size, C labels.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import linear

from sparseft.models import TextClassifier
from sparseft.training.devices import autocast, synchronize

__all__ = ["HeadFeatures", "HeadWarmup", "fit_head", "read_features", "warm_up_head"]

_GRID = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
_FITS = 0.9  # of the rows


@dataclass(frozen=True, eq=False)
class HeadFeatures:
    """What a head is fitted to: vectors [N, H] (float64), labels [N] or [N, C], and the positions
    of the rows in their split, indices [N]."""

    vectors: Tensor
    labels: Tensor
    indices: Tensor


@dataclass(frozen=True, eq=False)
class HeadWarmup:
    """What the warm-up did: its time, features included; the mean training loss after it; the
    penalty; and the features. No loss and no features where the head was left as it is."""

    seconds: float
    loss: float | None = None
    l2: float | None = None
    features: HeadFeatures | None = None


def warm_up_head(
    model: TextClassifier,
    batches: Iterable[Mapping[str, Tensor]],
    steps: int = 100,
    l2: float | Literal["auto"] = 1e-3,
    precision: str = "off",
) -> HeadWarmup:
    """Fit the head to the frozen features by full-batch L-BFGS, in float64.

    The features are computed once, without dropout. The minimised loss is the mean over rows plus
    `l2` / 2 times the squared norm of the head's weights. The optimum is unique, so the result
    depends on the order of the rows only by rounding.

    Args:
        model: a classifier; only its head changes, and `requires_grad` flags stay as they are.
        batches: of the training split, each row once.
        steps: most L-BFGS iterations; 0 leaves the head as it is.
        l2: the penalty's strength, or "auto".
        precision: the `training.autocast` setting.
    """
    if steps == 0:
        return HeadWarmup(0.0)
    start = time.perf_counter()
    features = read_features(model, batches, precision)
    strength = 0.0
    for strength in _GRID if l2 == "auto" else (float(l2),):
        loss = fit_head(model, features, steps=steps, l2=strength)
        if l2 != "auto" or _share_right(model, features) >= _FITS:
            break
    synchronize(features.vectors.device)
    return HeadWarmup(time.perf_counter() - start, loss, strength, features)


def fit_head(
    model: TextClassifier,
    features: HeadFeatures,
    rows: Tensor | None = None,
    *,
    steps: int,
    l2: float,
) -> float:
    """Fit the head to all features or to some rows [n] of them, from where it stands.

    Returns:
        The mean loss over these rows, without the penalty.
    """
    vectors, labels = features.vectors, features.labels
    if rows is not None:
        vectors, labels = vectors[rows], labels[rows]
    weight = model.head.weight.detach().to(vectors.dtype, copy=True).requires_grad_()
    bias = model.head.bias.detach().to(vectors.dtype, copy=True).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=steps,
        history_size=10,
        line_search_fn="strong_wolfe",
        tolerance_change=1e-10,
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        logits = linear(vectors, weight, bias)
        loss: Tensor = model.loss(logits, labels) + 0.5 * l2 * weight.square().sum()
        loss.backward()
        return loss

    # The analysis that follows reads gradients; whoever calls this may be under no_grad.
    with torch.enable_grad():
        optimizer.step(objective)
    with torch.no_grad():
        loss = float(model.loss(linear(vectors, weight, bias), labels))
        model.head.weight.copy_(weight)
        model.head.bias.copy_(bias)
    return loss


@torch.no_grad()
def _share_right(model: TextClassifier, features: HeadFeatures) -> float:
    logits = linear(
        features.vectors,
        model.head.weight.to(features.vectors.dtype),
        model.head.bias.to(features.vectors.dtype),
    )
    if model.multi_label:
        right = ((logits > 0) == (features.labels > 0.5)).all(dim=1)
    else:
        right = logits.argmax(dim=1) == features.labels
    return float(right.double().mean())


@torch.no_grad()
def read_features(
    model: TextClassifier, batches: Iterable[Mapping[str, Tensor]], precision: str
) -> HeadFeatures:
    """The pooled features of all rows, without dropout."""
    mode = model.training
    model.eval()
    features: list[Tensor] = []
    labels: list[Tensor] = []
    indices: list[Tensor] = []
    try:
        for batch in batches:
            with autocast(precision, batch["input_ids"].device):
                vectors = model.features(batch["input_ids"], batch["attention_mask"])
            # Apple's GPUs have no float64.
            features.append(vectors if vectors.device.type == "mps" else vectors.double())
            labels.append(batch["labels"])
            first = sum(int(part.shape[0]) for part in indices)
            own = torch.arange(first, first + int(vectors.shape[0]))
            indices.append(batch.get("indices", own).cpu())
    finally:
        model.train(mode)
    return HeadFeatures(torch.cat(features), torch.cat(labels), torch.cat(indices))
