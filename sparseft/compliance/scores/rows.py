"""Gold and records of one split as arrays, from which every figure is computed.

Legend: N rows (a transcript's record of one run), T transcripts, S runs, F fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sparseft.compliance.fields import Field
from sparseft.compliance.record import Record
from sparseft.compliance.schema import Schema
from sparseft.compliance.scores.scorers import Scorer, check_scorers
from sparseft.compliance.transcript import Example, Json
from sparseft.errors import ConfigError, DataError

__all__ = ["ABSENT", "SOURCES", "Rows", "rows_of"]


class _Absent:
    """No value: the record has an error, or what was said is no value of the field."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
SOURCES = ("model", "rule", "rule override")


@dataclass(frozen=True)
class Rows:
    """The rows of one or several runs on the same transcripts, run after run.

    Attributes:
        ids: [T], of the transcripts.
        runs: S.
        cluster: int64 [N], each row's transcript, in the order of the sorted ids, so that no result
            depends on the order of the transcripts.
        gold, said: [N] values by field name, canonical; said may hold ABSENT.
        score: float64 [N, F], in [0, 1]; 0 for what is absent.
        right: bool [N, F], score 1.
        was_right: bool [N, F], where a rule replaced the model's value: whether that was right.
        source: int64 [N, F], place in SOURCES, -1 for what is absent.
        confidence: float64 [N, F], NaN where there is none.
        failed: bool [N], the record has an error.
        reviewed: bool [N], a person is asked to look: flagged, or failed.
    """

    schema: Schema
    scorers: tuple[Scorer, ...]
    ids: tuple[str, ...]
    runs: int
    cluster: NDArray[np.int64]
    gold: tuple[dict[str, Json], ...]
    said: tuple[dict[str, Json], ...]
    score: NDArray[np.float64]
    right: NDArray[np.bool_]
    was_right: NDArray[np.bool_]
    source: NDArray[np.int64]
    confidence: NDArray[np.float64]
    failed: NDArray[np.bool_]
    reviewed: NDArray[np.bool_]

    @property
    def transcripts(self) -> int:
        """T."""
        return len(self.ids)

    def place(self, name: str) -> int:
        """The column of a field."""
        return self.schema.names.index(name)

    def run(self, number: int) -> Rows:
        """The rows of one run."""
        part = slice(number * self.transcripts, (number + 1) * self.transcripts)
        columns = {name: getattr(self, name)[part] for name in _BY_ROW}
        return dataclasses.replace(self, runs=1, **columns)


_BY_ROW = tuple(
    each.name
    for each in dataclasses.fields(Rows)
    if each.name not in ("schema", "scorers", "ids", "runs")
)


def rows_of(examples: Sequence[Example], runs: Sequence[Sequence[Record]], schema: Schema) -> Rows:
    """Score the records of each run against the examples' gold.

    Args:
        examples: with gold for every field of the schema.
        runs: of each run one record for each example, in the examples' order.

    Raises:
        ConfigError: the schema names an unknown scorer, or a gold does not fit it.
        DataError: there are no examples, or records of other transcripts.
    """
    scorers = tuple(check_scorers(schema).values())
    ids = tuple(example.transcript.id for example in examples)
    if not ids or not runs:
        raise DataError("expected at least one example and one run to score, got none; add some.")
    for records in runs:
        _check_order(ids, records)
    gold = [schema.canonical(example.gold) for example in examples] * len(runs)
    records = [record for run in runs for record in run]
    shape = (len(records), len(schema.fields))
    score, was_right = np.zeros(shape), np.zeros(shape, dtype=bool)
    source, confidence = np.full(shape, -1, dtype=np.int64), np.full(shape, np.nan)
    said: list[dict[str, Json]] = []
    for row, (record, truth) in enumerate(zip(records, gold, strict=True)):
        values: dict[str, Json] = {}
        for column, (field, by) in enumerate(zip(schema.fields, scorers, strict=True)):
            entry = None if record.error else record.fields.get(field.name)
            values[field.name] = ABSENT if entry is None else _canonical(field, entry.value)
            if entry is None or values[field.name] is ABSENT:
                continue
            score[row, column] = by.score(truth[field.name], values[field.name])
            source[row, column] = SOURCES.index(entry.source)
            if entry.confidence is not None:
                confidence[row, column] = entry.confidence
            if entry.source == "rule override":
                model = _canonical(field, entry.model_value)
                if model is not ABSENT:
                    was_right[row, column] = by.score(truth[field.name], model) >= 1
        said.append(values)
    return Rows(
        schema=schema,
        scorers=scorers,
        ids=ids,
        runs=len(runs),
        cluster=np.tile(_ranks(ids), len(runs)),
        gold=tuple(gold),
        said=tuple(said),
        score=score,
        right=score >= 1,
        was_right=was_right,
        source=source,
        confidence=confidence,
        failed=np.array([bool(record.error) for record in records]),
        reviewed=np.array([bool(record.error or record.review) for record in records]),
    )


def _canonical(field: Field, value: Json) -> Json:
    try:
        return field.canonical(value)
    except ConfigError:
        return ABSENT


def _check_order(ids: Sequence[str], records: Sequence[Record]) -> None:
    got = [record.transcript_id for record in records]
    if len(got) != len(ids):
        raise DataError(
            f"expected one record for each of {len(ids)} transcripts, got {len(got)}; score the "
            "records of the same split."
        )
    for expected, found in zip(ids, got, strict=True):
        if expected != found:
            raise DataError(
                f"expected the records in the order of the transcripts, {expected!r} next, got "
                f"{found!r}; score the records of the same split."
            )


def _ranks(ids: Sequence[str]) -> NDArray[np.int64]:
    """Each transcript's place among the sorted ids; equal ids stay different transcripts."""
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[sorted(range(len(ids)), key=lambda place: ids[place])] = np.arange(len(ids))
    return ranks
