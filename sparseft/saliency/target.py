"""Which label a saliency asks about, and the loss of one row for it.

Legend: B rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from sparseft.errors import ConfigError, ModelError, SelectionError

__all__ = [
    "Target",
    "gold_probability",
    "is_multi_label",
    "logits_of",
    "row_losses",
    "target_labels",
]

Target = Literal["label", "predicted"] | int | Tensor


def logits_of(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """The model's logits on a batch, float32 [B, C]; labels are not shown to it.

    Raises:
        ModelError: the model returns no logits of that shape.
    """
    output: Any = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    logits = getattr(output, "logits", None)
    if logits is None or logits.ndim != 2:
        got = "none" if logits is None else f"shape {list(logits.shape)}"
        raise ModelError(
            f"expected logits [texts, classes] from {type(model).__name__}, got {got}; "
            "give a model with a classification head."
        )
    return logits.float()


def is_multi_label(model: nn.Module, batch: Mapping[str, Tensor]) -> bool:
    """Whether a text may have several labels: what the model says, else multi-hot labels."""
    said = getattr(model, "multi_label", None)
    if isinstance(said, bool):
        return said
    return "labels" in batch and batch["labels"].ndim == 2


def target_labels(model: nn.Module, batch: Mapping[str, Tensor], target: Target) -> Tensor:
    """The labels that a target stands for: class numbers [B], or multi-hot [B, C].

    Args:
        model: asked only where the target is "predicted"; call it in the `frozen` context.
        batch: input_ids, attention_mask [B, S]; labels where the target is "label".
        target: "label" for the row's own gold label; "predicted" for the model's answer (of a
            multi-label model: every class with a probability above a half); a class number for
            all rows; or labels of one's own, [B] or [B, C].

    Raises:
        SelectionError: no labels in the batch.
        ConfigError: an unknown target, or one that does not fit the batch.
    """
    rows = int(batch["input_ids"].shape[0])
    device = batch["input_ids"].device
    if isinstance(target, Tensor):
        if target.ndim not in (1, 2) or target.shape[0] != rows:
            raise ConfigError(
                f"expected a target [{rows}] or [{rows}, classes], got {list(target.shape)}; "
                "give one label for each text."
            )
        return target.to(device)
    if target == "label":
        if "labels" not in batch:
            raise SelectionError(
                f"expected a batch with labels, got {sorted(batch)}; add them, or set "
                "target='predicted'."
            )
        return batch["labels"]
    if target == "predicted":
        with torch.no_grad():
            logits = logits_of(model, batch)
        return (logits > 0).float() if is_multi_label(model, batch) else logits.argmax(1)
    if isinstance(target, bool) or not isinstance(target, int) or target < 0:
        raise ConfigError(
            f"expected a target of label, predicted or a class number, got {target!r}; correct it."
        )
    return torch.full((rows,), target, device=device)


def row_losses(logits: Tensor, labels: Tensor, multi_label: bool) -> Tensor:
    """How wrong the labels seem to the model, for each row alone: float32 [B].

    Cross-entropy of class numbers [B]; the mean binary cross-entropy over the classes of multi-hot
    labels [B, C]; and -log p of the one class where a multi-label model is asked about a number.

    Raises:
        ConfigError: a label that the model has no class for.
    """
    _check(logits, labels)
    if labels.ndim == 2:
        wanted = labels.to(logits.dtype)
        losses = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return losses.mean(1)
    if multi_label:
        return -functional.logsigmoid(logits.gather(1, labels.long()[:, None])[:, 0])
    return functional.cross_entropy(logits, labels.long(), reduction="none")


def gold_probability(logits: Tensor, labels: Tensor, multi_label: bool) -> Tensor:
    """The probability of a row's labels, float32 [B].

    Of class numbers the class's own probability. Of multi-hot labels the mean over the row's
    classes; a row without any counts the mean probability that each class is absent.

    Raises:
        ConfigError: a label that the model has no class for.
    """
    _check(logits, labels)
    if labels.ndim == 1:
        share = logits.sigmoid() if multi_label else logits.softmax(1)
        return share.gather(1, labels.long()[:, None])[:, 0]
    share, wanted = logits.sigmoid(), labels.to(logits.dtype)
    count = wanted.sum(1)
    present = (share * wanted).sum(1) / count.clamp_min(1.0)
    return torch.where(count > 0, present, (1.0 - share).mean(1))


def _check(logits: Tensor, labels: Tensor) -> None:
    classes = int(logits.shape[1])
    if labels.ndim == 2:
        if labels.shape[1] != classes:
            raise ConfigError(
                f"expected labels [texts, {classes}], got {list(labels.shape)}; "
                "give one column for each of the model's classes."
            )
        return
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ConfigError(
            f"expected class numbers of 0 to {classes - 1}, got {int(labels.min())} to "
            f"{int(labels.max())}; correct the target."
        )
