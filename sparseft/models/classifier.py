"""A pretrained backbone, a pooling of its last layer, and one linear head.

Legend: B batch, L tokens of the longest text, H hidden size, C labels.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from sparseft.errors import ModelError
from sparseft.models.task_model import TaskModel, TaskOutput, hidden_size_of

__all__ = ["Pooling", "TextClassifier", "last_token_pooling", "mean_pooling"]

Pooling = Literal["mean", "last"]

_HEAD_STD = 0.02


def mean_pooling(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean over the real tokens of each text, in fp32; padding may be on either side.

    Args:
        hidden: [B, L, H].
        attention_mask: [B, L], 1 at real tokens.

    Returns:
        [B, H]; zero for a text without any real token.
    """
    mask = attention_mask.to(torch.float32).unsqueeze(-1)  # [B, L, 1]
    return (hidden.float() * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)


def last_token_pooling(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The hidden state of each text's last real token, in fp32; padding may be on either side.

    Args:
        hidden: [B, L, H].
        attention_mask: [B, L], 1 at real tokens.

    Returns:
        [B, H].
    """
    length = attention_mask.shape[1]
    order = torch.arange(1, length + 1, device=attention_mask.device)
    last = (attention_mask.ne(0) * order).argmax(dim=1)  # [B]
    rows = torch.arange(hidden.shape[0], device=hidden.device)
    return hidden[rows, last.to(hidden.device)].float()


class TextClassifier(TaskModel):
    """Texts to label logits: `head(pool(backbone(input_ids)))`.

    The head is always fp32, also over a bfloat16 backbone, and is drawn from `seed` alone (normal,
    standard deviation 0.02, bias 0). Parameter names are `backbone.…` and `head.…`.

    Args:
        backbone: an encoder or a decoder without its language-model head, or PEFT's wrapper of it.
        num_labels: C, at least 2 (1 where `multi_label`).
        pooling: "mean" over the real tokens, or the "last" real token.
        multi_label: labels are multi-hot; the loss is the binary cross-entropy.
        seed: of the head's values.

    Raises:
        ModelError: too few labels, an unknown pooling, or a backbone without a hidden size.
    """

    head: nn.Linear

    def __init__(
        self,
        backbone: nn.Module,
        num_labels: int,
        pooling: Pooling = "mean",
        multi_label: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        least = 1 if multi_label else 2
        if num_labels < least:
            raise ModelError(
                f"expected at least {least} labels, got {num_labels}; check the data's labels."
            )
        if pooling not in ("mean", "last"):
            raise ModelError(
                f"expected pooling 'mean' or 'last', got {pooling!r}; set model.pooling."
            )
        hidden_size = hidden_size_of(backbone)
        self.backbone = backbone
        self.pooling: Pooling = pooling
        self.multi_label = multi_label
        # Values are filled below, so nothing is taken from torch's global generator.
        self.head = torch.nn.utils.skip_init(nn.Linear, hidden_size, num_labels)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.head.weight.normal_(0.0, _HEAD_STD, generator=generator)
            self.head.bias.zero_()

    @property
    def num_labels(self) -> int:
        """C, the number of labels."""
        return int(self.head.out_features)

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """One vector per text.

        Args:
            input_ids: [B, L] token ids.
            attention_mask: [B, L], 1 at real tokens.

        Returns:
            [B, H] in fp32.
        """
        outputs = self.backbone(input_ids=input_ids, attention_mask=attention_mask)
        hidden = outputs.last_hidden_state  # [B, L, H]
        pool = mean_pooling if self.pooling == "mean" else last_token_pooling
        return pool(hidden, attention_mask)

    def classify(self, features: Tensor) -> Tensor:
        """Logits [B, C] of features [B, H], in fp32 also inside autocast."""
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features.float())
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy (labels [B], int64) or binary cross-entropy (labels [B, C])."""
        if self.multi_label:
            return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        return functional.cross_entropy(logits, labels)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None
    ) -> TaskOutput:
        """Logits, and the loss where labels are given (what `transformers.Trainer` expects)."""
        logits = self.classify(self.features(input_ids, attention_mask))
        return TaskOutput(loss=None if labels is None else self.loss(logits, labels), logits=logits)
