"""Texts to vectors: what routers compare contexts by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from transformers import AutoModel

from sparseft import sparse
from sparseft.config import ModelConfig
from sparseft.data.order import longest_first
from sparseft.models.classifier import mean_pooling
from sparseft.models.load import load_pretrained
from sparseft.models.similarity import SimilarityModel

__all__ = ["Embedder", "SentenceEncoder", "load_encoder"]


class Embedder(Protocol):
    """Gives texts vectors whose cosine says how alike they are."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One vector a text, float32 [N, d]; the same text has the same vector."""
        ...


class SentenceEncoder:
    """Mean-pooled states of a pretrained encoder; texts already seen are looked up.

    Args:
        backbone: a transformers encoder.
        tokenizer: its own; longer texts lose their *beginning*, for the last words are the user's.
        max_length: tokens of a text at most.
        batch_size: texts of a forward pass.
        remember: texts whose vectors are kept at most; the oldest are forgotten first.
    """

    def __init__(
        self,
        backbone: nn.Module,
        tokenizer: Any,
        max_length: int = 128,
        batch_size: int = 64,
        remember: int = 200_000,
    ) -> None:
        self.backbone = backbone.eval()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.batch_size = batch_size
        self._remember = remember
        self._known: dict[str, np.ndarray] = {}

    def forget(self) -> None:
        """Drop what was looked up, as after training."""
        self._known.clear()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See `Embedder`; rows have length 1."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        if missing:
            vectors = self._forward(missing)
            self._known.update(zip(missing, vectors, strict=True))
        if not texts:
            width = int(getattr(self.backbone.config, "hidden_size", 0))
            return np.zeros((0, width), dtype=np.float32)
        found = np.stack([self._known[text] for text in texts])
        while len(self._known) > self._remember:
            del self._known[next(iter(self._known))]
        return found

    def encode(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Padded token ids and mask of texts, on the backbone's device."""
        side = self.tokenizer.truncation_side
        self.tokenizer.truncation_side = "left"
        try:
            batch = self.tokenizer(
                list(texts),
                max_length=self.max_length,
                truncation=True,
                padding=True,
                return_tensors="pt",
            )
        finally:
            self.tokenizer.truncation_side = side
        device = next(self.backbone.parameters()).device
        return {name: batch[name].to(device) for name in ("input_ids", "attention_mask")}

    @torch.no_grad()
    def _forward(self, texts: list[str]) -> np.ndarray:
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        found: list[np.ndarray | None] = [None] * len(texts)
        for rows in longest_first(lengths, self.batch_size):
            batch = self.encode([texts[row] for row in rows])
            hidden = self.backbone(**batch).last_hidden_state  # [B, L, d]
            pooled = nn.functional.normalize(mean_pooling(hidden, batch["attention_mask"]), dim=1)
            for row, vector in zip(rows.tolist(), pooled.cpu().numpy(), strict=True):
                found[row] = vector
        return np.stack([vector for vector in found if vector is not None])


def load_encoder(
    config: ModelConfig, batch_size: int = 64, delta: str | Path | None = None
) -> SentenceEncoder:
    """The pretrained encoder that `config` names, or a finetuned one.

    Args:
        delta: a folder that the finetuning of a retriever wrote, of this very encoder
            (`sparseft.training.retriever`). Its values replace the encoder's, so embedding costs
            what it costs without.

    Raises:
        ModelError, ConfigError: as `sparseft.models.load`.
        DeltaError: the delta is missing, damaged, or of another encoder.
    """
    backbone, tokenizer = load_pretrained(config, AutoModel)
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None
    if delta is not None:
        model = sparse.load_delta(SimilarityModel(backbone), delta)
        backbone = sparse.merge(model).backbone
    return SentenceEncoder(backbone, tokenizer, config.max_length, batch_size)
