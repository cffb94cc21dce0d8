"""What a model says of a transcript, before any decision and rule, and who says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Evidence, Example, Json, Transcript

__all__ = ["Answer", "Hypothesis", "Reader"]


@dataclass(frozen=True)
class Hypothesis:
    """One way to read the transcript: all of the model's fields, and its probability."""

    values: Mapping[str, Json]
    share: float


@dataclass(frozen=True)
class Answer:
    """What a model said of a transcript.

    Attributes:
        values: canonical, of the model's fields.
        shares: by field, the value's probability.
        critical: the critical field's distribution; empty where the model does not emit that field.
        hypotheses: other ways to read it, the likeliest among them; shares sum to at most 1.
        evidence: places of the values; None: they are to be looked for in the text.
        omitted_words: what the model did not read.
        notes: figures such as model calls and tokens.
    """

    values: dict[str, Json]
    shares: dict[str, float]
    critical: dict[str, float] = field(default_factory=dict)
    hypotheses: tuple[Hypothesis, ...] = ()
    evidence: dict[str, tuple[Evidence, ...]] | None = None
    omitted_words: int = 0
    notes: dict[str, Json] = field(default_factory=dict)


class Reader(Protocol):
    """A finetuned model that reads transcripts.

    Reading is in two parts, so that what the model computes can be looked at several times: `scan`
    takes the time, and `answers` makes values and probabilities of what was scanned.
    """

    @property
    def schema(self) -> Schema:
        """What it fills in."""

    def scan(self, transcripts: Sequence[Transcript]) -> list[Any]:
        """What the model computes of each, in order; of use to `answers` and `fit` alone."""

    def answers(self, scans: Sequence[Any]) -> list[Answer]:
        """What it says of each scanned transcript."""

    def fit(
        self, train: Sequence[Example], validation: Sequence[Example], scans: Sequence[Any]
    ) -> None:
        """Fit how answers are read out of scans; the model's values stay.

        Args:
            train: examples that the model was trained on.
            validation: examples that it was not trained on.
            scans: of the validation examples.
        """

    def settings(self) -> dict[str, Any]:
        """All but the model, as plain data with its `reader`'s kind: what loading it needs."""
