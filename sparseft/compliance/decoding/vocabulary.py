"""A tokenizer as llguidance sees it, and the state of one grammar.

llguidance (MIT, https://github.com/guidance-ai/llguidance) computes which tokens may follow and
which must. Its bit mask is unpacked here by NumPy.
"""

from __future__ import annotations

from typing import Any

import llguidance
import llguidance.hf
import numpy as np

from sparseft.errors import ConfigError, ModelError

__all__ = ["GrammarState", "Vocabulary"]


class Vocabulary:
    """The tokens of a fast tokenizer, as bytes; made once for each tokenizer (about a second).

    Args:
        tokenizer: of transformers.
        size: rows of the model's output embedding, which may be more than there are tokens.

    Raises:
        ModelError: llguidance cannot read the tokenizer.
    """

    def __init__(self, tokenizer: Any, size: int) -> None:
        try:
            self.tokens = llguidance.hf.from_tokenizer(tokenizer, n_vocab=size)
        except Exception as error:
            raise ModelError(
                "expected a fast tokenizer that llguidance can read, got "
                f"{type(tokenizer).__name__}: {error}; use a model with a byte-level tokenizer."
            ) from error
        self.size = size
        self.end = int(tokenizer.eos_token_id)

    def start(self, lark: str) -> GrammarState:
        """The beginning of a grammar.

        Raises:
            ConfigError: llguidance refuses it.
        """
        return GrammarState(self, lark)

    def bytes_of(self, tokens: list[int]) -> bytes:
        """What the tokens spell."""
        spelled: bytes = self.tokens.decode_bytes(tokens)
        return spelled


class GrammarState:
    """Where a text stands in its grammar."""

    def __init__(self, vocabulary: Vocabulary, lark: str) -> None:
        self._vocabulary = vocabulary
        grammar = llguidance.LLMatcher.grammar_from_lark(lark)
        self._matcher = llguidance.LLMatcher(vocabulary.tokens, grammar, log_level=0)
        self._check()

    @property
    def ended(self) -> bool:
        """Whether the text is complete and nothing may follow."""
        return bool(self._matcher.is_stopped())

    def forced(self) -> list[int]:
        """The tokens that must follow, in the tokenizer's own way of splitting them."""
        tokens: list[int] = self._matcher.compute_ff_tokens()
        return tokens

    def allowed(self) -> np.ndarray:
        """bool [V], the tokens that may follow."""
        words = (self._vocabulary.size + 31) // 32
        mask = np.zeros(words, dtype="<i4")
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        self._check()
        bits = np.unpackbits(mask.view(np.uint8), bitorder="little")[: self._vocabulary.size]
        return bits.astype(bool)

    def take(self, tokens: list[int]) -> None:
        """Go on by these tokens.

        Raises:
            ConfigError: the grammar does not allow them.
        """
        if tokens and not self._matcher.consume_tokens(tokens):
            self._check()
            raise ConfigError(f"expected tokens of the grammar, got {tokens[:8]}; decode under it.")

    def take_back(self, count: int) -> None:
        """Stand where the text was `count` tokens ago."""
        if not self._matcher.rollback(count):
            self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = " ".join(self._matcher.get_error().split())[:300]
            raise ConfigError(
                f"expected a grammar that llguidance can follow, got: {reason}; simplify the "
                "schema's patterns."
            )
