"""Evaluating many transcripts so that none takes others down with it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from typing import Protocol

from sparseft.compliance.fields import dumps
from sparseft.compliance.record import Record
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Transcript
from sparseft.errors import DataError

__all__ = ["Evaluates", "Outcome", "check_words", "describe", "evaluate_each"]

_LOG = logging.getLogger(__name__)

Outcome = Record | Exception


class Evaluates(Protocol):
    """What is served: `sparseft.compliance.evaluator.Evaluator`, or anything of this shape."""

    @property
    def schema(self) -> Schema:
        """What the records follow."""

    def evaluate(self, transcripts: Sequence[Transcript]) -> list[Record]:
        """One record per transcript, in order."""


def check_words(transcript: Transcript) -> None:
    """Refuse a transcript in which nobody says anything: its record would be made up.

    Raises:
        DataError: no turn has any text.
    """
    if not any(turn.text.strip() for turn in transcript.turns):
        raise DataError("expected a transcript with words, got none; leave it out.")


def evaluate_each(evaluator: Evaluates, transcripts: Sequence[Transcript]) -> list[Outcome]:
    """One record, or the error that kept it from being made, per transcript, in order.

    All are evaluated together; where that fails, one by one.
    """
    if not transcripts:
        return []
    try:
        return list(_evaluated(evaluator, transcripts))
    except Exception as error:
        if len(transcripts) == 1:
            _LOG.warning("an evaluation failed: %s", describe(error))
            return [error]
        _LOG.warning("a batch of %d failed, now one by one: %s", len(transcripts), describe(error))
    return [outcome for one in transcripts for outcome in evaluate_each(evaluator, [one])]


def describe(error: BaseException) -> str:
    """An error's type and places, for logs.

    Its message is left out: it may quote the conversation, which is personal data.
    """
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {places}"


def _evaluated(evaluator: Evaluates, transcripts: Sequence[Transcript]) -> list[Record]:
    records = evaluator.evaluate(transcripts)
    if len(records) != len(transcripts):
        raise RuntimeError(
            f"expected {len(transcripts)} records of the evaluator, got {len(records)}."
        )
    for record in records:
        dumps(record.to_json())  # a NaN among the confidences, say, could not be sent or written
    return records
