"""A reader that points: an encoder tags segments and candidates, and the values follow.

What it says is a record by construction: there is no text that could fail to parse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sparseft.compliance.answer import Answer
from sparseft.compliance.encoder.chains import Chains, Seen, fit_chains
from sparseft.compliance.encoder.heats import fit_heat
from sparseft.compliance.encoder.lists import learned_chains, list_and_value
from sparseft.compliance.encoder.outcome import TextScores, answer_of
from sparseft.compliance.encoder.plan import FieldPlan, plan_of
from sparseft.compliance.encoder.rows import Read, read
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Example, Transcript
from sparseft.data.segments import SegmentEncoder
from sparseft.models.segments import Places, SegmentModel, SegmentScores

__all__ = ["EncoderReader", "Scan", "text_scores"]

_TOKENS = 8192  # of one call of the model


@dataclass(frozen=True)
class Scan:
    """A transcript as it was read, its scores, and in how many windows."""

    read: Read
    scores: TextScores
    windows: int


class EncoderReader:
    """A finetuned reader of segments.

    Args:
        model: in eval mode, with the head of `plan_of(schema)`.
        schema: what is filled in.
        tokenizer: the model's.
        max_length: tokens of a window; longer transcripts are read in several, and wholly.
        batch_size: transcripts read together.
        apart: each segment is read on its own, and its head sees the two beside it.
        chains: of lists by name, see `fit`; without them each segment is read for itself.
        heats: by field, what its scores are divided by, see `fit`.

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
        chains: Mapping[str, Chains] | None = None,
        heats: Mapping[str, float] | None = None,
    ) -> None:
        self.model = model
        self._schema = schema
        self.plan: FieldPlan = plan_of(schema, apart)
        self.encoder = SegmentEncoder(tokenizer, self.plan.layout, max_length, apart)
        self.batch_size = batch_size
        self.chains = dict(chains or {})
        self.heats = dict(heats or {})

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
            "chains": {name: chain.to_json() for name, chain in self.chains.items()},
            "heats": self.heats,
        }

    def scan(self, transcripts: Sequence[Transcript]) -> list[Scan]:
        """Every score of each transcript, see `Reader`."""
        found: list[Scan] = []
        for start in range(0, len(transcripts), self.batch_size):
            found.extend(self._batch(transcripts[start : start + self.batch_size]))
        return found

    def answers(self, scans: Sequence[Scan]) -> list[Answer]:
        """What the model says of each scanned transcript, see `Reader`."""
        found = []
        for each in scans:
            answer = answer_of(
                each.read,
                each.scores,
                self.schema,
                self.plan,
                chains=self.chains,
                heats=self.heats,
            )
            answer.notes.update(calls=1, windows=each.windows)
            found.append(answer)
        return found

    def fit(
        self, train: Sequence[Example], validation: Sequence[Example], scans: Sequence[Scan]
    ) -> None:
        """Learn which item of a list follows which, and how sure to be of each field."""
        for field in self.schema.model_fields:
            if field.name not in self.plan.layout.tags:
                seen = [(each.read, each.scores) for each in scans]
                golds = [field.canonical(example.gold[field.name]) for example in validation]
                self.heats[field.name] = fit_heat(field, self.plan, seen, golds)
        for name, chains in learned_chains(self.schema, self.plan, train).items():
            lists = []
            for example, scan in zip(validation, scans, strict=True):
                items, value = list_and_value(example, name, self.schema, self.plan)
                lists.append(Seen(scan.scores.tags[name], self._prior(name, scan), items, value))
            self.chains[name] = fit_chains(chains, lists)

    def _prior(self, name: str, scan: Scan) -> np.ndarray:
        """Log-probabilities of the values that a list is given."""
        given = self.schema[name].given
        if given is None:
            return np.zeros(1)
        scores = scan.scores.choices[given] / self.heats[given]
        found: np.ndarray = scores - np.logaddexp.reduce(scores)
        return found

    @torch.no_grad()
    def _batch(self, transcripts: Sequence[Transcript]) -> list[Scan]:
        reads = [read(transcript, self.schema, self.plan) for transcript in transcripts]
        rows = [self.encoder.encode(each.row) for each in reads]
        device = self.model.head.nothing.device
        batch = self.encoder.collate(rows, device)
        places: Places = batch["labels"].places
        # A window is read on its own, so a very long transcript takes time, not memory.
        segments, candidates = self.model.vectors(
            batch["input_ids"], batch["attention_mask"], places, _TOKENS
        )
        scores = self.model.head(segments, candidates, places)
        return [
            Scan(
                each.with_candidates(row.kept), text_scores(scores, places, text), len(row.windows)
            )
            for text, (each, row) in enumerate(zip(reads, rows, strict=True))
        ]


def text_scores(scores: SegmentScores, places: Places, text: int) -> TextScores:
    """The scores of one text of a batch."""
    own = (places.owner == text).nonzero()[1:, 0]  # without the summary
    silent = (~places.shows[own]).cpu().numpy()

    def array(values: torch.Tensor) -> np.ndarray:
        result: np.ndarray = values.double().cpu().numpy()
        return result

    pointers = {}
    for name, each in scores.pointers.items():
        mine = each[places.owners[name] == text]
        pointers[name] = array(torch.cat([mine, scores.nothing[name][None]]))
    tags = {}
    for name, each in scores.tags.items():
        tags[name] = array(each[own])
        tags[name][silent] = -np.inf
        tags[name][silent, 0] = 0.0
    return TextScores(
        tags,
        {name: array(each[text]) for name, each in scores.labels.items()},
        {name: array(each[text]) for name, each in scores.choices.items()},
        pointers,
        {name: array(each[own]) for name, each in scores.segments.items()},
    )
