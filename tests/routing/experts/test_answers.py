"""Texts of experts become deltas only where they say one."""

from __future__ import annotations

import pytest

from sparseft.errors import DataError
from sparseft.routing import DELETE
from sparseft.routing.experts import MalformedAnswer, parse_answer

_SLOTS = {"hotel-area", "hotel-stars"}


@pytest.mark.parametrize(
    ("text", "delta"),
    [
        ("{}", {}),
        ('{"hotel-area": "north"}', {"hotel-area": "north"}),
        (' \n{"hotel-area": " north "}\n', {"hotel-area": "north"}),
        ('{"hotel-stars": 4}', {"hotel-stars": "4"}),
        ('{"hotel-area": "[DELETE]"}', {"hotel-area": DELETE}),
        ('```json\n{"hotel-area": "north"}\n```', {"hotel-area": "north"}),
        ('```\n{"hotel-area": "north"}```\n', {"hotel-area": "north"}),
        ('{"hotel-area": "a ``` b"}', {"hotel-area": "a ``` b"}),
    ],
)
def test_a_delta_is_read(text: str, delta: dict[str, str]) -> None:
    assert parse_answer(text, _SLOTS) == delta


@pytest.mark.parametrize(
    "text",
    [
        "",
        "north",
        "[]",
        "null",
        '{"hotel-area": "north"',
        '{"hotel-area": "north"} and more',
        'Sure: {"hotel-area": "north"}',
        '{"hotel-area": "north", "hotel-area": "south"}',
        '{"hotel-area": null}',
        '{"hotel-area": true}',
        '{"hotel-area": ""}',
        '{"hotel-stars": 4.5}',
        '{"hotel-stars": NaN}',
        '{"hotel-area": ["north"]}',
        '{"hotel-area": "\\ud83d"}',
        '"\ud83d"',
        "[" * 100_000,
    ],
)
def test_anything_else_is_malformed(text: str) -> None:
    with pytest.raises(MalformedAnswer, match="expected"):
        parse_answer(text, _SLOTS)


def test_an_unknown_slot_is_refused_and_not_malformed() -> None:
    with pytest.raises(DataError, match="'hotel-colour'") as caught:
        parse_answer('{"hotel-colour": "red"}', _SLOTS)
    assert not isinstance(caught.value, MalformedAnswer)
