"""Tokenised batches of a split, bucketed by length, in an order that can be resumed exactly.

Legend: B rows of a batch, T tokens of its longest row, L labels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from sparseft.data.order import bucketed, longest_first
from sparseft.data.task import Split
from sparseft.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["Batch", "BatchLoader"]

_log = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]


class BatchLoader:
    """Batches of a split.

    The texts are tokenised once, in one call. Shuffled batches are a pure function of
    (seed, epoch): rows are permuted, sorted by length within 32 batches at a time so that a batch
    holds little padding, and the batches are permuted. Without shuffling all rows go from the
    longest to the shortest, and `indices` says which is which.

    Each batch holds `input_ids` and `attention_mask` (int64 [B, T], padded on the tokenizer's side
    to the longest row; on CUDA to a multiple of 8), `labels` (int64 [B], or float32 [B, L] where a
    text may have several) and `indices` (int64 [B], positions in the split, on the CPU).

    Args:
        split: the texts and labels.
        tokenizer: a fast tokenizer with a padding token.
        batch_size: rows of a batch; the last one may be smaller.
        max_length: tokens that a longer text is cut to.
        seed: of the shuffling; needed with `shuffle`.
        shuffle: permute rows and batches anew each epoch.
        device: where the batches are put.

    Raises:
        ConfigError: a size is below 1, or `shuffle` has no seed.
        ModelError: the tokenizer is a slow one or has no padding token.
    """

    def __init__(
        self,
        split: Split,
        tokenizer: PreTrainedTokenizerFast,
        batch_size: int,
        max_length: int,
        seed: int | None = None,
        *,
        shuffle: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        for name, value in (("batch_size", batch_size), ("max_length", max_length)):
            if value < 1:
                raise ConfigError(f"expected {name} of 1 or more, got {value}; change it.")
        if shuffle and (seed is None or seed < 0):
            raise ConfigError(
                f"expected a seed of 0 or greater to shuffle by, got {seed}; give one."
            )
        if not getattr(tokenizer, "is_fast", False) or tokenizer.pad_token_id is None:
            raise ModelError(
                "expected a fast tokenizer with a padding token, got "
                f"{type(tokenizer).__name__} with pad_token_id={tokenizer.pad_token_id}; "
                "load it through sparseft.models.load."
            )
        self.batch_size = batch_size
        self.max_length = max_length
        self.device = torch.device(device)
        self.epoch = 0
        self._seed = seed
        self._shuffle = shuffle
        self._pad = int(tokenizer.pad_token_id)
        self._left = tokenizer.padding_side == "left"
        self._labels = split.labels if split.labels.ndim == 1 else split.labels.astype(np.float32)
        self._tokenise(split.texts, tokenizer)

    def _tokenise(self, texts: tuple[str, ...], tokenizer: PreTrainedTokenizerFast) -> None:
        encodings = (
            tokenizer(
                list(texts),
                truncation=True,
                max_length=self.max_length,
                padding=False,
                return_token_type_ids=False,
                return_attention_mask=False,
            ).encodings
            if texts
            else []
        )
        assert encodings is not None  # fast tokenizers always have them
        self.truncated = sum(bool(encoding.overflowing) for encoding in encodings)
        tokens = [encoding.ids for encoding in encodings]
        without = sum(not row for row in tokens)
        if without:
            # An all-masked row would make attention and pooling divide by zero.
            _log.warning("%d texts have no tokens; each is read as one padding token", without)
            tokens = [row or [self._pad] for row in tokens]
        self.lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        self._offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        self._tokens = np.fromiter(
            (token for row in tokens for token in row), np.int32, int(self._offsets[-1])
        )

    @property
    def rows(self) -> int:
        """The number of rows of the split."""
        return len(self.lengths)

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return -(-self.rows // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration follows."""
        self.epoch = epoch

    def order(self, epoch: int | None = None) -> list[np.ndarray]:
        """The positions of the rows of each batch of an epoch (default: the chosen one)."""
        if not self._shuffle:
            return longest_first(self.lengths, self.batch_size)
        assert self._seed is not None
        chosen = self.epoch if epoch is None else epoch
        return bucketed(self.lengths, self.batch_size, self._seed, chosen)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The batches of the chosen epoch from number `start` on; skipped ones cost nothing."""
        for rows in self.order()[start:]:
            yield self.collate(rows)

    def collate(self, rows: np.ndarray) -> Batch:
        """The batch of the rows at the positions `rows`, int64 [B]."""
        lengths = self.lengths[rows]
        width = int(lengths.max())
        if self.device.type == "cuda":  # tensor cores want it, but never beyond the model's limit
            width = max(width, min(-(-width // 8) * 8, self.max_length))
        place = np.arange(width)[None, :]  # [1, T]
        if self._left:
            place = place - (width - lengths[:, None])  # [B, T], negative on the padding
        real = (place >= 0) & (place < lengths[:, None])  # [B, T]
        source = np.where(real, self._offsets[rows][:, None] + place, 0)
        input_ids = np.where(real, self._tokens[source], self._pad).astype(np.int64)
        return {
            "input_ids": self._put(input_ids),
            "attention_mask": self._put(real.astype(np.int64)),
            "labels": self._put(self._labels[rows]),
            "indices": torch.from_numpy(rows.astype(np.int64)),
        }

    def _put(self, values: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)
