"""The few figures of a run that its record leads with; scores.json has all, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparseft.compliance.scores import cost_per_evaluation
from sparseft.config import ComplianceConfig

__all__ = ["main_metrics"]


def main_metrics(
    scores: Mapping[str, Any], seconds: Sequence[float], settings: ComplianceConfig
) -> dict[str, float]:
    """Shares in [0, 1], seconds of an evaluation, and its price where an hour's is given.

    Args:
        scores: of `sparseft.compliance.scores.score`.
        seconds: of each evaluation, one transcript at a time.
    """
    critical, majority = scores["critical"] or {}, scores["majority"] or {}
    found = {
        "field_accuracy": scores["field_accuracy"],
        "macro_f1": scores["macro_f1"],
        "majority_field_accuracy": majority.get("field_accuracy"),
        "records": scores["record_exact"],
        "critical_recall": critical.get("recall"),
        "critical_precision": critical.get("precision"),
        "valid": scores["validity"]["post_processed"],
        "reviewed": scores["review"]["reviewed"],
        "seconds_p50": float(np.percentile(seconds, 50)),
        "seconds_p95": float(np.percentile(seconds, 95)),
    }
    if settings.price_per_hour is not None:
        found["price"] = cost_per_evaluation(
            float(np.mean(seconds)), settings.price_per_hour, settings.utilisation, 1
        )
    values = {name: _value(entry) for name, entry in found.items()}
    return {name: value for name, value in values.items() if value is not None}


def _value(entry: Any) -> float | None:
    """An estimate's value; None where it is not defined."""
    value = entry["value"] if isinstance(entry, Mapping) else entry
    return None if value is None else float(value)
