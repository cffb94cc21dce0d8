"""All figures of a split as plain data, for result.json and the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sparseft.compliance.record import Record
from sparseft.compliance.schema import Schema
from sparseft.compliance.scores.calibration import calibration_scores
from sparseft.compliance.scores.critical import critical_scores
from sparseft.compliance.scores.intervals import Resampled, Sheet, Statistic, proportion, wilson
from sparseft.compliance.scores.majority import majority_records
from sparseft.compliance.scores.metrics import Metrics
from sparseft.compliance.scores.review import review_scores
from sparseft.compliance.scores.rows import ABSENT, SOURCES, Rows, rows_of
from sparseft.compliance.scores.validity import record_flags, validity_flags
from sparseft.compliance.transcript import Example, Json
from sparseft.errors import ConfigError, DataError

__all__ = ["FORMAT", "score", "score_runs"]

FORMAT = 1
RESAMPLES = 2_000

Given = Sequence[str | bool]


def score(
    examples: Sequence[Example],
    records: Sequence[Record],
    schema: Schema,
    *,
    train: Sequence[Example] | None = None,
    raw: Given | None = None,
    constrained: Given | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Json]:
    """Score one run's records against gold; see `score_runs`, which this is for a single run.

    Args:
        raw, constrained: for each example the model's text (checked here) or whether it was valid,
            decoded without and with the grammar.
    """
    return score_runs(
        examples,
        [records],
        schema,
        train=train,
        raw=None if raw is None else [raw],
        constrained=None if constrained is None else [constrained],
        seed=seed,
        resamples=resamples,
    )


def score_runs(
    examples: Sequence[Example],
    runs: Sequence[Sequence[Record]],
    schema: Schema,
    *,
    train: Sequence[Example] | None = None,
    raw: Sequence[Given] | None = None,
    constrained: Sequence[Given] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Json]:
    """Score the records of several runs (seeds) on the same transcripts, pooled.

    A *field's accuracy* is the mean of its scorer's score, which is 1 or 0 but for sets (F1) and
    where a schema names another scorer; *field accuracy* is its mean over fields. *Exactness* only
    counts values with score 1. Macro-F1 is that of the enum and boolean fields.

    An estimate is `{"value", "low", "high"}`: percentiles of a bootstrap that draws transcripts,
    with all runs' records of one together; Wilson's interval where it is 0 or 1. A proportion is
    `{"value", "low", "high", "count", "total"}` with Wilson's interval; the critical ones have
    Clopper and Pearson's as `exact_low` and `exact_high`. What is not defined is None.

    Args:
        examples: with gold.
        runs: of each run the records, in the examples' order.
        train: what the majority predictor is fitted to; None leaves it and the lift out.
        raw, constrained: of each run; see `score`.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        Plain data with the keys format, schema, transcripts, runs, failed, resamples, validity,
        field_accuracy, field_exactness, macro_f1, record_exact, by_run, majority, lift, fields,
        critical, calibration, review.

    Raises:
        ConfigError: the schema names an unknown scorer, a gold does not fit it, or resamples < 1.
        DataError: no examples, or records and flags of other transcripts.
    """
    if resamples < 1:
        raise ConfigError(f"expected resamples of 1 or more, got {resamples}; raise it.")
    rows = rows_of(examples, runs, schema)
    sheet = Sheet()
    metrics, base, base_rows = Metrics("run", rows, sheet), None, None
    if train is not None:
        constant = majority_records(schema, train, [example.transcript for example in examples])
        base_rows = rows_of(examples, [constant], schema)
        base = Metrics("majority", base_rows, sheet)
    drawn = sheet.resample(resamples, seed)
    return {
        "format": FORMAT,
        "schema": schema.name,
        "transcripts": rows.transcripts,
        "runs": rows.runs,
        "failed": int(rows.failed.sum()),
        "resamples": resamples,
        "validity": _validity(rows, runs, raw, constrained),
        "field_accuracy": _estimate(metrics.field_accuracy, drawn, rows),
        "field_exactness": _estimate(metrics.field_exactness, drawn, rows),
        "macro_f1": drawn.estimate(metrics.macro_f1) if metrics.classified else None,
        "record_exact": proportion(int(rows.right.all(axis=1).sum()), len(rows.cluster), rows.runs),
        "by_run": _by_run(rows),
        "majority": None if base_rows is None else _majority(base_rows, base, drawn),
        "lift": None if base is None else _lift(metrics, base, drawn),
        "fields": _fields(rows, metrics, base, drawn),
        "critical": critical_scores(rows),
        "calibration": calibration_scores(rows),
        "review": review_scores(rows),
    }


def _estimate(statistic: Statistic, drawn: Resampled, rows: Rows) -> dict[str, Json]:
    """A mean of scores; at 0 and 1, where every draw is the same, with Wilson's interval."""
    found = drawn.estimate(statistic)
    if found["value"] in (0.0, 1.0):
        low, high = wilson(found["value"] * rows.transcripts, rows.transcripts)
        return {**found, "low": low, "high": high}
    return found


