"""How much surer a reader is than it is right: a temperature for each field (Guo et al. 2017).

Legend: C values, m candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sparseft.compliance.encoder.outcome import TextScores, sigmoid, softmax
from sparseft.compliance.encoder.plan import FieldPlan
from sparseft.compliance.encoder.rows import Read
from sparseft.compliance.fields import Field
from sparseft.compliance.transcript import Json

__all__ = ["chance_of", "fit_heat"]

_HEATS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_LEAST = 0.002  # a probability below which one wrong field would decide


def fit_heat(
    field: Field, plan: FieldPlan, seen: Sequence[tuple[Read, TextScores]], golds: Sequence[Json]
) -> float:
    """The heat of 1 to 6 under which the field's true values of validation are likeliest.

    Args:
        seen: what was read of each validation example.
        golds: the field's true value of each, canonical.
    """

    def fit(heat: float) -> float:
        chances = [
            chance_of(field, plan, read, scores, gold, heat)
            for (read, scores), gold in zip(seen, golds, strict=True)
        ]
        return math.fsum(math.log(max(each, _LEAST)) for each in chances)

    # Of equals the first: a field that is always right keeps its scores.
    return max(_HEATS, key=fit)


def chance_of(
    field: Field, plan: FieldPlan, read: Read, scores: TextScores, value: Json, heat: float
) -> float:
    """The probability that a reader gives to a field's value; not for lists, which have chains."""
    name = field.name
    if name in scores.choices:
        chances = softmax(scores.choices[name] / heat)  # [C]
        return float(chances[plan.values[name].index(value)])
    if name in scores.labels:
        single = sigmoid(scores.labels[name] / heat)  # [C]
        held = np.array([value] if field.kind == "boolean" else [v in value for v in field.choices])
        return float(np.prod(np.where(held, single, 1 - single)))
    chances = softmax(scores.pointers[name] / heat)  # [m + 1]
    if value is None:
        return float(chances[-1])
    found = [each.value == value for each in read.candidates[name]]
    return float(chances[:-1][np.array(found, dtype=bool)].sum())
