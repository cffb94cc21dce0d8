"""Greedy decoding under a grammar, with the tokens that the grammar forces fed in together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sparseft.compliance.decoding.drafts import Drafts
from sparseft.compliance.decoding.row import MAX_TOKENS, Choice, Row
from sparseft.compliance.decoding.steps import LanguageModel, Stepper
from sparseft.compliance.decoding.vocabulary import Vocabulary
from sparseft.errors import ConfigError

__all__ = ["Choice", "Decoded", "generate", "generate_freely"]

_GUESSES = 3  # of a call; more are rarely right together, and each makes the call longer


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


def generate(
    model: LanguageModel,
    vocabulary: Vocabulary,
    prompts: Sequence[list[int]],
    grammars: Sequence[str],
    *,
    pad: int,
    fast_forward: bool = True,
    drafts: Drafts | None = None,
    most: int = MAX_TOKENS,
) -> list[Decoded]:
    """Answer a batch of prompts, each under its own grammar.

    Args:
        model: in eval mode.
        vocabulary: of its tokenizer.
        prompts: token ids.
        grammars: in Lark, see `Schema.grammar`.
        pad: the token that fills unused columns; masked, so any will do.
        fast_forward: forced tokens enter together with the next choice; else each takes a call.
        drafts: guesses that are checked several to a call: fewer calls, the same answers.
        most: tokens of an answer. `longest_answer` of the schema is always enough; see there.

    Returns:
        One answer per prompt, always a text of its grammar.

    Raises:
        ConfigError: a grammar is refused, an empty prompt, drafts without fast-forwarding, or an
            answer that is longer than `most`.
    """
    if not all(prompts):
        raise ConfigError("expected prompts of at least one token, got an empty one.")
    if drafts is not None and not fast_forward:
        raise ConfigError("expected fast_forward=True with drafts, got False; leave one out.")
    started = time.perf_counter()
    rows = [
        Row(vocabulary.start(lark), prompt, vocabulary, fast_forward, most)
        for prompt, lark in zip(prompts, grammars, strict=True)
    ]
    stepper = Stepper(model, len(rows), pad)
    while not all(row.done for row in rows):
        if drafts is not None:
            for row in rows:
                row.draft(drafts, _GUESSES)
        wanted = [row.wanted for row in rows]
        logits = stepper.give([row.waiting for row in rows], wanted)
        parts = logits.split([len(places) for places in wanted])
        wrong = [0 if row.done else row.settle(part) for row, part in zip(rows, parts, strict=True)]
        stepper.take_back(wrong)
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


def _decoded(row: Row, calls: int, seconds: float) -> Decoded:
    tokens = [token for token in row.tokens if token != row.vocabulary.end]
    text = row.vocabulary.bytes_of(tokens).decode("utf-8")
    return Decoded(text, tuple(tokens), tuple(row.choices), calls, seconds)
