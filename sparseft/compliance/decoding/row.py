"""One answer on its way: its tokens, where it stands in its grammar, what it has to decide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparseft.compliance.decoding.drafts import Drafts
from sparseft.compliance.decoding.vocabulary import GrammarState, Vocabulary
from sparseft.errors import ConfigError

__all__ = ["MAX_TOKENS", "Choice", "Row"]

MAX_TOKENS = 2048  # where nothing else is asked for; see `longest_answer`


@dataclass(frozen=True)
class Choice:
    """A token that the grammar left open.

    Attributes:
        start: where it begins in the text, in bytes.
        token: what was chosen.
        raw: its log-probability among all tokens, before the mask.
        allowed: int64 [A], the tokens that might have followed.
        shares: float64 [A], their probabilities among each other.
        place: its number among the answer's tokens.
    """

    start: int
    token: int
    raw: float
    allowed: np.ndarray
    shares: np.ndarray
    place: int

    @property
    def share(self) -> float:
        """The chosen token's probability among the allowed ones."""
        return float(self.shares[np.flatnonzero(self.allowed == self.token)[0]])


@dataclass
class _Open:
    """A place that the next call decides; `guess` is what a draft put there."""

    place: int
    start: int
    allowed: np.ndarray
    guess: int | None = None


class Row:
    """One answer of a batch.

    A call works on `waiting` (tokens that the model has not been given) and gives logits behind
    those of `wanted`; `settle` takes them.

    Args:
        fast_forward: forced tokens are said at once; else each waits for a call.
        most: tokens after which decoding is given up.
    """

    def __init__(
        self,
        state: GrammarState,
        prompt: list[int],
        vocabulary: Vocabulary,
        fast_forward: bool,
        most: int,
    ) -> None:
        self.tokens: list[int] = []
        self.choices: list[Choice] = []
        self.vocabulary = vocabulary
        self._state = state
        self._prompt = prompt
        self._fast_forward = fast_forward
        self._most = most
        self._length = 0  # bytes
        self._given = -len(prompt)  # tokens of the answer the model has; below 0: of the prompt
        self._open: list[_Open] = []
        self._go_on()

    @property
    def done(self) -> bool:
        """Whether the answer is complete and decided."""
        return not self._open

    @property
    def waiting(self) -> list[int]:
        """What the next call gives the model: all before the last open place."""
        if self.done:
            return []
        end = self._open[-1].place
        if self._given < 0:
            return [*self._prompt[self._given :], *self.tokens[:end]]
        return self.tokens[self._given : end]

    @property
    def wanted(self) -> list[int]:
        """Which of `waiting` logits are needed behind, one for each open place."""
        return [each.place - self._given - 1 for each in self._open]

    def draft(self, drafts: Drafts, most: int) -> None:
        """Guess up to `most` open tokens; the next call then checks them all at once."""
        while self._open and len(self._open) <= most:
            last = self._open[-1]
            guess = drafts.next(self.tokens)
            if guess is None or guess not in last.allowed:
                return
            last.guess = guess
            self._say([guess])
            opened = len(self._open)
            self._go_on()
            if len(self._open) == opened:  # the answer would end here
                return

    def settle(self, logits: Tensor) -> int:
        """Decide the open places, in order, up to the first wrong guess.

        Args:
            logits: fp32 [open places, V].

        Returns:
            How many of the tokens that the call gave the model are to be taken back.
        """
        given, opened = self._open[-1].place, self._open
        self._open = []
        for each, scores in zip(opened, logits, strict=True):
            token = self._choose(each, scores)
            if token == each.guess:
                continue
            self._take_back(each.place)
            self._say([token])
            self._given = each.place
            self._go_on()
            return given - each.place
        self._given = given
        return 0  # every guess was right, up to the answer's end

    def _choose(self, place: _Open, scores: Tensor) -> int:
        """The likeliest of the allowed tokens."""
        allowed = place.allowed
        kept = scores[torch.from_numpy(allowed)].double()
        best = int(kept.argmax())
        token = int(allowed[best])
        if len(allowed) > 1:
            raw = float(scores[token] - torch.logsumexp(scores, 0))
            shares = torch.softmax(kept, 0).numpy()
            self.choices.append(Choice(place.start, token, raw, allowed, shares, place.place))
        return token

    def _go_on(self) -> None:
        """Say what is forced, and open the next place unless the answer is complete."""
        while not self._state.ended:
            if len(self.tokens) >= self._most:
                raise ConfigError(
                    f"expected an answer of at most {self._most} tokens, got a longer one; bound "
                    "the schema's patterns and lists, or allow more."
                )
            forced = self._state.forced()
            if not forced:
                allowed = np.flatnonzero(self._state.allowed())
                if len(allowed) > 1:
                    self._open.append(_Open(len(self.tokens), self._length, allowed))
                    return
                forced = [int(allowed[0])]
            if not self._fast_forward:
                allowed = np.array(forced[:1])
                self._open.append(_Open(len(self.tokens), self._length, allowed))
                return
            self._say(forced)

    def _say(self, tokens: list[int]) -> None:
        self._state.take(tokens)
        self.tokens += tokens
        self._length += len(self.vocabulary.bytes_of(tokens))

    def _take_back(self, place: int) -> None:
        wrong = self.tokens[place:]
        if wrong:
            self._state.take_back(len(wrong))
            del self.tokens[place:]
            self._length -= len(self.vocabulary.bytes_of(wrong))
