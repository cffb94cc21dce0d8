"""Training an encoder to tag segments and point at candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sparseft import models
from sparseft.compliance import Example
from sparseft.compliance.corpus import Corpus
from sparseft.compliance.encoder import EncoderReader, Read, plan_of, read_example
from sparseft.compliance.encoder.lists import learned_chains
from sparseft.compliance.encoder.outcome import answer_of
from sparseft.compliance.encoder.reader import text_scores
from sparseft.compliance.rules import apply_rules
from sparseft.compliance.transcript import Json
from sparseft.config import RunConfig
from sparseft.data.segments import SegmentBatches, SegmentEncoder
from sparseft.models import SegmentModel
from sparseft.models.segments import segment_loss
from sparseft.training.compliance.segment_head import warm_up_segments
from sparseft.training.compliance.side import Rows, WarmUp
from sparseft.training.compliance.validation import Fields
from sparseft.training.devices import autocast
from sparseft.training.prefix_cache import PrefixCache, replay

__all__ = ["EncoderSide"]


class _ExampleRows(SegmentBatches):
    """Batches that know their examples and what their numbers stand for."""

    def __init__(
        self,
        examples: Sequence[Example],
        reads: Sequence[Read],
        encoder: SegmentEncoder,
        batch_size: int,
        seed: int | None,
        device: torch.device,
    ) -> None:
        super().__init__([r.row for r in reads], encoder, batch_size, seed, device=device)
        self.examples = tuple(examples)
        self._reads = tuple(reads)

    def read_of(self, number: int) -> Read:
        """A row's transcript, with the candidates that have tokens."""
        return self._reads[number].with_candidates(self._rows[number].kept)


class EncoderSide:
    """An encoder with a head for the schema's fields."""

    def __init__(self, config: RunConfig, corpus: Corpus, device: torch.device) -> None:
        assert config.task.compliance is not None
        self.config = config
        self.settings = config.task.compliance
        self.schema = corpus.schema
        apart = self.settings.windows == "own"
        self.plan = plan_of(corpus.schema, apart)
        loaded = models.load_segments(config.model, self.plan.layout, config.seed)
        self.tokenizer = loaded.tokenizer
        self.encoder = SegmentEncoder(
            loaded.tokenizer, self.plan.layout, config.model.max_length, apart
        )
        # Lists are validated as they will be read, but for settings that are fitted at the end.
        self.chains = learned_chains(corpus.schema, self.plan, corpus.train)
        self.device = device
        self._model: SegmentModel = loaded.model.to(device)

    @property
    def model(self) -> SegmentModel:
        """What is trained."""
        return self._model

    def batches(self, examples: Sequence[Example], seed: int | None = None) -> _ExampleRows:
        """Padded batches: those of training where there is a seed."""
        training = self.config.training
        size = training.eval_batch_size if seed is None else training.batch_size
        reads = [read_example(example, self.schema, self.plan) for example in examples]
        return _ExampleRows(examples, reads, self.encoder, size, seed, self.device)

    def warm_up(self, rows: Rows) -> WarmUp | None:
        """Fit the head to the frozen features; none where no steps are asked for."""
        assert isinstance(rows, SegmentBatches)
        training = self.config.training
        if training.head_warmup_steps == 0:
            return None
        return warm_up_segments(
            self.model,
            rows,
            steps=training.head_warmup_steps,
            l2=1e-3 if training.head_warmup_l2 == "auto" else float(training.head_warmup_l2),
            precision=training.autocast,
            seed=self.config.seed,
        )

    def validate(self, rows: Rows, cache: PrefixCache | None = None) -> Fields:
        """Fields as they are read, each compared with its gold."""
        assert isinstance(rows, _ExampleRows)
        names = [field.name for field in self.schema.model_fields]
        right = np.zeros((rows.rows, len(names)), dtype=bool)
        loss = 0.0
        for number, values, share in self._values(rows, cache):
            gold = rows.examples[number].gold
            right[number] = [
                values[name] == self.schema[name].canonical(gold[name]) for name in names
            ]
            loss += share
        critical = self.schema.critical
        return Fields(right, loss, names.index(critical) if critical in names else None)

    def judged(self, examples: Sequence[Example]) -> list[bool]:
        """The critical field after the rules."""
        name = self.schema.critical
        assert name is not None
        rows = self.batches(examples)
        found = [False] * len(examples)
        for number, values, _ in self._values(rows, None):
            example = examples[number]
            record = apply_rules(self.schema, example.transcript, values)
            found[number] = record.fields[name].value == example.gold[name]
        return found

    def reader(self) -> EncoderReader:
        """The trained model, ready to read."""
        return EncoderReader(
            self.model.eval(),
            self.schema,
            self.tokenizer,
            self.encoder.max_length,
            batch_size=self.settings.decode_batch,
            apart=self.encoder.apart,
        )

    @torch.no_grad()
    def _values(
        self, rows: _ExampleRows, cache: PrefixCache | None
    ) -> list[tuple[int, Mapping[str, Json], float]]:
        """Of each row its number, the model's values, and its share of the mean loss."""
        mode = self.model.training
        self.model.eval()
        found: list[tuple[int, Mapping[str, Json], float]] = []
        try:
            for start in range(0, rows.rows, rows.batch_size):
                numbers = np.arange(start, min(start + rows.batch_size, rows.rows))
                batch: dict[str, Any] = rows.collate(numbers)
                labels = batch["labels"]
                with autocast(self.config.training.autocast, self.device), replay(cache, batch):
                    scores = self.model.scores(
                        batch["input_ids"], batch["attention_mask"], labels.places
                    )
                loss = float(segment_loss(scores, labels.places, labels.targets))
                for text, number in enumerate(numbers.tolist()):
                    own = text_scores(scores, labels.places, text)
                    answer = answer_of(
                        rows.read_of(number),
                        own,
                        self.schema,
                        self.plan,
                        chains=self.chains,
                        draws=0,
                    )
                    found.append((number, answer.values, loss / rows.rows))
        finally:
            self.model.train(mode)
        return found
