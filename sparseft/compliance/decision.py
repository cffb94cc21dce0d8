"""From the model's probabilities to decisions: temperatures, the alarm's threshold, review.

All is fitted to validation examples, which the model was not trained on. A threshold that missed
none of n alarms there misses, of further ones drawn alike, more than 1 - 0.05^(1/n) with a
probability of at most 5% (Clopper and Pearson's interval at n of n); nothing is promised beyond.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparseft.compliance.schema import Schema
from sparseft.errors import ConfigError

__all__ = ["Decision", "Seen", "alarm_threshold", "fit_decision", "temperature"]

_GRID = np.exp(np.linspace(math.log(0.25), math.log(8.0), 61))
_LEAST = 20  # validation values for a temperature of a field's own
_NO_ALARMS = 0.2  # the threshold where validation has no alarm to set it by


@dataclass(frozen=True)
class Seen:
    """What validation showed of one field of one example: the probability, and whether right."""

    field: str
    share: float
    right: bool


@dataclass(frozen=True)
class Decision:
    """How probabilities are read.

    Attributes:
        temperatures: by field; a probability p becomes p^(1/T) / (p^(1/T) + (1-p)^(1/T)).
        alarm: the critical field is an alarm where the probability of its alarm values is at least
            this; None: the likeliest value counts.
        review: a critical value of a lower confidence is marked for review.
        facts: what validation showed, for the record.
    """

    temperatures: Mapping[str, float] = field(default_factory=dict)
    alarm: float | None = None
    review: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    def confidence(self, name: str, share: float) -> float:
        """The calibrated probability that a field's value is right."""
        return tempered(share, self.temperatures.get(name, 1.0))

    def value(self, probabilities: Mapping[str, float], alarm: Sequence[str]) -> str:
        """The critical field's value."""
        if self.alarm is not None:
            alarms = {name: probabilities[name] for name in alarm}
            if sum(alarms.values()) >= self.alarm:
                return max(alarms, key=lambda name: alarms[name])
            probabilities = {n: p for n, p in probabilities.items() if n not in alarms}
        return max(probabilities, key=lambda name: probabilities[name])

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "temperatures": dict(self.temperatures),
            "alarm": self.alarm,
            "review": self.review,
            "facts": dict(self.facts),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Decision:
        """What `to_json` gave.

        Raises:
            ConfigError: something else.
        """
        try:
            return cls(
                {str(name): float(t) for name, t in content["temperatures"].items()},
                None if content["alarm"] is None else float(content["alarm"]),
                float(content["review"]),
                dict(content["facts"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"expected thresholds as sparseft wrote them, got: {error!r}; finetune again."
            ) from error


def tempered(probability: float, heat: float) -> float:
    """p^(1/T) / (p^(1/T) + (1-p)^(1/T)): binary temperature scaling (Guo et al. 2017)."""
    if probability <= 0.0 or probability >= 1.0:
        return min(max(probability, 0.0), 1.0)
    odds = (math.log(probability) - math.log1p(-probability)) / heat
    return 1.0 / (1.0 + math.exp(min(-odds, 700.0)))


def temperature(shares: Sequence[float], right: Sequence[bool]) -> float:
    """The temperature with the least negative log-likelihood, from a grid of 0.25 to 8.

    Without both right and wrong values there is nothing to fit: 1.
    """
    if len(set(right)) < 2:
        return 1.0
    p = np.clip(np.asarray(shares, dtype=np.float64), 1e-9, 1 - 1e-9)
    logits, truth = np.log(p / (1 - p)), np.asarray(right)
    signed = np.where(truth, logits, -logits)
    losses = [float(np.logaddexp(0.0, -signed / heat).mean()) for heat in _GRID]
    return float(_GRID[int(np.argmin(losses))])


def alarm_threshold(
    alarms: Sequence[float], others: Sequence[float], margin: float, precision: float = 0.0
) -> float:
    """The probability of an alarm from which one is raised.

    `margin` times the lowest probability of a true alarm, so that none is missed with room to
    spare; never above one half. Where so low a threshold would make more than a share of
    1 - `precision` of the alarms false ones, the lowest true alarms are given up until it does not
    (a person looks at such, see `fit_decision`). Without any alarm to go by, a fifth.

    Args:
        alarms: the probability given to each true alarm.
        others: that of each example that is none.
        margin: in (0, 1].
        precision: the least share of true ones among raised alarms, in [0, 1].
    """
    if not len(alarms):
        return _NO_ALARMS
    for lowest in sorted(alarms):
        threshold = min(0.5, margin * lowest)
        right = sum(each >= threshold for each in alarms)
        raised = right + sum(each >= threshold for each in others)
        if right >= precision * raised:
            return threshold
    return 0.5


def fit_decision(
    schema: Schema,
    seen: Sequence[Seen],
    critical: Sequence[tuple[Mapping[str, float], str]],
    margin: float,
    precision: float = 0.0,
) -> Decision:
    """Temperatures and thresholds from validation.

    Args:
        seen: of every model field of every example.
        critical: of every example the critical field's probabilities, and its true value; empty
            where the model has no critical field.
        margin, precision: see `alarm_threshold`. A true alarm below the threshold makes the
            threshold of review as high as its harmless verdict was sure.
    """
    everything = temperature([each.share for each in seen], [each.right for each in seen])
    temperatures = {}
    for name in dict.fromkeys(each.field for each in seen):
        own = [each for each in seen if each.field == name]
        wrong = sum(not each.right for each in own)
        fitted = everything
        if len(own) >= _LEAST and min(wrong, len(own) - wrong) >= 5:
            fitted = temperature([each.share for each in own], [each.right for each in own])
        temperatures[name] = round(fitted, 6)
    if not critical:
        return Decision(temperatures)
    chances = [sum(found[name] for name in schema.alarm) for found, _ in critical]
    alarms = [p for p, (_, true) in zip(chances, critical, strict=True) if true in schema.alarm]
    others = [p for p, (_, true) in zip(chances, critical, strict=True) if true not in schema.alarm]
    threshold = alarm_threshold(alarms, others, margin, precision)
    assert schema.critical is not None
    facts = {
        "alarms": len(alarms),
        "others": len(others),
        "lowest_alarm": min(alarms, default=None),
        "false_alarms": sum(p >= threshold for p in others),
        "missed": sum(p < threshold for p in alarms),
        # Of further alarms drawn alike, at most this share is missed, with 95% confidence.
        "miss_bound": 1.0 if not alarms else 1.0 - 0.05 ** (1.0 / len(alarms)),
    }
    review = _review(schema, critical, threshold)
    return Decision(temperatures, threshold, review, facts)


def _review(
    schema: Schema, critical: Sequence[tuple[Mapping[str, float], str]], threshold: float
) -> float:
    """The confidence below which a harmless verdict is looked at: where validation was still wrong.

    The highest confidence of a harmless verdict that was wrong, at least 0.5 and at most 0.95.
    """
    decision = Decision(alarm=threshold)
    worst = 0.5
    for found, true in critical:
        said = decision.value(found, schema.alarm)
        if said not in schema.alarm and said != true:
            worst = max(worst, found[said])
    return min(0.95, worst)
