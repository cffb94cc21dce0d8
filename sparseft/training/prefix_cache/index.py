"""Which stored states belong to a text, found by its token ids.

Legend: B rows of a batch, T its width.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sparseft.errors import DataError

__all__ = ["Rows", "TextIndex", "read_rows"]


@dataclass(frozen=True)
class Rows:
    """The texts of a batch without their padding.

    Attributes:
        names: one digest of its token ids per text.
        lengths: int64 [B], real tokens.
        first: int64 [B], the position of each text's first real token.
        width: T.
    """

    names: list[bytes]
    lengths: np.ndarray
    first: np.ndarray
    width: int

    def of(self, chosen: np.ndarray) -> Rows:
        """Some of the texts, bool [B]."""
        names = [name for name, kept in zip(self.names, chosen.tolist(), strict=True) if kept]
        return Rows(names, self.lengths[chosen], self.first[chosen], self.width)

    @property
    def padded_left(self) -> np.ndarray:
        """bool [B]: padding stands before the text."""
        return self.first > 0

    @property
    def padded_right(self) -> np.ndarray:
        """bool [B]: padding stands behind the text."""
        return np.asarray(self.first + self.lengths < self.width)


def read_rows(input_ids: Tensor, attention_mask: Tensor) -> Rows:
    """The texts of a batch, padded on either side.

    Args:
        input_ids: [B, T].
        attention_mask: [B, T], 1 at real tokens.

    Raises:
        DataError: a text without real tokens, or with a gap between them.
    """
    ids = input_ids.cpu().numpy().astype(np.int32)
    real = attention_mask.cpu().numpy() != 0  # [B, T]
    lengths, first = real.sum(axis=1), real.argmax(axis=1)
    last = first + lengths
    place = np.arange(ids.shape[1])
    together = (place >= first[:, None]) & (place < last[:, None])
    if not lengths.all() or not np.array_equal(together, real):
        raise DataError(
            "expected texts whose real tokens stand together, got an attention mask with an empty "
            "or a broken row; pad each text on one side only."
        )
    names = [
        hashlib.blake2b(row[start:stop].tobytes(), digest_size=16).digest()
        for row, start, stop in zip(ids, first, last, strict=True)
    ]
    return Rows(names, lengths, first, int(ids.shape[1]))


class TextIndex:
    """Where each text's states begin in one flat array of them.

    Args:
        per_token: a state for every token; else one for every text.
    """

    def __init__(self, per_token: bool) -> None:
        self._per_token = per_token
        self._starts: dict[bytes, int] = {}
        self.tokens = 0
        self.states = 0

    @property
    def texts(self) -> int:
        """The number of different texts."""
        return len(self._starts)

    def add(self, rows: Rows) -> np.ndarray:
        """Give the rows not seen before their places, in order; bool [B] says which those are."""
        new = np.zeros(len(rows.names), dtype=bool)
        for row, (name, length) in enumerate(zip(rows.names, rows.lengths.tolist(), strict=True)):
            if name in self._starts:
                continue
            self._starts[name] = self.states
            self.states += length if self._per_token else 1
            self.tokens += length
            new[row] = True
        return new

    def places(self, rows: Rows) -> np.ndarray:
        """The flat positions of a batch's states: int64 [B, T], or [B] with one for every text.

        Padding gets the place of its text's nearest token: any finite state will do.

        Raises:
            DataError: a text was never added.
        """
        starts = [self._starts.get(name, -1) for name in rows.names]
        unknown = starts.count(-1)
        if unknown:
            raise DataError(
                f"expected texts that the prefix cache holds, got {unknown} of {len(starts)} "
                "others; build it from all batches that it is used with, equally tokenised."
            )
        start = np.array(starts, dtype=np.int64)
        if not self._per_token:
            return start
        place = np.arange(rows.width)[None, :] - rows.first[:, None]  # [B, T]
        return start[:, None] + place.clip(0, rows.lengths[:, None] - 1)
