"""Training a causal language model to write the record."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparseft import models
from sparseft.compliance import Example
from sparseft.compliance.corpus import Corpus
from sparseft.compliance.decoder import DecoderReader
from sparseft.compliance.reading import Reading
from sparseft.config import RunConfig
from sparseft.data.answers import AnswerBatches
from sparseft.models import AnswerModel
from sparseft.training.compliance.rows import answer_batches
from sparseft.training.compliance.side import Rows, WarmUp
from sparseft.training.compliance.validation import Fields, forced_fields
from sparseft.training.prefix_cache import PrefixCache

__all__ = ["DecoderSide"]

_ANSWER_SLACK = 1.25  # room for answers beyond the longest training answer


class DecoderSide:
    """A decoder, its prompts and answers."""

    def __init__(self, config: RunConfig, corpus: Corpus, device: torch.device) -> None:
        assert config.task.compliance is not None
        self.config = config
        self.settings = config.task.compliance
        self.schema = corpus.schema
        self.device = device
        loaded = models.load_language(config.model, config.seed)
        self._model: AnswerModel = loaded.model.to(device)
        answers = [self.schema.answer(example.gold) for example in corpus.train]
        tokens = loaded.tokenizer(answers, add_special_tokens=False)["input_ids"]
        room = int(_ANSWER_SLACK * max(map(len, tokens))) + 1
        self.reading = Reading(self.schema, loaded.tokenizer, config.model.max_length, room)
        names = [field.name for field in self.schema.model_fields]
        critical = self.schema.critical
        self.critical = names.index(critical) if critical in names else None

    @property
    def model(self) -> AnswerModel:
        """What is trained."""
        return self._model

    def batches(self, examples: Sequence[Example], seed: int | None = None) -> AnswerBatches:
        """Padded batches: those of training where there is a seed."""
        training = self.config.training
        size = training.eval_batch_size if seed is None else training.batch_size
        return answer_batches(examples, self.schema, self.reading, size, seed, self.device)

    def warm_up(self, rows: Rows) -> WarmUp | None:
        """Its head is the pretrained output embedding: there is nothing to fit."""
        return None

    def validate(self, rows: Rows, cache: PrefixCache | None = None) -> Fields:
        """Fields with forced answers."""
        assert isinstance(rows, AnswerBatches)
        return forced_fields(
            self.model,
            rows,
            len(self.schema.model_fields),
            self.critical,
            self.config.training.autocast,
            cache,
        )

    def judged(self, examples: Sequence[Example]) -> list[bool]:
        """The critical field with forced answers; where a rule gives it, all fields together."""
        right = self.validate(self.batches(examples)).right
        if self.critical is None:
            return [bool(row.all()) for row in right]
        return [bool(row[self.critical]) for row in right]

    def reader(self) -> DecoderReader:
        """The trained model, ready to read."""
        return DecoderReader(
            self.model.eval(),
            self.reading,
            fast_forward=self.settings.fast_forward,
            batch_size=self.settings.decode_batch,
        )
