"""Minimal pairs across the verdict's boundary."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict

import pytest

from sparseft.compliance import Example, load_schema
from sparseft.compliance.service import KINDS, hard_negatives, simulate
from sparseft.compliance.transcript import Transcript
from sparseft.errors import ConfigError, DataError

_WANTED = {
    "removed": "violation",
    "late": "violation",
    "claimed": "violation",
    "not_exempt": "violation",
    "exempt": "compliant",
    "repaired": "compliant",
    "refused": "no_sensitive_action",
}


@pytest.fixture(scope="module")
def pairs() -> dict[str, list[tuple[Example, Example]]]:
    found: dict[str, list[tuple[Example, Example]]] = defaultdict(list)
    for example in simulate(200, 7, "train"):
        for variant in hard_negatives(example, None, 1):
            found[variant.tags[-1].removeprefix("hard_negative:")].append((example, variant))
    return found


def test_every_kind_is_made_with_its_verdict(
    pairs: dict[str, list[tuple[Example, Example]]],
) -> None:
    assert set(pairs) == set(KINDS) == set(_WANTED)
    schema = load_schema("service")
    for kind, made in pairs.items():
        assert len(made) >= 20, kind
        for example, variant in made:
            assert variant.gold["policy_verdict"] == _WANTED[kind]
            assert variant.group == example.group
            assert variant.transcript.id != example.transcript.id
            assert schema.canonical(variant.gold)


def test_pairs_are_minimal(pairs: dict[str, list[tuple[Example, Example]]]) -> None:
    shares = []
    for made in pairs.values():
        for example, variant in made:
            one, other = (Counter(e.transcript.render().split()) for e in (example, variant))
            shares.append((one & other).total() / max(one.total(), other.total()))
    assert sorted(shares)[len(shares) // 2] > 0.85


def test_a_step_moved_keeps_its_words(pairs: dict[str, list[tuple[Example, Example]]]) -> None:
    for example, variant in pairs["late"]:
        if example.tags[1] == "clean" and variant.gold["missing_steps"] == ["code"]:
            (code,) = (t.text for t in example.transcript.turns if _has_code(t.text))
            assert any(code == turn.text for turn in variant.transcript.turns)


def _has_code(text: str) -> bool:
    return any(word.strip(".,").isdigit() and len(word.strip(".,")) == 6 for word in text.split())


def test_a_late_step_stands_behind_the_action(
    pairs: dict[str, list[tuple[Example, Example]]],
) -> None:
    for _, variant in pairs["late"]:
        (missing,) = variant.gold["missing_steps"]
        assert missing in variant.gold["steps"]


@pytest.mark.parametrize("kind", ["removed", "claimed", "not_exempt"])
def test_a_step_removed_or_claimed_was_not_taken(
    pairs: dict[str, list[tuple[Example, Example]]], kind: str
) -> None:
    for _, variant in pairs[kind]:
        (missing,) = variant.gold["missing_steps"]
        assert missing not in variant.gold["steps"]


def test_refused_money_was_demanded(pairs: dict[str, list[tuple[Example, Example]]]) -> None:
    for _, variant in pairs["refused"]:
        gold = variant.gold
        assert (gold["origin"], gold["amount"], gold["outcome"]) == ("customer", None, "refused")


def test_variants_are_the_same_for_the_same_seed() -> None:
    example = simulate(30, 0, "train")[3]
    assert hard_negatives(example, None, 4) == hard_negatives(example, None, 4)


def test_only_the_kinds_asked_for() -> None:
    for example in simulate(20, 0, "train"):
        made = hard_negatives(example, ("late",), 0)
        assert all(variant.tags[-1] == "hard_negative:late" for variant in made)


def test_what_applies_to_nothing_gives_nothing() -> None:
    question = next(e for e in simulate(60, 0, "train") if e.tags[0] == "questions")
    made = hard_negatives(question, None, 0)
    assert made == []


def test_unknown_kinds_and_foreign_examples_are_refused() -> None:
    example = simulate(1, 0, "train")[0]
    with pytest.raises(ConfigError, match="expected kinds of removed"):
        hard_negatives(example, ("swapped",), 0)
    foreign = dataclasses.replace(example, transcript=Transcript("call 7", ()))
    with pytest.raises(DataError, match="expected a conversation of the simulator"):
        hard_negatives(foreign, None, 0)
    changed = dataclasses.replace(example, transcript=Transcript(example.transcript.id, ()))
    with pytest.raises(DataError, match="as simulate\\(\\) wrote it"):
        hard_negatives(changed, None, 0)
