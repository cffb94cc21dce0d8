"""From transcripts to records: a model reads, the rules complete, thresholds decide."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema

from sparseft.compliance.answer import Answer, Reader
from sparseft.compliance.decision import Decision, Seen, fit_decision
from sparseft.compliance.evidence import locate
from sparseft.compliance.record import FieldValue, Record
from sparseft.compliance.rules import apply_rules, check_rules
from sparseft.compliance.schema import Schema
from sparseft.compliance.scores import scorer_of
from sparseft.compliance.transcript import Example, Transcript
from sparseft.errors import ConfigError

__all__ = ["FORMAT", "Evaluator", "import_rules"]

FORMAT = "sparseft.compliance.2"
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


class Evaluator:
    """A finetuned reader with its schema's rules.

    Args:
        reader: what reads the transcripts.
        decision: temperatures and thresholds, see `calibrate`; None: the likeliest values count.
        stamp: of the trained values and thresholds, such as a hash of their files; records of
            different stamps are not mixed.

    Raises:
        ConfigError: the schema names a rule that is not registered.
    """

    def __init__(
        self, reader: Reader, *, decision: Decision | None = None, stamp: str = ""
    ) -> None:
        import_rules()
        check_rules(reader.schema)
        self.reader = reader
        self.decision = decision or Decision()
        self.stamp = stamp
        self._validator = jsonschema.Draft202012Validator(reader.schema.json_schema())

    @property
    def schema(self) -> Schema:
        """What the records follow."""
        return self.reader.schema

    def settings(self) -> dict[str, Any]:
        """All but the model, as plain data: what `load_evaluator` needs beside a delta."""
        return {
            "format": FORMAT,
            "schema": self.schema.to_mapping(),
            **self.reader.settings(),
            "decision": self.decision.to_json(),
        }

    def evaluate(self, transcripts: Sequence[Transcript]) -> list[Record]:
        """One record per transcript, in order; each follows the schema's JSON Schema."""
        started = time.perf_counter()
        answers = self.reader.answers(self.reader.scan(transcripts))
        records = [
            self._record(transcript, answer)
            for transcript, answer in zip(transcripts, answers, strict=True)
        ]
        seconds = (time.perf_counter() - started) / max(len(records), 1)
        return [
            dataclasses.replace(record, notes={**record.notes, "seconds": round(seconds, 4)})
            for record in records
        ]

    def calibrate(
        self,
        train: Sequence[Example],
        examples: Sequence[Example],
        margin: float,
        precision: float = 0.0,
    ) -> dict[str, Any]:
        """Fit the reading-out, temperatures and thresholds; returns facts.

        Args:
            train: what the reader was trained on.
            examples: what it was not trained on: all thresholds come from these.
            margin, precision: see `sparseft.compliance.decision.alarm_threshold`.
        """
        transcripts = [example.transcript for example in examples]
        name, schema = self.schema.critical, self.schema
        scans = self.reader.scan(transcripts)
        self.reader.fit(train, examples, scans)
        answers = self.reader.answers(scans)
        chances = [self._chances(t, a) for t, a in zip(transcripts, answers, strict=True)]
        seen, critical = [], []
        for example, answer, found in zip(examples, answers, chances, strict=True):
            for field in schema.model_fields:
                gold = field.canonical(example.gold[field.name])
                score = scorer_of(field).score(gold, answer.values[field.name])
                seen.append(Seen(field.name, answer.shares[field.name], score == 1))
            if found:
                assert name is not None
                critical.append((found, str(example.gold[name])))
        self.decision = fit_decision(schema, seen, critical, margin, precision)
        return self.decision.to_json()

    def _chances(self, transcript: Transcript, answer: Answer) -> dict[str, float]:
        """The critical field's distribution over its values; empty without such a field.

        Where a rule has a say, it is what the rules make of each way to read the transcript. What
        the ways do not cover goes in equal parts to the value of the likeliest and to the alarms,
        or of an alarm to the harmless values: nobody knows, so neither side gets more.
        """
        name, schema = self.schema.critical, self.schema
        if name is None:
            return {}
        field = schema[name]
        if field.rule is None:
            return answer.critical
        chances = dict.fromkeys(field.choices, 0.0)
        # Each way is looked at as if it were certain.
        certain = dict.fromkeys(answer.values, 1.0)
        for way in answer.hypotheses:
            record = apply_rules(schema, transcript, way.values, certain)
            chances[str(record.fields[name].value)] += way.share
        rest = max(0.0, 1.0 - sum(chances.values()))
        said = max(chances, key=lambda value: chances[value])
        alarms = set(schema.alarm)
        others = [v for v in field.choices if (v in alarms) != (said in alarms)]
        chances[said] += rest / 2
        for value in others:
            chances[value] += rest / 2 / len(others)
        return chances

    def _record(self, transcript: Transcript, answer: Answer) -> Record:
        values, decision = dict(answer.values), self.decision
        confidences = {
            name: decision.confidence(name, share) for name, share in answer.shares.items()
        }
        name = self.schema.critical
        chances = self._chances(transcript, answer)
        if name in values and chances:
            assert name is not None
            values[name] = decision.value(chances, self.schema.alarm)
            confidences[name] = decision.confidence(name, chances[values[name]])
        places = answer.evidence
        if places is None:
            places = locate(self.schema, transcript, values)
        record = apply_rules(self.schema, transcript, values, confidences, places)
        fields, review = dict(record.fields), list(record.review)
        if answer.omitted_words:
            review.append(
                f"the transcript is long: the model did not read {answer.omitted_words} words in "
                "its middle"
            )
        if chances:
            assert name is not None
            fields[name], doubts = self._verdict(fields[name], chances)
            review.extend(doubts)
        record = dataclasses.replace(
            record,
            fields=fields,
            review=tuple(review),
            notes={**answer.notes, "omitted_words": answer.omitted_words},
        )
        self._validator.validate(record.values())
        return record

    def _verdict(
        self, entry: FieldValue, chances: Mapping[str, float]
    ) -> tuple[FieldValue, list[str]]:
        """The critical field with the threshold's say, and why a person should look at it.

        The threshold raises alarms and never takes one away.
        """
        schema, decision = self.schema, self.decision
        assert schema.critical is not None
        chance = sum(chances[value] for value in schema.alarm)
        names = " or ".join(schema.alarm)
        because = f"probability of {names} {chance:.3f}"
        if decision.alarm is not None:
            because += f", alarm from {decision.alarm:.3f}"
        value, doubts = str(entry.value), []
        raised = decision.alarm is not None and chance >= decision.alarm
        if value not in schema.alarm and raised:
            said = value
            value = max(schema.alarm, key=lambda each: chances[each])
            entry = dataclasses.replace(entry, value=value, source="model", model_value=None)
            doubts.append(f"{schema.critical}: what was read first shows {said}, but {because}")
        elif value in schema.alarm and decision.alarm is not None and not raised:
            doubts.append(f"{schema.critical} is {value} by what was read, but {because}")
        elif entry.source == "rule override" and entry.model_value is not None:
            doubts.append(f"a rule says {value} where the model said {entry.model_value}")
        elif value not in schema.alarm and chances[value] < decision.review:
            doubts.append(
                f"{schema.critical} is uncertain: {chances[value]:.3f} is below "
                f"{decision.review:.3f}"
            )
        confidence = decision.confidence(schema.critical, chances[value])
        reason = f"{because}; {entry.reason}" if entry.reason else because
        return dataclasses.replace(entry, confidence=confidence, reason=reason), doubts
