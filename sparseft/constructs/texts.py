"""A corpus as the model's own tokens, without special ones, and the fingerprint of a tokenizer.

Legend: N texts, T tokens of all texts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseft.errors import DataError, ModelError

__all__ = ["TokenisedTexts", "fast_backend", "fingerprint", "tokenise"]


@dataclass(frozen=True, eq=False)
class TokenisedTexts:
    """Texts with their tokens, one text after the other.

    Attributes:
        texts: the N texts.
        ids: int64 [T], token ids without those that frame a text.
        starts: int64 [N + 1]; text i has the tokens `ids[starts[i]:starts[i + 1]]`.
        spans: int64 [T, 2], the characters of each token in its text.
        blocked: ids that no construct holds: special and unknown tokens.
    """

    texts: tuple[str, ...]
    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    spans: NDArray[np.int64]
    blocked: frozenset[int]

    @property
    def text_of_token(self) -> NDArray[np.int64]:
        """int64 [T], the text that each token belongs to."""
        return np.repeat(np.arange(len(self.texts)), np.diff(self.starts))


def fast_backend(tokenizer: Any) -> Any:
    """The Rust tokenizer inside a fast tokenizer of transformers.

    Raises:
        ModelError: the tokenizer has none.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not getattr(tokenizer, "is_fast", False) or backend is None:
        raise ModelError(
            f"expected a fast tokenizer, got {type(tokenizer).__name__}; save one with a "
            "tokenizer.json beside the model (AutoTokenizer converts most slow ones)."
        )
    return backend


def fingerprint(tokenizer: Any) -> str:
    """SHA-256 of all that decides which ids a text gets; padding and truncation are left out.

    Raises:
        ModelError: the tokenizer is a slow one.
    """
    content = json.loads(fast_backend(tokenizer).to_str())
    for name in ("padding", "truncation"):
        content.pop(name, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def tokenise(tokenizer: Any, texts: Sequence[str], max_length: int | None = None) -> TokenisedTexts:
    """The tokens of `texts` without the ones that frame a text; an empty text has none.

    Args:
        tokenizer: a fast tokenizer of transformers.
        texts: any number of texts.
        max_length: tokens that a longer text is cut to; None keeps all.

    Raises:
        ModelError: the tokenizer is a slow one.
        DataError: a text is no string, or the length is below 1.
    """
    fast_backend(tokenizer)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"expected texts, got {type(text).__name__} at position {position}; "
                "drop or convert that row."
            )
    if max_length is not None and max_length < 1:
        raise DataError(f"expected max_length of 1 or more, got {max_length}; change it.")
    encodings = (
        tokenizer(
            list(texts),
            add_special_tokens=False,
            padding=False,
            truncation=max_length is not None,
            max_length=max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        ).encodings
        if texts
        else []
    )
    sizes = np.fromiter((len(e.ids) for e in encodings), np.int64, len(encodings))
    total = int(sizes.sum())
    ids = np.fromiter((i for e in encodings for i in e.ids), np.int64, total)
    spans = np.array([span for e in encodings for span in e.offsets], np.int64)
    blocked = set(tokenizer.all_special_ids)
    blocked.update(
        number
        for number, token in tokenizer.added_tokens_decoder.items()
        if getattr(token, "special", False)
    )
    return TokenisedTexts(
        texts=tuple(texts),
        ids=ids,
        starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]),
        spans=spans.reshape(total, 2),
        blocked=frozenset(int(number) for number in blocked),
    )
