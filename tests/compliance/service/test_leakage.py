"""Nothing of one split stands in another: no phrasing, no sentence, no name."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from sparseft.compliance.service import SPLITS, simulate
from sparseft.compliance.service import facts as tables
from sparseft.compliance.service.phrases import banks
from sparseft.compliance.service.planner import draw_plan
from sparseft.compliance.service.render import templates
from sparseft.compliance.transcript import Example

_PAIRS = list(combinations(SPLITS, 2))


def _sentences(examples: list[Example], least: int) -> set[str]:
    found = set()
    for example in examples:
        for turn in example.transcript.turns:
            for sentence in re.split(r"(?<=[.!?])\s+", turn.text):
                words = re.sub(r"[^a-z0-9 ]", "", sentence.lower()).split()
                if len(words) > least:
                    found.add(" ".join(words))
    return found


@pytest.mark.parametrize(("one", "other"), _PAIRS)
def test_no_long_sentence_is_shared(one: str, other: str) -> None:
    left, right = (_sentences(simulate(300, 0, split), 6) for split in (one, other))
    assert len(left) > 400 and len(right) > 200
    assert not left & right


@pytest.mark.parametrize(("one", "other"), _PAIRS)
def test_no_phrasing_is_used_twice(one: str, other: str) -> None:
    used = [
        {name for index in range(300) for name in templates(draw_plan(split, 0, index))}
        for split in (one, other)
    ]
    assert all(len(each) > 100 for each in used)
    assert not used[0] & used[1]


@pytest.mark.parametrize(("one", "other"), _PAIRS)
def test_no_template_text_stands_in_two_splits(one: str, other: str) -> None:
    for bank, splits in banks().items():
        bare = [
            {re.sub(r"[^a-z{}_ ]", "", text.lower()).strip() for text in splits[split]}
            for split in (one, other)
        ]
        # Only a value and nothing else, such as "{email}", says nothing of its own.
        assert not {text for text in bare[0] & bare[1] if " " in text}, bank


@pytest.mark.parametrize("table", ["_AGENTS", "_FIRST", "_LAST", "_WORDS", "_DOMAINS"])
def test_names_are_apart(table: str) -> None:
    names = {split: set(text.split()) for split, text in getattr(tables, table).items()}
    for one, other in _PAIRS:
        assert not names[one] & names[other]


@pytest.mark.parametrize("table", ["_STREETS", "_PLANS"])
def test_longer_names_are_apart(table: str) -> None:
    names = {split: set(text.split("|")) for split, text in getattr(tables, table).items()}
    for one, other in _PAIRS:
        assert not names[one] & names[other]


def test_ids_are_apart() -> None:
    pattern = re.compile(r"AC-?\s?\d{4}|TK-\d{5}|[\w.]+@[\w.]+", re.IGNORECASE)
    ids = {
        split: {
            match.upper().replace(" ", "").replace("-", "")
            for example in simulate(300, 0, split)
            for match in pattern.findall(example.transcript.render())
        }
        for split in SPLITS
    }
    for one, other in _PAIRS:
        assert not ids[one] & ids[other]
