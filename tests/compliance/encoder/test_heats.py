"""Heats: how much surer a reader is than it is right."""

from __future__ import annotations

import numpy as np
import pytest

from sparseft.compliance import Transcript, Turn
from sparseft.compliance.encoder import plan_of, read
from sparseft.compliance.encoder.heats import chance_of, fit_heat
from sparseft.compliance.encoder.outcome import TextScores
from sparseft.compliance.schema import parse_schema
from sparseft.compliance.transcript import Json

_SCHEMA = """
name: small
fields:
  sure: {kind: enum, values: [a, b], by: model}
  also: {kind: set, values: [x, y], max_items: 2, by: model}
  angry: {kind: boolean, by: model}
  paid: {kind: amount, minimum: 0, maximum: 100, nullable: true, by: model}
"""


def _seen(sure: float) -> tuple[object, TextScores]:
    schema = parse_schema(_SCHEMA, "small")
    got = read(Transcript("t", (Turn("agent", "Pay $4 or $5."),)), schema, plan_of(schema))
    scores = TextScores(
        {},
        {"also": np.array([0.0, np.log(3)]), "angry": np.array([np.log(4)])},
        {"sure": np.array([sure, 0.0])},
        {"paid": np.log(np.array([0.2, 0.5, 0.3]))},
        {},
    )
    return got, scores


@pytest.mark.parametrize(
    ("name", "value", "chance"),
    [
        ("sure", "a", 0.75),
        ("also", ["y"], 0.5 * 0.75),
        ("also", [], 0.5 * 0.25),
        ("angry", True, 0.8),
        ("angry", False, 0.2),
        ("paid", 4.0, 0.2),
        ("paid", 5.0, 0.5),
        ("paid", None, 0.3),
        ("paid", 7.0, 0.0),
    ],
)
def test_the_chance_of_a_value(name: str, value: Json, chance: float) -> None:
    schema = parse_schema(_SCHEMA, "small")
    got, scores = _seen(np.log(3))
    found = chance_of(schema[name], plan_of(schema), got, scores, value, 1.0)  # type: ignore[arg-type]
    assert found == pytest.approx(chance)


def test_a_reader_that_is_too_sure_is_heated_and_one_that_is_right_is_not() -> None:
    schema = parse_schema(_SCHEMA, "small")
    seen = [_seen(5.0)] * 10
    field, plan = schema["sure"], plan_of(schema)
    assert fit_heat(field, plan, seen, ["a"] * 10) == 1.0  # type: ignore[arg-type]
    assert fit_heat(field, plan, seen, ["a"] * 8 + ["b"] * 2) == 4.0  # type: ignore[arg-type]
