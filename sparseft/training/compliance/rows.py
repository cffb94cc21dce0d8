"""Examples as rows of prompt and answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparseft.compliance import Example, Schema
from sparseft.compliance.reading import Reading
from sparseft.data.answers import AnswerBatches, AnswerRow

__all__ = ["answer_batches", "answer_row"]


def answer_row(example: Example, schema: Schema, reading: Reading) -> AnswerRow:
    """What the model reads and is to answer; learned are the values, not the keys."""
    return AnswerRow(
        prompt=reading.prompt(example.transcript).text,
        answer=schema.answer(example.gold),
        parts=schema.spans(example.gold),
    )


def answer_batches(
    examples: Sequence[Example],
    schema: Schema,
    reading: Reading,
    batch_size: int,
    seed: int | None,
    device: Any,
) -> AnswerBatches:
    """Padded batches of the examples; in one order, the longest first, where there is no seed.

    Raises:
        DataError: an answer does not fit the model's length.
    """
    rows = [answer_row(example, schema, reading) for example in examples]
    return AnswerBatches(
        rows, reading.tokenizer, batch_size, reading.max_length, seed, device=device
    )
