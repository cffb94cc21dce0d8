"""Calls of a decoder with a key-value cache, rows of a batch going on by unequal numbers of tokens.

Legend: B rows, K most new tokens of a row, T columns of the cache, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import DynamicCache

__all__ = ["LanguageModel", "Stepper"]


class LanguageModel(Protocol):
    """What decoding needs: `sparseft.models.AnswerModel` is one."""

    backbone: nn.Module

    def logits(self, hidden: Tensor) -> Tensor:
        """Last hidden states [..., H] to [..., V]."""
        ...


class Stepper:
    """The state of a batch: what every row has been given so far.

    New tokens are put at the right end of a block of columns; columns that a row has no token for
    are masked for it for ever, and its positions count its own tokens alone.
    """

    def __init__(self, model: LanguageModel, rows: int, pad: int) -> None:
        self._model = model
        self._pad = pad
        self._cache = DynamicCache()
        device = next(model.backbone.parameters()).device
        self._mask = torch.zeros(rows, 0, dtype=torch.int64, device=device)  # [B, T]
        self._counts = torch.zeros(rows, dtype=torch.int64, device=device)  # [B]
        self.calls = 0

    @torch.inference_mode()
    def give(
        self, tokens: Sequence[Sequence[int]], behind: Sequence[Sequence[int]] | None = None
    ) -> Tensor:
        """Feed each row its new tokens; the logits behind some of them.

        Args:
            tokens: of each row; a row without any is left where it is.
            behind: of each row, which of its new tokens logits are wanted behind; None: the last
                of each, where the logits of a row without new tokens mean nothing.

        Returns:
            fp32 on the CPU, [wanted, V] in row order; [B, V] for None.
        """
        width = max(map(len, tokens))
        device = self._mask.device
        ids = torch.full((len(tokens), width), self._pad, dtype=torch.int64)
        real = torch.zeros(len(tokens), width, dtype=torch.int64)
        for row, new in enumerate(tokens):
            if new:
                ids[row, width - len(new) :] = torch.tensor(list(new))
                real[row, width - len(new) :] = 1
        ids, real = ids.to(device), real.to(device)
        positions = (self._counts[:, None] + real.cumsum(dim=1) - 1).clamp(min=0)
        self._mask = torch.cat([self._mask, real], dim=1)
        self._counts = self._counts + real.sum(dim=1)
        whole = bool(self._mask.all())
        backbone: Any = self._model.backbone
        outputs = backbone(
            input_ids=ids,
            # Without a padded column the causal mask alone says it, which is cheaper.
            attention_mask=None if whole else self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        self.calls += 1
        hidden = outputs.last_hidden_state  # [B, K, H]
        if behind is None:
            return self._model.logits(hidden[:, -1]).float().cpu()
        rows = [row for row, places in enumerate(behind) for _ in places]
        columns = [
            width - len(new) + place
            for new, places in zip(tokens, behind, strict=True)
            for place in places
        ]
        return self._model.logits(hidden[rows, columns]).float().cpu()

    @torch.inference_mode()
    def take_back(self, counts: Sequence[int]) -> None:
        """Forget the last tokens of each row, at most those of the last `give`."""
        if not any(counts):
            return
        if len(counts) == 1:
            self._mask = self._mask[:, : -counts[0]]
            self._cache.crop(-counts[0])
        else:
            # Other rows keep these columns, so here they are masked.
            end = self._mask.shape[1]
            for row, count in enumerate(counts):
                self._mask[row, end - count :] = 0
        self._counts = self._counts - torch.tensor(list(counts), device=self._counts.device)
