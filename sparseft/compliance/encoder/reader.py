"""A reader that points: an encoder tags segments and candidates, and the values follow.

What it says is a record by construction: there is no text that could fail to parse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sparseft.compliance.answer import Answer
from sparseft.compliance.encoder.outcome import TextScores, answer_of
from sparseft.compliance.encoder.plan import FieldPlan, plan_of
from sparseft.compliance.encoder.rows import read
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Transcript
from sparseft.data.segments import SegmentEncoder
from sparseft.models.segments import Places, SegmentModel, SegmentScores

__all__ = ["EncoderReader", "text_scores"]

_TOKENS = 8192  # of one call of the model; a longer transcript goes in alone


class EncoderReader:
    """A finetuned reader of segments.

    Args:
        model: in eval mode, with the head of `plan_of(schema)`.
        schema: what is filled in.
        tokenizer: the model's.
        max_length: tokens of a window; longer transcripts are read in several, and wholly.
        batch_size: transcripts read together.
        apart: each segment is read on its own, and its head sees the two beside it.

    Raises:
        ConfigError: a field of the schema cannot be read by an encoder.
    """

    kind = "encoder"

    def __init__(
        self,
        model: SegmentModel,
        schema: Schema,
        tokenizer: Any,
        max_length: int,
        *,
        batch_size: int = 1,
        apart: bool = False,
    ) -> None:
        self.model = model
        self._schema = schema
        self.plan: FieldPlan = plan_of(schema, apart)
        self.encoder = SegmentEncoder(tokenizer, self.plan.layout, max_length, apart)
        self.batch_size = batch_size

    @property
    def schema(self) -> Schema:
        """What it fills in."""
        return self._schema

    def settings(self) -> dict[str, Any]:
        """What `load_evaluator` needs beside a delta."""
        return {
            "reader": self.kind,
            "max_length": self.encoder.max_length,
            "apart": self.encoder.apart,
        }

    def answers(self, transcripts: Sequence[Transcript], heat: float = 1.0) -> list[Answer]:
        """What the model says of each transcript, see `Reader`."""
        found: list[Answer] = []
        for start in range(0, len(transcripts), self.batch_size):
            found.extend(self._batch(transcripts[start : start + self.batch_size], heat))
        return found

    @torch.no_grad()
    def _batch(self, transcripts: Sequence[Transcript], heat: float) -> list[Answer]:
        reads = [read(transcript, self.schema, self.plan) for transcript in transcripts]
        rows = [self.encoder.encode(each.row) for each in reads]
        device = self.model.head.nothing.device
        batch = self.encoder.collate(rows, device)
        places: Places = batch["labels"].places
        # A window is read on its own, so a very long transcript takes time, not memory.
        windows = max(1, _TOKENS // batch["input_ids"].shape[1])
        segments, candidates = self.model.vectors_of_parts(
            batch["input_ids"], batch["attention_mask"], places, windows
        )
        scores = self.model.head(segments, candidates, places)
        found = []
        for text, (each, row) in enumerate(zip(reads, rows, strict=True)):
            seen = each.with_candidates(row.kept)
            own = text_scores(scores, places, text, heat)
            answer = answer_of(seen, own, self.schema, self.plan)
            answer.notes.update(calls=1, windows=len(row.windows))
            found.append(answer)
        return found


def text_scores(scores: SegmentScores, places: Places, text: int, heat: float = 1.0) -> TextScores:
    """The probabilities of one text of a batch, of scores divided by `heat`."""
    own = (places.owner == text).nonzero()[1:, 0]  # without the summary

    def array(values: torch.Tensor) -> np.ndarray:
        result: np.ndarray = values.double().cpu().numpy()
        return result

    pointers = {}
    for name, each in scores.pointers.items():
        mine = each[places.owners[name] == text]
        pointers[name] = array(
            (torch.cat([mine, scores.nothing[name][None]]) / heat).softmax(dim=0)
        )
    tags = {}
    for name, each in scores.tags.items():
        chances = (each[own] / heat).softmax(dim=1)
        silent = ~places.shows[own]
        chances[silent] = 0.0
        chances[silent, 0] = 1.0
        tags[name] = array(chances)
    return TextScores(
        tags,
        {name: array((each[text] / heat).sigmoid()) for name, each in scores.labels.items()},
        {name: array((each[text] / heat).softmax(dim=0)) for name, each in scores.choices.items()},
        pointers,
        {name: array(each[own]) for name, each in scores.segments.items()},
    )
