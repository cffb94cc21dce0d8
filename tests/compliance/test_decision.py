"""Temperatures and thresholds from validation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.compliance.decision import (
    Decision,
    Seen,
    alarm_threshold,
    fit_decision,
    temperature,
    tempered,
)
from sparseft.compliance.schema import parse_schema
from sparseft.errors import ConfigError

_SCHEMA = parse_schema(
    "name: x\ncritical: {field: v, alarm: [bad]}\n"
    "fields: {v: {kind: enum, values: [good, bad, na]}}",
    "x.yaml",
)


def test_temperature_is_found_again() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(1.0, 2.0, 20_000)
    right = random.random(20_000) < 1 / (1 + np.exp(-logits))
    for heat in (0.5, 1.0, 3.0):
        shares = 1 / (1 + np.exp(-logits * heat))
        found = temperature(list(shares), list(right))
        assert found == pytest.approx(heat, rel=0.1)
        again = np.array([tempered(p, found) for p in shares])
        assert abs(again.mean() - right.mean()) < 0.01


def test_nothing_to_fit_leaves_probabilities_alone() -> None:
    assert temperature([0.9, 0.8], [True, True]) == 1.0
    assert temperature([], []) == 1.0


@given(st.floats(0, 1), st.floats(0.25, 8))
def test_tempering_keeps_order_and_halves(p: float, heat: float) -> None:
    assert 0 <= tempered(p, heat) <= 1
    assert (tempered(p, heat) - 0.5) * (p - 0.5) >= 0


def test_no_alarm_of_validation_is_missed() -> None:
    alarms, others = [0.9, 0.3, 0.6], [0.1, 0.2, 0.4]
    assert alarm_threshold(alarms, others, 1.0) == pytest.approx(0.3)
    assert alarm_threshold(alarms, others, 0.5) == pytest.approx(0.15)
    assert alarm_threshold([0.99], others, 1.0) == 0.5  # a likely alarm is always one
    assert alarm_threshold([], others, 0.5) == 0.2


def test_alarms_that_would_cost_too_many_false_ones_are_left_to_a_person() -> None:
    alarms, others = [0.9, 0.04, 0.6], [0.1, 0.2, 0.05, 0.03, 0.35]
    assert alarm_threshold(alarms, others, 1.0, 0.3) == pytest.approx(0.04)
    assert alarm_threshold(alarms, others, 1.0, 0.5) == pytest.approx(0.5)
    assert alarm_threshold(alarms, others, 0.5, 0.5) == pytest.approx(0.3)
    assert alarm_threshold([0.1], [0.9], 1.0, 0.9) == 0.5  # no threshold is good enough
    rows = [(0.9, 0.04, "bad"), (0.1, 0.8, "bad"), *[(0.9, 0.1, "good")] * 9]
    decision = fit_decision(_SCHEMA, [Seen("v", 0.9, True)], _critical(rows), 1.0, 0.5)
    assert decision.alarm == 0.5 and decision.facts["missed"] == 1
    assert decision.review == pytest.approx(0.9)


def test_the_threshold_decides_and_ties_go_to_the_alarm() -> None:
    decision = Decision(alarm=0.2)
    assert decision.value({"good": 0.8, "bad": 0.2, "na": 0.0}, ["bad"]) == "bad"
    assert decision.value({"good": 0.7, "bad": 0.19, "na": 0.11}, ["bad"]) == "good"
    assert Decision().value({"good": 0.5, "bad": 0.4, "na": 0.1}, ["bad"]) == "good"


def _critical(rows: list[tuple[float, float, str]]) -> list[tuple[dict[str, float], str]]:
    return [({"good": g, "bad": b, "na": 1 - g - b}, true) for g, b, true in rows]


def test_a_fit_says_what_validation_showed() -> None:
    rows = [(0.9, 0.05, "good"), (0.5, 0.4, "bad"), (0.6, 0.3, "good"), (0.1, 0.8, "bad")]
    rows.append((0.7, 0.1, "na"))  # a harmless verdict that was wrong
    decision = fit_decision(_SCHEMA, [Seen("v", 0.9, True)], _critical(rows), 0.5)
    assert decision.alarm == pytest.approx(0.2)
    assert decision.review == pytest.approx(0.7)
    assert decision.facts["missed"] == 0 and decision.facts["false_alarms"] == 1
    assert decision.facts["miss_bound"] == pytest.approx(1 - 0.05**0.5)
    assert Decision.from_json(json.loads(json.dumps(decision.to_json()))) == decision


def test_fields_with_enough_errors_get_a_temperature_of_their_own() -> None:
    random = np.random.default_rng(0)
    seen = [Seen("sure", 0.99, bool(random.random() < 0.6)) for _ in range(200)]
    seen += [Seen("rare", 0.99, True) for _ in range(10)]
    decision = fit_decision(_SCHEMA, seen, [], 0.5)
    assert decision.alarm is None
    assert decision.confidence("sure", 0.99) < 0.75
    assert decision.temperatures["rare"] == pytest.approx(decision.temperatures["sure"], rel=0.2)
    assert decision.confidence("unknown", 0.7) == pytest.approx(0.7)


@pytest.mark.parametrize("content", [{}, {"temperatures": 1}, {"alarm": "x"}])
def test_damaged_thresholds_are_refused(content: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="thresholds as sparseft wrote them"):
        Decision.from_json(content)
