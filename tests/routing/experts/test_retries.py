"""Waits between attempts."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from sparseft.errors import ConfigError
from sparseft.routing.experts.retries import RetryPolicy, retry_after

_POLICY = RetryPolicy(first=1.0, longest=8.0, longest_asked=20.0)


@pytest.mark.parametrize(
    ("failures", "most"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (9999, 8.0)]
)
def test_waits_double_up_to_the_longest_and_half_is_drawn(failures: int, most: float) -> None:
    waits = [_POLICY.wait(failures, None, random.Random(seed)) for seed in range(200)]
    assert most / 2 <= min(waits) < 0.55 * most and 0.95 * most < max(waits) <= most


def test_the_server_is_honoured_up_to_the_cap() -> None:
    assert _POLICY.wait(1, 10.0, random.Random(0)) == 10.0
    assert _POLICY.wait(1, 1e9, random.Random(0)) == 20.0
    assert _POLICY.wait(1, 0.0, random.Random(0)) >= 0.5


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("Mon, 01 Jan 2024 00:00:30 GMT", 30.0),
        ("Sun, 31 Dec 2023 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 2024 00:00:30 -0000", 30.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, datetime(2024, 1, 1, tzinfo=UTC)) == seconds


@pytest.mark.parametrize("bad", [{"attempts": 0}, {"first": -1.0}, {"longest": float("inf")}])
def test_what_makes_no_sense_is_refused(bad: dict) -> None:
    with pytest.raises(ConfigError):
        RetryPolicy(**bad)
