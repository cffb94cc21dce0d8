"""Whether a confidence means what it says, and what leaving the unsure ones out would gain.

Ties never depend on the order of the rows: equal confidences share a bin, and a curve passes
through them in a straight line (the mean over all orders).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sparseft.compliance.scores.intervals import wilson
from sparseft.compliance.scores.rows import Rows
from sparseft.compliance.transcript import Json

__all__ = ["calibration", "calibration_scores", "risk_coverage"]

Array = NDArray[np.float64]

_BINS = 15
_LEAST_IN_BIN = 10
_CURVE_POINTS = 100


def calibration_scores(rows: Rows) -> dict[str, Json]:
    """`calibration` of all values with a confidence together, and of the critical field alone.

    Confidences belong to the model's values; a rule's value has none and is left out here.
    """
    known = np.isfinite(rows.confidence)
    found = {"values": calibration(rows.confidence[known], rows.right[known])}
    critical = None
    if rows.schema.critical is not None:
        place = rows.place(rows.schema.critical)
        mask = known[:, place]
        critical = calibration(rows.confidence[mask, place], rows.right[mask, place])
    return {**found, "critical": critical}


def calibration(confidence: Array, right: NDArray[np.bool_]) -> dict[str, Json] | None:
    """Calibration of n values; None without any.

    - ece: expected calibration error, mean |confidence − accuracy| over bins of about equal mass.
      It is biased upward where bins hold few values.
    - rmsce: root mean square of the same gaps, debiased: each bin's squared gap less the variance
      acc (1 − acc) / (n_bin − 1) of its accuracy (Kumar, Liang and Ma, NeurIPS 2019); bins of one
      value are left out of it.
    - brier: mean (confidence − right)².
    - aurc: area under the risk-coverage curve (Geifman and El-Yaniv, ICLR 2019), with
      aurc_best, that of a confidence that ranks every right value above every wrong one.

    Args:
        confidence: [n] in [0, 1].
        right: [n].
    """
    count = len(confidence)
    if count == 0:
        return None
    bins, gaps, squares, squared_count = [], 0.0, 0.0, 0
    for members in _equal_mass_bins(confidence):
        size, mean = len(members), float(confidence[members].mean())
        hits = int(right[members].sum())
        accuracy, (low, high) = hits / size, wilson(hits, size)
        bins.append(
            {"count": size, "confidence": mean, "accuracy": accuracy, "low": low, "high": high}
        )
        gaps += size * abs(mean - accuracy)
        if size > 1:
            noise = accuracy * (1 - accuracy) / (size - 1)
            squares += size * ((mean - accuracy) ** 2 - noise)
            squared_count += size
    coverage, risk = risk_coverage(confidence, right)
    kept = np.unique(np.linspace(0, count - 1, _CURVE_POINTS).round().astype(int))
    return {
        "count": count,
        "accuracy": float(right.mean()),
        "confidence": float(confidence.mean()),
        "ece": gaps / count,
        "rmsce": math.sqrt(max(0.0, squares / squared_count)) if squared_count else None,
        "brier": float(((confidence - right) ** 2).mean()),
        "aurc": float(risk.mean()),
        "aurc_best": float(risk_coverage(right.astype(np.float64), right)[1].mean()),
        "bins": bins,
        "risk_coverage": [[float(coverage[k]), float(risk[k])] for k in kept],
    }


def risk_coverage(confidence: Array, right: NDArray[np.bool_]) -> tuple[Array, Array]:
    """The share of values kept [n], most confident first, and the share of wrong ones in it [n]."""
    order = np.argsort(-confidence, kind="stable")
    _, starts, sizes = np.unique(-confidence[order], return_index=True, return_counts=True)
    wrong = (~right[order]).astype(np.float64)
    # Within a tie every value carries the tie's share of errors.
    shared = np.repeat(np.add.reduceat(wrong, starts) / sizes, sizes)
    kept = np.arange(1, len(wrong) + 1)
    return kept / len(wrong), np.cumsum(shared) / kept


def _equal_mass_bins(confidence: Array) -> list[NDArray[np.int64]]:
    """Places of the values of each bin, least confident first; equal confidences together."""
    count = len(confidence)
    wanted = max(1, min(_BINS, count // _LEAST_IN_BIN))
    _, inverse, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - (sizes + 1) / 2  # the mean rank of each different confidence
    of_value = np.floor(middle * wanted / count).astype(np.int64)[inverse]
    return [np.flatnonzero(of_value == b) for b in np.unique(of_value)]
