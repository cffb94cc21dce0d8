"""The metrics as functions of column sums, so that one draw of transcripts serves all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseft.compliance.fields import dumps
from sparseft.compliance.scores.critical import alarms
from sparseft.compliance.scores.intervals import Array, Sheet, Statistic
from sparseft.compliance.scores.rows import ABSENT, Rows

__all__ = ["Metrics"]

_CLASSIFIED = ("enum", "boolean")


class Metrics:
    """The metrics of some rows, their columns added to a sheet.

    Args:
        name: of the rows' columns; those of several systems can lie in one sheet.
    """

    def __init__(self, name: str, rows: Rows, sheet: Sheet) -> None:
        self._name = name
        self.schema = rows.schema
        self._classes: dict[str, list[str]] = {}
        self._sheet, self._rows = sheet, rows
        self._add("rows", np.ones(len(rows.cluster)))
        self._add("score", rows.score.mean(axis=1))
        self._add("right", rows.right.mean(axis=1))
        self._add("whole", np.asarray(rows.right.all(axis=1)))
        for place, field in enumerate(rows.schema.fields):
            self._add(f"score:{field.name}", rows.score[:, place])
            self._add(f"right:{field.name}", rows.right[:, place])
            if field.kind in _CLASSIFIED:
                self._add_classes(rows, field.name)
        if rows.schema.critical is not None:
            gold, said = alarms(rows)
            self._add("alarm hits", gold & said)
            self._add("alarms", gold)
            self._add("alarms said", said)

    def _add(self, key: str, values: NDArray[Any]) -> None:
        self._sheet.add(f"{self._name}/{key}", values, self._rows.cluster, self._rows.runs)

    def _add_classes(self, rows: Rows, name: str) -> None:
        gold = np.array([dumps(values[name]) for values in rows.gold])
        said = np.array(
            ["" if values[name] is ABSENT else dumps(values[name]) for values in rows.said]
        )
        self._classes[name] = sorted(({*gold} | {*said}) - {""})
        for each in self._classes[name]:
            self._add(f"hits:{name}:{each}", (gold == each) & (said == each))
            self._add(f"both:{name}:{each}", (gold == each).astype(float) + (said == each))

    @property
    def classified(self) -> tuple[str, ...]:
        """The enum and boolean fields, which have a macro-F1."""
        return tuple(self._classes)

    def field_accuracy(self, sums: Mapping[str, Array]) -> Array:
        """Mean over fields and transcripts of the scorers' scores."""
        return self._ratio(sums, "score", "rows")

    def field_exactness(self, sums: Mapping[str, Array]) -> Array:
        """Mean over fields and transcripts of whether the value is right."""
        return self._ratio(sums, "right", "rows")

    def record_exact(self, sums: Mapping[str, Array]) -> Array:
        """The share of records with every field right."""
        return self._ratio(sums, "whole", "rows")

    def critical_recall(self, sums: Mapping[str, Array]) -> Array:
        """The share of gold alarms that are sounded."""
        return self._ratio(sums, "alarm hits", "alarms")

    def critical_precision(self, sums: Mapping[str, Array]) -> Array:
        """The share of sounded alarms that are gold."""
        return self._ratio(sums, "alarm hits", "alarms said")

    def score_of(self, field: str) -> Statistic:
        """The accuracy of one field."""
        return lambda sums: self._ratio(sums, f"score:{field}", "rows")

    def right_of(self, field: str) -> Statistic:
        """The share of right values of one field."""
        return lambda sums: self._ratio(sums, f"right:{field}", "rows")

    def f1_of(self, field: str) -> Statistic:
        """Macro-F1 of one field, over the values in gold or predictions; null is one of them."""

        def macro(sums: Mapping[str, Array]) -> Array:
            each = []
            for value in self._classes[field]:
                hits = sums[f"{self._name}/hits:{field}:{value}"]
                both = sums[f"{self._name}/both:{field}:{value}"]
                each.append(_divided(2 * hits, both))
            found = np.stack(each)
            present = np.isfinite(found)
            # A value that a resample lacks altogether has no F1 there.
            return _divided(np.where(present, found, 0.0).sum(axis=0), present.sum(axis=0))

        return macro

    def macro_f1(self, sums: Mapping[str, Array]) -> Array:
        """Mean over the enum and boolean fields of their macro-F1."""
        return np.mean([self.f1_of(field)(sums) for field in self.classified], axis=0)

    def main(self) -> dict[str, Statistic]:
        """The headline metrics that this schema has, by name."""
        found: dict[str, Statistic] = {
            "field_accuracy": self.field_accuracy,
            "field_exactness": self.field_exactness,
            "record_exact": self.record_exact,
        }
        if self.classified:
            found["macro_f1"] = self.macro_f1
        if self.schema.critical is not None:
            found["critical_recall"] = self.critical_recall
            found["critical_precision"] = self.critical_precision
        return found

    def _ratio(self, sums: Mapping[str, Array], over: str, under: str) -> Array:
        return _divided(sums[f"{self._name}/{over}"], sums[f"{self._name}/{under}"])


def _divided(over: Array, under: Array) -> Array:
    """NaN where there is nothing to divide by."""
    over, under = np.asarray(over, dtype=np.float64), np.asarray(under, dtype=np.float64)
    return np.divide(over, under, out=np.full_like(over, np.nan), where=under > 0)
