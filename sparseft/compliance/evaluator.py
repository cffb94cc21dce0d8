"""From transcripts to records: read, decode under the grammar, decide, apply the rules."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jsonschema

from sparseft.compliance.decision import Decision, Seen, fit_decision
from sparseft.compliance.decoding import (
    Decoded,
    Vocabulary,
    field_scores,
    generate,
    value_probabilities,
)
from sparseft.compliance.evidence import locate
from sparseft.compliance.reading import Prompt, Reading
from sparseft.compliance.record import FieldValue, Record
from sparseft.compliance.rules import apply_rules, check_rules
from sparseft.compliance.schema import Schema
from sparseft.compliance.scores import scorer_of
from sparseft.compliance.transcript import Example, Json, Transcript
from sparseft.errors import ConfigError
from sparseft.models import AnswerModel

__all__ = ["FORMAT", "Answer", "Evaluator", "import_rules"]

FORMAT = "sparseft.compliance.1"
_SHIPPED = (
    "sparseft.compliance.abcd",
    "sparseft.compliance.appointments",
    "sparseft.compliance.service",
)


def import_rules(modules: Sequence[str] = ()) -> None:
    """Import the shipped rules and those of the named Python modules.

    Raises:
        ConfigError: one cannot be imported.
    """
    for name in (*_SHIPPED, *modules):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"expected an importable module with rules at task.compliance.rules={name!r}, "
                f"got: {error}; check the name and PYTHONPATH."
            ) from error


@dataclass(frozen=True)
class Answer:
    """What the model said of a transcript, before any decision and rule.

    Attributes:
        values: canonical, of the model's fields.
        shares: by field, the value's probability under the grammar.
        critical: the critical field's distribution; empty where a rule alone gives that field.
    """

    prompt: Prompt
    decoded: Decoded
    values: dict[str, Json]
    shares: dict[str, float]
    critical: dict[str, float]


class Evaluator:
    """A finetuned decoder with a schema's grammar and rules.

    Args:
        model: in eval mode.
        reading: its prompts.
        decision: temperatures and thresholds, see `calibrate`; None: the likeliest values count.
        fast_forward: forced tokens enter without calls of their own.
        batch_size: transcripts decoded together.
        stamp: of the trained values and thresholds, such as a hash of their files; records of
            different stamps are not mixed.

    Raises:
        ConfigError: the schema names a rule that is not registered.
    """

    def __init__(
        self,
        model: AnswerModel,
        reading: Reading,
        *,
        decision: Decision | None = None,
        fast_forward: bool = True,
        batch_size: int = 1,
        stamp: str = "",
    ) -> None:
        import_rules()
        check_rules(reading.schema)
        self.model = model
        self.reading = reading
        self.decision = decision or Decision()
        self.fast_forward = fast_forward
        self.batch_size = batch_size
        self.stamp = stamp
        self._validator = jsonschema.Draft202012Validator(reading.schema.json_schema())

    @property
    def schema(self) -> Schema:
        """What the records follow."""
        return self.reading.schema

    def settings(self) -> dict[str, Any]:
        """All but the model, as plain data: what `load_evaluator` needs beside a delta."""
        return {
            "format": FORMAT,
            "schema": self.schema.to_mapping(),
            "max_length": self.reading.max_length,
            "answer_room": self.reading.answer_room,
            "fast_forward": self.fast_forward,
            "decision": self.decision.to_json(),
        }

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's, as grammars see it."""
        return Vocabulary(self.reading.tokenizer, self.model.vocabulary_size)

    def evaluate(self, transcripts: Sequence[Transcript]) -> list[Record]:
        """One record per transcript, in order; each follows the schema's JSON Schema."""
        started = time.perf_counter()
        answers = self.answers(transcripts)
        records = [
            self._record(transcript, answer)
            for transcript, answer in zip(transcripts, answers, strict=True)
        ]
        seconds = (time.perf_counter() - started) / max(len(records), 1)
        return [
            dataclasses.replace(record, notes={**record.notes, "seconds": round(seconds, 4)})
            for record in records
        ]

    def answers(self, transcripts: Sequence[Transcript]) -> list[Answer]:
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
        return Answer(prompt, decoded, values, shares, critical)

    def calibrate(self, examples: Sequence[Example], margin: float) -> dict[str, Any]:
        """Fit temperatures and thresholds to examples that were not trained on; returns facts.

        Args:
            margin: see `sparseft.compliance.decision.alarm_threshold`.
        """
        answers = self.answers([example.transcript for example in examples])
        seen, critical = [], []
        for example, answer in zip(examples, answers, strict=True):
            for field in self.schema.model_fields:
                gold = field.canonical(example.gold[field.name])
                score = scorer_of(field).score(gold, answer.values[field.name])
                seen.append(Seen(field.name, answer.shares[field.name], score == 1))
            if answer.critical:
                assert self.schema.critical is not None
                critical.append((answer.critical, str(example.gold[self.schema.critical])))
        self.decision = fit_decision(self.schema, seen, critical, margin)
        return self.decision.to_json()

    def _record(self, transcript: Transcript, answer: Answer) -> Record:
        values, decision = dict(answer.values), self.decision
        confidences = {
            name: decision.confidence(name, share) for name, share in answer.shares.items()
        }
        name, because = self.schema.critical, ""
        if answer.critical:
            assert name is not None
            values[name], because = self._verdict(answer)
            confidences[name] = decision.confidence(name, answer.critical[values[name]])
        record = apply_rules(
            self.schema,
            transcript,
            values,
            confidences,
            locate(self.schema, transcript, values),
        )
        fields = dict(record.fields)
        if because:
            assert name is not None
            entry = fields[name]
            reason = f"{because}; {entry.reason}" if entry.reason else because
            fields[name] = dataclasses.replace(entry, reason=reason)
        record = dataclasses.replace(
            record,
            fields=fields,
            review=(*record.review, *self._review(answer, fields)),
            notes={
                "calls": answer.decoded.calls,
                "tokens": len(answer.decoded.tokens),
                "forced": answer.decoded.forced,
                "omitted_words": answer.prompt.omitted_words,
            },
        )
        self._validator.validate(record.values())
        return record

    def _verdict(self, answer: Answer) -> tuple[str, str]:
        """The critical field's value by its threshold, and why."""
        chance = sum(answer.critical[name] for name in self.schema.alarm)
        value = self.decision.value(answer.critical, self.schema.alarm)
        names = " or ".join(self.schema.alarm)
        if self.decision.alarm is None:
            return value, f"probability of {names} {chance:.3f}"
        return value, f"probability of {names} {chance:.3f}, alarm from {self.decision.alarm:.3f}"

    def _review(self, answer: Answer, fields: Mapping[str, FieldValue]) -> tuple[str, ...]:
        reasons = []
        if answer.prompt.omitted_words:
            reasons.append(
                f"the transcript is long: the model did not read {answer.prompt.omitted_words} "
                "words in its middle"
            )
        name = self.schema.critical
        if name is None:
            return tuple(reasons)
        entry = fields[name]
        if entry.source == "rule override":
            reasons.append(f"a rule says {entry.value} where the model said {entry.model_value}")
        elif (
            answer.critical
            and entry.value not in self.schema.alarm
            and answer.critical[str(entry.value)] < self.decision.review
        ):
            reasons.append(
                f"{name} is uncertain: {answer.critical[str(entry.value)]:.3f} is below "
                f"{self.decision.review:.3f}"
            )
        return tuple(reasons)
