"""Two systems on the same transcripts: paired differences by the bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sparseft.compliance.record import Record
from sparseft.compliance.schema import Schema
from sparseft.compliance.scores.intervals import Sheet, Statistic
from sparseft.compliance.scores.metrics import Metrics
from sparseft.compliance.scores.rows import rows_of
from sparseft.compliance.scores.summary import RESAMPLES
from sparseft.compliance.transcript import Example, Json
from sparseft.errors import ConfigError

__all__ = ["compare"]


def compare(
    examples: Sequence[Example],
    ours: Sequence[Sequence[Record]],
    others: Sequence[Sequence[Record]],
    schema: Schema,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Json]:
    """How far `ours` lies from `others`, both of one or several runs on the same transcripts.

    Transcripts are drawn with replacement, the same ones for both systems and all of their runs;
    runs are averaged. The p value speaks of other transcripts, not of other seeds.

    Returns:
        By metric (field_accuracy, field_exactness, record_exact, macro_f1, critical_recall,
        critical_precision): `{"value": ours - others, "low", "high", "p", "ours", "others"}`; p is
        two-sided and at least 2 / (resamples + 1).

    Raises:
        ConfigError: a gold does not fit the schema, or resamples < 1.
        DataError: records of other transcripts.
    """
    if resamples < 1:
        raise ConfigError(f"expected resamples of 1 or more, got {resamples}; raise it.")
    sheet = Sheet()
    first = Metrics("ours", rows_of(examples, ours, schema), sheet).main()
    second = Metrics("others", rows_of(examples, others, schema), sheet).main()
    drawn = sheet.resample(resamples, seed)
    found: dict[str, Json] = {}
    for name, statistic in first.items():
        difference = _minus(statistic, second[name])
        entry = drawn.difference(difference)
        for key, each in (("ours", statistic), ("others", second[name])):
            entry[key] = drawn.estimate(each)["value"]
        found[name] = entry
    return found


def _minus(one: Statistic, other: Statistic) -> Statistic:
    def difference(sums: Mapping[str, np.ndarray]) -> np.ndarray:
        return one(sums) - other(sums)

    return difference
