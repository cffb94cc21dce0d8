"""Turns, slots and endpoints for tests of experts."""

from __future__ import annotations

from typing import Any

from sparseft.routing import Context
from sparseft.routing.experts import Endpoint, Prices, RetryPolicy

VARIABLE = "SPARSEFT_TEST_KEY"
KEY = "sk-sentinel-9f8e7d6c5b4a"
SLOTS = {
    "hotel-area": "where the hotel lies",
    "hotel-name": "the hotel's name",
    "train-day": "when the train goes",
}
QUICK = RetryPolicy(attempts=3, first=0.01, longest=0.02)


def context(
    number: int = 0,
    user: str = "somewhere in the north",
    dialogue: str = "d",
    **changes: Any,
) -> Context:
    """A turn."""
    facts = {"previous": {"train-day": "monday"}, "system": "Where shall it be?", **changes}
    return Context(dialogue, number, user=user, **facts)


def endpoint(url: str, **changes: Any) -> Endpoint:
    """A free endpoint, or one with other settings."""
    settings: dict[str, Any] = {
        "model": "m",
        "key_variable": VARIABLE,
        "timeout": 5.0,
        "retries": QUICK,
        "prices": Prices(prompt=10.0, answer=100.0),  # of a call of `scripted`: 0.002
    }
    return Endpoint(url, **{**settings, **changes})
