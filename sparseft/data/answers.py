"""Prompts with the answers that a causal language model is to give, as padded batches.

Legend: B rows of a batch, T tokens of its longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sparseft.data.bucketed import BucketedBatches
from sparseft.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["AnswerBatches", "AnswerRow"]

_IGNORED = -100  # of sparseft.models.language
_NO_PART = -1


@dataclass(frozen=True)
class AnswerRow:
    """A prompt, its answer, and which stretches of the answer are learned.

    Attributes:
        parts: (start, end) characters of the answer, one for each part that is scored on its own,
            such as a field's value; a token that reaches into a part is learned. What lies between
            the parts (keys, commas) is forced when decoding, so no capacity is spent on it.
    """

    prompt: str
    answer: str
    parts: tuple[tuple[int, int], ...]


class AnswerBatches(BucketedBatches):
    """Batches of prompt and answer, bucketed by length, in an order that can be resumed.

    Prompt and answer are tokenised apart, as decoding does, and followed by the end token. A batch
    holds `input_ids` and `attention_mask` (int64 [B, T], padded on the right), `labels` (int64
    [B, T], the token's id where it is learned and -100 elsewhere), `parts` (int64 [B, T], the
    number of the answer's part, -1 elsewhere) and `indices` (int64 [B]).

    Args:
        rows: of the split.
        tokenizer: a fast one with padding and end tokens.
        batch_size: rows of a batch.
        max_length: the most tokens of a row.
        seed: of the order; None keeps one order, the longest rows first.
        device: where the batches are put.

    Raises:
        ConfigError: a size is below 1.
        DataError: a row is longer than `max_length`; nothing is ever cut here.
    """

    def __init__(
        self,
        rows: Sequence[AnswerRow],
        tokenizer: PreTrainedTokenizerFast,
        batch_size: int,
        max_length: int,
        seed: int | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        for name, value in (("batch_size", batch_size), ("max_length", max_length)):
            if value < 1:
                raise ConfigError(f"expected {name} of 1 or more, got {value}; change it.")
        self.max_length = max_length
        self._pad: int = int(tokenizer.pad_token_id or 0)
        self._rows = [_encoded(row, tokenizer) for row in rows]
        lengths = np.array([len(ids) for ids, _ in self._rows], dtype=np.int64)
        super().__init__(lengths, batch_size, seed, device)
        if len(self.lengths) and self.lengths.max() > max_length:
            worst = int(self.lengths.argmax())
            raise DataError(
                f"expected rows of at most {max_length} tokens, got {self.lengths[worst]} in row "
                f"{worst}; set a larger model.max_length, or shorten the texts before."
            )

    def collate(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """The batch of the rows at the positions `rows`, int64 [B]."""
        width = int(self.lengths[rows].max())
        input_ids = np.full((len(rows), width), self._pad, dtype=np.int64)
        labels = np.full((len(rows), width), _IGNORED, dtype=np.int64)
        parts = np.full((len(rows), width), _NO_PART, dtype=np.int64)
        for place, row in enumerate(rows):
            ids, of_part = self._rows[row]
            learned = of_part != _NO_PART
            input_ids[place, : len(ids)] = ids
            labels[place, : len(ids)][learned] = ids[learned]
            parts[place, : len(ids)] = of_part
        mask = np.arange(width)[None, :] < self.lengths[rows][:, None]
        return {
            "input_ids": self._put(input_ids),
            "attention_mask": self._put(mask.astype(np.int64)),
            "labels": self._put(labels),
            "parts": self._put(parts),
            "indices": torch.from_numpy(rows.astype(np.int64)),
        }

    def _put(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


def _encoded(row: AnswerRow, tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Token ids, and each token's part; the end token is a part of its own, behind the others."""
    prompt = tokenizer(row.prompt, add_special_tokens=False)["input_ids"]
    encoded = tokenizer(row.answer, add_special_tokens=False, return_offsets_mapping=True)
    answer, offsets = encoded["input_ids"], encoded["offset_mapping"]
    parts = np.full(len(prompt) + len(answer) + 1, _NO_PART, dtype=np.int64)
    for token, (start, end) in enumerate(offsets, start=len(prompt)):
        for number, (first, last) in enumerate(row.parts):
            if start < last and end > first:
                # Of a token that closes one part and opens the next: the one it decides about.
                parts[token] = number
    parts[-1] = len(row.parts)
    ids = [*prompt, *answer, tokenizer.eos_token_id]
    return np.array(ids, dtype=np.int64), parts
