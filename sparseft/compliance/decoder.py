"""A reader that writes: a causal language model answers under the schema's grammar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from sparseft.compliance.answer import Answer, Hypothesis
from sparseft.compliance.decoding import (
    Decoded,
    Vocabulary,
    field_scores,
    generate,
    value_probabilities,
)
from sparseft.compliance.reading import Prompt, Reading
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Example, Json, Transcript
from sparseft.models import AnswerModel

__all__ = ["DecoderReader"]


class DecoderReader:
    """A finetuned decoder with a schema's grammar.

    Args:
        model: in eval mode.
        reading: its prompts.
        fast_forward: forced tokens enter without calls of their own.
        batch_size: transcripts decoded together.
    """

    kind = "decoder"

    def __init__(
        self,
        model: AnswerModel,
        reading: Reading,
        *,
        fast_forward: bool = True,
        batch_size: int = 1,
    ) -> None:
        self.model = model
        self.reading = reading
        self.fast_forward = fast_forward
        self.batch_size = batch_size

    @property
    def schema(self) -> Schema:
        """What the answers follow."""
        return self.reading.schema

    def settings(self) -> dict[str, Any]:
        """What `load_evaluator` needs beside a delta."""
        return {
            "reader": self.kind,
            "max_length": self.reading.max_length,
            "answer_room": self.reading.answer_room,
            "fast_forward": self.fast_forward,
        }

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's, as grammars see it."""
        return Vocabulary(self.reading.tokenizer, self.model.vocabulary_size)

    def answers(self, scans: Sequence[Answer]) -> list[Answer]:
        """The scans: what was written stands."""
        return list(scans)

    def fit(
        self, train: Sequence[Example], validation: Sequence[Example], scans: Sequence[Answer]
    ) -> None:
        """Nothing: see `Reader`."""

    def scan(self, transcripts: Sequence[Transcript]) -> list[Answer]:
        """What the model says of each transcript, under its grammar."""
        prompts = [self.reading.prompt(transcript) for transcript in transcripts]
        # Rows of like length waste the fewest columns.
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place].text))
        found: dict[int, Answer] = {}
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            batch = [prompts[place] for place in places]
            decoded = generate(
                self.model,
                self.vocabulary,
                [self.reading.tokens(prompt.text) for prompt in batch],
                # Ids are copied from what was left out, too: the rules read it as well.
                [self.schema.grammar(transcripts[place].render()) for place in places],
                pad=int(self.reading.tokenizer.pad_token_id),
                fast_forward=self.fast_forward,
            )
            for place, prompt, answer in zip(places, batch, decoded, strict=True):
                found[place] = self._answer(prompt, answer)
        return [found[place] for place in range(len(prompts))]

    def _answer(self, prompt: Prompt, decoded: Decoded) -> Answer:
        values = self.schema.parse(decoded.text)
        shares = {
            name: score.share for name, score in field_scores(decoded, self.schema, values).items()
        }
        critical: dict[str, float] = {}
        name = self.schema.critical
        if name in values:
            assert name is not None
            critical = value_probabilities(
                decoded, self.schema[name], self.schema, values, self.vocabulary
            )
        return Answer(
            values,
            shares,
            critical,
            hypotheses=_hypotheses(values, shares, name, critical),
            omitted_words=prompt.omitted_words,
            notes={
                "calls": decoded.calls,
                "tokens": len(decoded.tokens),
                "forced": decoded.forced,
            },
        )


def _hypotheses(
    values: dict[str, Json],
    shares: Mapping[str, float],
    name: str | None,
    critical: Mapping[str, float],
) -> tuple[Hypothesis, ...]:
    """The answer with each value of the critical field; where the model emits none, the answer.

    What follows from an answer is no surer than the least sure of its fields.
    """
    if name is not None and critical:
        return tuple(Hypothesis({**values, name: v}, share) for v, share in critical.items())
    return (Hypothesis(values, min(shares.values(), default=1.0)),)
