"""A pretrained encoder that is trained so that the cosine of two texts says how alike they are.

Every text of a batch is read once and compared with every other one, so B texts are B(B-1)/2 pairs.

| loss | of cosines c and wanted similarities t of the batch's pairs | source |
|---|---|---|
| cosent | log(1 + sum of exp(scale (c_k - c_l)) over k, l with t_k < t_l) | Huang et al. 2024 |
| contrastive | cross-entropy of each text's softmax of scale c against t / sum t | Khosla 2020 |
| regression | mean of (c - t)^2 | Reimers and Gurevych, EMNLP 2019 |

CoSENT: IEEE/ACM TASLP 32; the supervised contrastive loss (Khosla et al.): NeurIPS 2020, here with
graded weights.

Legend: B texts, L tokens of the longest, H hidden size, P pairs.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from sparseft.errors import ConfigError
from sparseft.models.classifier import mean_pooling
from sparseft.models.task_model import TaskModel, TaskOutput

__all__ = ["SimilarityLoss", "SimilarityModel", "similarity_loss"]

SimilarityLoss = Literal["cosent", "contrastive", "regression"]


class SimilarityModel(TaskModel):
    """An encoder, mean pooling, and a head without weights.

    Args:
        backbone: an encoder.
        loss: see the table of this file.
        scale: what cosines are multiplied by in cosent and contrastive.

    Raises:
        ConfigError: an unknown loss, or a scale that is not above 0.
    """

    head: nn.Identity

    def __init__(self, backbone: nn.Module, loss: str = "cosent", scale: float = 20.0) -> None:
        super().__init__()
        if loss not in get_args(SimilarityLoss):
            raise ConfigError(
                f"expected a loss of {', '.join(get_args(SimilarityLoss))}, got {loss!r}; "
                "change it."
            )
        if not scale > 0:
            raise ConfigError(f"expected a scale above 0, got {scale}; change it.")
        self.backbone = backbone
        self.head = nn.Identity()
        self.loss = loss
        self.scale = scale

    def vectors(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """One vector of length 1 a text, float32 [B, H]."""
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return functional.normalize(mean_pooling(hidden, attention_mask), dim=1)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None
    ) -> TaskOutput:
        """Cosines, and the loss where it is known how alike the texts should be.

        Args:
            input_ids: [B, L].
            attention_mask: [B, L], 1 at real tokens.
            labels: wanted similarities from 0 to 1, symmetric, float [B, B]; nan says nothing, and
                the diagonal is not read.
        """
        vectors = self.vectors(input_ids, attention_mask)
        cosines = vectors @ vectors.T
        loss = None if labels is None else similarity_loss(cosines, labels, self.loss, self.scale)
        return TaskOutput(loss=loss, logits=cosines)


def similarity_loss(cosines: Tensor, wanted: Tensor, loss: str, scale: float) -> Tensor:
    """How far the cosines [B, B] are from what is wanted [B, B], see the file; a scalar.

    0 where the pairs say nothing: none has a wanted similarity, or all have the same one (cosent)
    or 0 (contrastive).
    """
    wanted = wanted.to(cosines.dtype)
    above = torch.ones_like(wanted, dtype=torch.bool).triu(1) & ~wanted.isnan()
    if loss == "contrastive":
        return _contrastive(cosines, wanted, scale)
    c, t = cosines[above], wanted[above]  # [P]
    if loss == "regression":
        return (c - t).square().sum() / max(1, len(t))
    worse = t[:, None] < t[None, :]  # [P, P]
    gaps = (scale * (c[:, None] - c[None, :])).masked_fill(~worse, -torch.inf)
    return torch.cat([gaps.new_zeros(1), gaps.flatten()]).logsumexp(0)


def _contrastive(cosines: Tensor, wanted: Tensor, scale: float) -> Tensor:
    known = ~wanted.isnan() & ~torch.eye(len(wanted), dtype=torch.bool, device=wanted.device)
    shares = wanted.masked_fill(~known, 0.0)
    totals = shares.sum(1, keepdim=True)
    # A finite floor: rows without any known pair must not become nan in backward.
    logits = (scale * cosines).masked_fill(~known, -1e4)
    rows = -(shares / totals.clamp(min=1e-12) * logits.log_softmax(1)).sum(1)
    likes = totals[:, 0] > 0
    return (rows * likes).sum() / likes.sum().clamp(min=1)
