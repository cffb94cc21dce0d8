"""How much shorter texts become, measured apart from everything else that speeds training up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparseft.constructs.texts import fast_backend
from sparseft.errors import DataError

__all__ = ["Saving", "length_saving"]


@dataclass(frozen=True)
class Saving:
    """Tokens of the same texts by two tokenizers, special tokens included.

    Attributes:
        texts: how many.
        before, after: tokens in all.
        padded_before, padded_after: tokens of batches of 32 texts in their order, with padding.
        changed: share of the texts that hold a new token.
    """

    texts: int
    before: int
    after: int
    padded_before: int
    padded_after: int
    changed: float

    @property
    def share(self) -> float:
        """The share of tokens saved, 0 for none."""
        return 1.0 - self.after / self.before if self.before else 0.0


def length_saving(
    original: Any, extended: Any, texts: Sequence[str], max_length: int | None = None
) -> Saving:
    """Count the tokens of `texts` by both tokenizers.

    Args:
        original, extended: fast tokenizers.
        texts: to count; held-out ones show what a user will see.
        max_length: tokens that a longer text is cut to; None keeps all.

    Raises:
        ModelError: a slow tokenizer.
        DataError: no texts.
    """
    if not texts:
        raise DataError("expected texts to count tokens of, got none; give some.")
    lengths = [_lengths(tokenizer, texts, max_length) for tokenizer in (original, extended)]
    padded = [
        sum(int(p.max()) * len(p) for p in np.split(n, range(32, len(n), 32))) for n in lengths
    ]
    before, after = lengths
    return Saving(
        texts=len(texts),
        before=int(before.sum()),
        after=int(after.sum()),
        padded_before=padded[0],
        padded_after=padded[1],
        changed=float((before != after).mean()),
    )


def _lengths(tokenizer: Any, texts: Sequence[str], max_length: int | None) -> Any:
    fast_backend(tokenizer)
    ids = tokenizer(
        list(texts),
        padding=False,
        truncation=max_length is not None,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]
    return np.fromiter(map(len, ids), np.int64, len(ids))
