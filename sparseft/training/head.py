"""The head before any method starts: logistic regression on the pretrained model's features.

Every method gets the same one, so a difference between methods is not one of head initialisation,
and the body's first gradients are not those of a random head (Kumar et al. 2022, "Fine-Tuning can
Distort Pretrained Features and Underperform Out-of-Distribution").

Legend: N rows, H hidden size, C labels.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseft.models import TextClassifier
from sparseft.training.devices import autocast, synchronize

__all__ = ["HeadWarmup", "warm_up_head"]


@dataclass(frozen=True)
class HeadWarmup:
    """What the warm-up did: its time, features included, and the mean training loss after it."""

    seconds: float
    loss: float | None


def warm_up_head(
    model: TextClassifier,
    batches: Iterable[Mapping[str, Tensor]],
    steps: int = 100,
    l2: float = 1e-3,
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
        l2: the penalty's strength.
        precision: the `training.autocast` setting.
    """
    if steps == 0:
        return HeadWarmup(0.0, None)
    start = time.perf_counter()
    features, labels = _features(model, batches, precision)  # [N, H], [N] or [N, C]
    weight = model.head.weight.detach().to(features.dtype, copy=True).requires_grad_()
    bias = model.head.bias.detach().to(features.dtype, copy=True).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=steps,
        history_size=10,
        line_search_fn="strong_wolfe",
        tolerance_change=1e-10,
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        logits = torch.nn.functional.linear(features, weight, bias)
        loss: Tensor = model.loss(logits, labels) + 0.5 * l2 * weight.square().sum()
        loss.backward()
        return loss

    # The analysis that follows reads gradients; whoever calls this may be under no_grad.
    with torch.enable_grad():
        optimizer.step(objective)
    with torch.no_grad():
        loss = float(model.loss(torch.nn.functional.linear(features, weight, bias), labels))
        model.head.weight.copy_(weight)
        model.head.bias.copy_(bias)
    synchronize(features.device)
    return HeadWarmup(time.perf_counter() - start, loss)


@torch.no_grad()
def _features(
    model: TextClassifier, batches: Iterable[Mapping[str, Tensor]], precision: str
) -> tuple[Tensor, Tensor]:
    mode = model.training
    model.eval()
    features, labels = [], []
    try:
        for batch in batches:
            with autocast(precision, batch["input_ids"].device):
                vectors = model.features(batch["input_ids"], batch["attention_mask"])
            # Apple's GPUs have no float64.
            features.append(vectors if vectors.device.type == "mps" else vectors.double())
            labels.append(batch["labels"])
    finally:
        model.train(mode)
    return torch.cat(features), torch.cat(labels)
