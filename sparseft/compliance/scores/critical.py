"""The critical field: alarms against the rest, and what is confused with what."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sparseft.compliance.scores.intervals import clopper_pearson, proportion
from sparseft.compliance.scores.rows import ABSENT, Rows
from sparseft.compliance.transcript import Json

__all__ = ["alarms", "critical_scores", "exact_proportion"]

_NO_RECORD = "(no record)"


def alarms(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Whether each row's gold and its record sound the alarm: two bool [N].

    A transcript without a record sounds none: it counts as missed where it should have.
    """
    schema = rows.schema
    assert schema.critical is not None
    gold = np.array([schema.is_alarm(values) for values in rows.gold])
    said = np.array([schema.is_alarm(values) for values in rows.said])
    return gold, said


def critical_scores(rows: Rows) -> dict[str, Json] | None:
    """Recall, precision, counts and confusion of the critical field; None without one.

    Counts are added up over the runs; intervals are Wilson's and Clopper and Pearson's, of the
    counts' means over the runs.
    """
    schema = rows.schema
    if schema.critical is None:
        return None
    gold, said = alarms(rows)
    true_positive = int((gold & said).sum())
    options: list[Json] = list(schema[schema.critical].choices)
    if schema[schema.critical].nullable:
        options.append(None)
    return {
        "field": schema.critical,
        "alarm": list(schema.alarm),
        "true_positive": true_positive,
        "false_positive": int((~gold & said).sum()),
        "false_negative": int((gold & ~said).sum()),
        "true_negative": int((~gold & ~said).sum()),
        "recall": exact_proportion(true_positive, int(gold.sum()), rows.runs),
        "precision": exact_proportion(true_positive, int(said.sum()), rows.runs),
        "confusion": _confusion(rows, options),
    }


def exact_proportion(successes: int, total: int, runs: int) -> dict[str, Json]:
    """`proportion` with Clopper and Pearson's interval beside Wilson's."""
    found = proportion(successes, total, runs)
    low, high = clopper_pearson(successes / runs, total / runs) if total else (None, None)
    return {**found, "exact_low": low, "exact_high": high}


def _confusion(rows: Rows, options: list[Json]) -> Mapping[str, Json]:
    """Gold in rows, predictions in columns; a last column for transcripts without a record."""
    name = rows.schema.critical
    assert name is not None
    counts = np.zeros((len(options), len(options) + 1), dtype=int)
    for truth, said in zip(rows.gold, rows.said, strict=True):
        value = said[name]
        column = len(options) if value is ABSENT else options.index(value)
        counts[options.index(truth[name]), column] += 1
    shown = ["null" if option is None else str(option) for option in options]
    predicted = [*shown, _NO_RECORD]
    if not counts[:, -1].any():
        predicted, counts = shown, counts[:, :-1]
    return {
        "gold": shown,
        "predicted": predicted,
        "counts": counts.tolist(),
        "recall": [
            proportion(int(row[place]), int(row.sum()), rows.runs)
            for place, row in enumerate(counts)
        ],
    }