def _validity(
    rows: Rows,
    runs: Sequence[Sequence[Record]],
    raw: Sequence[Given] | None,
    constrained: Sequence[Given] | None,
) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name, given in (("raw", raw), ("constrained", constrained)):
        found[name] = None
        if given is None:
            continue
        sizes = [len(each) for each in given]
        if sizes != [rows.transcripts] * rows.runs:
            raise DataError(
                f"expected {name} answers of {rows.runs} runs on {rows.transcripts} transcripts, "
                f"got {sizes}; give one for each record."
            )
        flags = [flag for each in given for flag in validity_flags(rows.schema, each)]
        found[name] = proportion(sum(flags), len(flags), rows.runs)
    flags = [flag for records in runs for flag in record_flags(rows.schema, records)]
    found["post_processed"] = proportion(sum(flags), len(flags), rows.runs)
    return found


def _by_run(rows: Rows) -> dict[str, Json]:
    """The headline figures of each run, in order, so that their spread can be told."""
    found: dict[str, list[Json]] = {}
    for number in range(rows.runs):
        sheet = Sheet()
        metrics = Metrics("run", rows.run(number), sheet)
        totals = sheet.resample(0, 0)
        for name, statistic in metrics.main().items():
            found.setdefault(name, []).append(_finite(totals.value(statistic)))
    return found


def _majority(rows: Rows, metrics: Metrics | None, drawn: Resampled) -> dict[str, Json]:
    assert metrics is not None
    found = {name: _finite(drawn.value(each)) for name, each in metrics.main().items()}
    return {**found, "values": dict(rows.said[0])}


def _lift(metrics: Metrics, base: Metrics, drawn: Resampled) -> dict[str, Json]:
    """Field accuracy beyond the majority's, and the share of what it left that is gained."""

    def gain(sums: Mapping[str, np.ndarray]) -> np.ndarray:
        return metrics.field_accuracy(sums) - base.field_accuracy(sums)

    def closed(sums: Mapping[str, np.ndarray]) -> np.ndarray:
        room = 1 - base.field_accuracy(sums)
        return np.divide(gain(sums), room, out=np.full_like(room, np.nan), where=room > 1e-12)

    return {"field_accuracy": drawn.difference(gain), "gap_closed": drawn.estimate(closed)}


def _fields(
    rows: Rows, metrics: Metrics, base: Metrics | None, drawn: Resampled
) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for place, field in enumerate(rows.schema.fields):
        name, known = field.name, np.isfinite(rows.confidence[:, place])
        accuracy = _estimate(metrics.score_of(name), drawn, rows)
        majority = None if base is None else drawn.value(base.score_of(name))
        found[name] = {
            "kind": field.kind,
            "by": field.by,
            "scorer": rows.scorers[place].name,
            "accuracy": accuracy,
            "exactness": proportion(int(rows.right[:, place].sum()), len(rows.cluster), rows.runs),
            "majority": majority,
            "lift": None if majority is None else accuracy["value"] - majority,
            "macro_f1": _finite(drawn.value(metrics.f1_of(name)))
            if name in metrics.classified
            else None,
            "beside": _beside(rows, place),
            "sources": {
                source: int((rows.source[:, place] == code).sum())
                for code, source in enumerate(SOURCES)
            },
            "overrides": _overrides(rows, place),
            "confidence": float(rows.confidence[known, place].mean()) if known.any() else None,
        }
    return found


def _beside(rows: Rows, place: int) -> dict[str, Json]:
    """The scorer's further figures: mean, and over how many records."""
    name, found = rows.schema.names[place], {}
    for key, measure in rows.scorers[place].beside.items():
        pairs = zip(rows.gold, rows.said, strict=True)
        values = [measure(g[name], s[name]) for g, s in pairs if s[name] is not ABSENT]
        known = [value for value in values if value is not None]
        found[key] = {"value": float(np.mean(known)) if known else None, "records": len(known)}
    return found


def _overrides(rows: Rows, place: int) -> dict[str, Json]:
    """What the rules' replacements of the model's values did."""
    replaced = rows.source[:, place] == SOURCES.index("rule override")
    right, was = rows.right[replaced, place], rows.was_right[replaced, place]
    return {
        "count": int(replaced.sum()),
        "mended": int((right & ~was).sum()),
        "broken": int((~right & was).sum()),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
