"""What an evaluation costs."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from sparseft.compliance.scores import (
    StatedCost,
    TokenPrice,
    api_cost,
    compare_costs,
    cost_per_evaluation,
    token_prices,
)
from sparseft.errors import ConfigError

_PRICE: dict[str, Any] = {
    "name": "api",
    "input_per_million": 2.0,
    "output_per_million": 8.0,
    "date": "2026-01-31",
    "source": "their page",
}


def test_by_hand() -> None:
    # 1,800 evaluations an hour at 3.60 an hour cost 0.002 each; half of the time idle: twice that.
    assert cost_per_evaluation(2.0, 3.60) == pytest.approx(0.002)
    assert cost_per_evaluation(2.0, 3.60, utilisation=0.5) == pytest.approx(0.004)
    assert cost_per_evaluation(2.0, 3.60, utilisation=0.5, concurrency=4) == pytest.approx(0.001)
    assert api_cost(TokenPrice(**_PRICE), 1500, 250) == pytest.approx(0.005)


def test_comparison() -> None:
    stated = StatedCost("LLM APIs", 0.025, 0.055, "2026-06", "arXiv 2606.05781")
    found = compare_costs(0.0125, token_prices([_PRICE]), 1500, 250, [stated])
    assert [entry["name"] for entry in found] == ["api", "LLM APIs"]
    assert found[0]["low"] == found[0]["high"] == pytest.approx(0.005)
    assert found[1]["low_ratio"] == pytest.approx(2.0)
    assert found[1]["high_ratio"] == pytest.approx(4.4)
    assert compare_costs(0.0, stated=[stated])[0]["low_ratio"] is None


def test_prices_from_yaml() -> None:
    day = datetime.date(2026, 1, 31)
    assert token_prices([{**_PRICE, "date": day}]) == (TokenPrice(**_PRICE),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"date": "last year"}, "date of api as YYYY-MM-DD"),
        ({"source": " "}, "source of api"),
        ({"input_per_million": -1}, "input_per_million of api of 0 or more"),
        ({"output_per_million": "8"}, "output_per_million to be a number"),
        ({"output_per_million": True}, "output_per_million to be a number"),
        ({"name": 3}, "name to be a text"),
        ({"currency": "EUR"}, "exactly name, input_per_million"),
    ],
)
def test_prices_that_are_none(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        token_prices([{**_PRICE, **change}])


@pytest.mark.parametrize(
    "options",
    [
        {"seconds": -1.0},
        {"price_per_hour": float("nan")},
        {"utilisation": 0.0},
        {"utilisation": 1.2},
        {"concurrency": 0},
    ],
)
def test_settings_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        cost_per_evaluation(**{"seconds": 1.0, "price_per_hour": 1.0, **options})


def test_stated_costs_are_checked() -> None:
    with pytest.raises(ConfigError, match="low <= high for x, got 2 and 1"):
        StatedCost("x", 2, 1, "2026-06", "somewhere")
