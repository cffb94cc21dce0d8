"""How a transcript becomes a prompt: the schema's instruction, and what of the text fits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Transcript
from sparseft.compliance.window import fit
from sparseft.errors import ConfigError

__all__ = ["Prompt", "Reading"]


@dataclass(frozen=True)
class Prompt:
    """What the model reads; `window` is the rendered transcript in it, perhaps with a gap."""

    text: str
    window: str
    omitted_words: int


@dataclass(frozen=True)
class Reading:
    """Prompts of one schema for one tokenizer.

    Args:
        max_length: the most tokens of prompt and answer.
        answer_room: tokens that are kept for the answer.
    """

    schema: Schema
    tokenizer: Any
    max_length: int
    answer_room: int

    def prompt(self, transcript: Transcript) -> Prompt:
        """The prompt of a transcript; a long one is shortened in the middle, visibly.

        Raises:
            ConfigError: max_length leaves no room for a transcript.
        """
        window = fit(transcript.render(), self.transcript_room, self.count)
        return Prompt(self.schema.prompt(window.text), window.text, window.omitted_words)

    def tokens(self, text: str) -> list[int]:
        """The ids of a text, without special tokens."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.tokens(text))

    @cached_property
    def transcript_room(self) -> int:
        """The most tokens of a transcript.

        Raises:
            ConfigError: there are none.
        """
        # Two more where the transcript's ends meet the frame.
        room = self.max_length - self.answer_room - self.count(self.schema.prompt("")) - 2
        if room < 16:
            raise ConfigError(
                f"expected room for a transcript beside instruction and answer "
                f"({self.max_length - room} tokens), got model.max_length={self.max_length}; "
                "set a larger one."
            )
        return room
