"""Greedy decoding under a grammar, with the tokens that the grammar forces fed in together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sparseft.compliance.decoding.steps import LanguageModel, Stepper
from sparseft.compliance.decoding.vocabulary import GrammarState, Vocabulary
from sparseft.errors import ConfigError

__all__ = ["Choice", "Decoded", "generate", "generate_freely"]

_MAX_TOKENS = 2048  # no answer of a sensible schema is longer; the grammar's own end comes first


@dataclass(frozen=True)
class Choice:
    """A token that the grammar left open.

    Attributes:
        start: where it begins in the text, in bytes.
        token: what was chosen.
        raw: its log-probability among all tokens, before the mask.
        allowed: int64 [A], the tokens that might have followed.
        shares: float64 [A], their probabilities among each other.
    """

    start: int
    token: int
    raw: float
    allowed: np.ndarray
    shares: np.ndarray

    @property
    def share(self) -> float:
        """The chosen token's probability among the allowed ones."""
        return float(self.shares[np.flatnonzero(self.allowed == self.token)[0]])


@dataclass(frozen=True)
class Decoded:
    """An answer.

    Attributes:
        text: what was said.
        tokens: of the answer.
        choices: the tokens that were not forced, in order.
        calls: of the model, for the whole batch.
        seconds: of the whole batch, divided by its rows.
    """

    text: str
    tokens: tuple[int, ...]
    choices: tuple[Choice, ...] = field(repr=False)
    calls: int
    seconds: float

    @property
    def forced(self) -> int:
        """Tokens that the grammar left no choice about."""
        return len(self.tokens) - len(self.choices)


class _Row:
    """One answer on its way."""

    def __init__(self, state: GrammarState, prompt: list[int], vocabulary: Vocabulary) -> None:
        self.state = state
        self.vocabulary = vocabulary
        self.waiting = list(prompt)  # tokens that the model has not been given yet
        self.tokens: list[int] = []
        self.choices: list[Choice] = []
        self.length = 0  # bytes

    def say(self, tokens: list[int]) -> None:
        self.state.take(tokens)
        self.tokens += tokens
        self.waiting += tokens
        self.length += len(self.vocabulary.bytes_of(tokens))

    def run_ahead(self, at_once: bool) -> None:
        """Say what is forced; one token at a time where fast-forwarding is off."""
        while not self.state.ended:
            forced = self.state.forced()
            if not forced:
                allowed = np.flatnonzero(self.state.allowed())
                if len(allowed) != 1:
                    return
                forced = [int(allowed[0])]
            if not at_once:
                return
            self.say(forced)

    def choose(self, logits: Tensor) -> None:
        """The likeliest of the allowed tokens."""
        if len(self.tokens) >= _MAX_TOKENS:
            raise ConfigError(
                f"expected a grammar whose answers end within {_MAX_TOKENS} tokens, got a longer "
                "one; bound the schema's patterns and lists."
            )
        allowed = np.flatnonzero(self.state.allowed())
        scores = logits.double()
        kept = scores[torch.from_numpy(allowed)]
        best = int(kept.argmax())
        token = int(allowed[best])
        if len(allowed) > 1:
            raw = float(kept[best] - torch.logsumexp(scores, 0))
            shares = torch.softmax(kept, 0).numpy()
            self.choices.append(Choice(self.length, token, raw, allowed, shares))
        self.say([token])


def generate(
    model: LanguageModel,
    vocabulary: Vocabulary,
    prompts: Sequence[list[int]],
    grammars: Sequence[str],
    *,
    pad: int,
    fast_forward: bool = True,
) -> list[Decoded]:
    """Answer a batch of prompts, each under its own grammar.

    Args:
        model: in eval mode.
        vocabulary: of its tokenizer.
        prompts: token ids.
        grammars: in Lark, see `Schema.grammar`.
        pad: the token that fills unused columns; masked, so any will do.
        fast_forward: forced tokens enter together with the next choice; else each takes a call.

    Returns:
        One answer per prompt, always a text of its grammar.

    Raises:
        ConfigError: a grammar is refused, or an empty prompt.
    """
    if not all(prompts):
        raise ConfigError("expected prompts of at least one token, got an empty one.")
    started = time.perf_counter()
    rows = [
        _Row(vocabulary.start(lark), prompt, vocabulary)
        for prompt, lark in zip(prompts, grammars, strict=True)
    ]
    stepper = Stepper(model, len(rows), pad)
    for row in rows:
        row.run_ahead(fast_forward)
    while active := [row for row in rows if not row.state.ended]:
        logits = stepper.give([[] if row.state.ended else row.waiting for row in rows])
        for place, row in enumerate(rows):
            if not row.state.ended:
                row.waiting = []
                row.choose(logits[place])
                row.run_ahead(fast_forward)
        del active
    seconds = (time.perf_counter() - started) / max(len(rows), 1)
    return [_decoded(row, stepper.calls, seconds) for row in rows]


def generate_freely(
    model: LanguageModel, vocabulary: Vocabulary, prompt: list[int], *, most: int
) -> Decoded:
    """Greedy decoding without a grammar until the end token, or `most` tokens: for comparison."""
    started = time.perf_counter()
    stepper = Stepper(model, 1, vocabulary.end)
    tokens: list[int] = []
    waiting = list(prompt)
    while len(tokens) < most:
        token = int(stepper.give([waiting])[0].argmax())
        if token == vocabulary.end:
            break
        tokens.append(token)
        waiting = [token]
    text = vocabulary.bytes_of(tokens).decode("utf-8", "replace")
    return Decoded(text, tuple(tokens), (), stepper.calls, time.perf_counter() - started)


def _decoded(row: _Row, calls: int, seconds: float) -> Decoded:
    tokens = [token for token in row.tokens if token != row.vocabulary.end]
    text = row.vocabulary.bytes_of(tokens).decode("utf-8")
    return Decoded(text, tuple(tokens), tuple(row.choices), calls, seconds)
