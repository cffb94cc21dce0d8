"""The built-in dialogues: gold that follows from what is said, and no phrasing in both splits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparseft.errors import ConfigError
from sparseft.routing import DELETE, Turn, applied, dialogues_of, difference
from sparseft.routing.dialogues import SLOTS, read_jsonl, simulate_dialogues, write_jsonl
from sparseft.routing.dialogues.builtin import SPLITS, phrases
from sparseft.routing.dialogues.ontology import Slot, domains, slots_of, spoken_forms

_SLOTS = {slot.name: slot for domain in domains() for slot in slots_of(domain)}


@pytest.fixture(scope="module", params=SPLITS)
def turns(request: pytest.FixtureRequest) -> list[Turn]:
    return simulate_dialogues(400, 3, request.param)


def test_dialogues_are_whole(turns: list[Turn], tmp_path: Path) -> None:
    found = dialogues_of(turns)
    assert len(found) == 400
    for dialogue in found.values():
        assert 4 <= len(dialogue) <= 7
        assert [turn.number for turn in dialogue] == list(range(len(dialogue)))
        state: dict[str, str] = {}
        for turn in dialogue:
            assert (turn.system == "") == (turn.number == 0) and turn.user
            after = applied(state, turn.delta)
            assert after == turn.state and turn.delta == difference(state, after)
            state = after
    assert read_jsonl(write_jsonl(tmp_path / "t.jsonl", turns)) == turns


def test_gold_is_of_the_ontology_and_nothing_else_is_told(turns: list[Turn]) -> None:
    assert SLOTS.keys() == _SLOTS.keys() and 4 * len(domains()) <= len(SLOTS)
    for turn in turns:
        for slot, value in turn.state.items():
            assert value == "dontcare" or value in _SLOTS[slot].values
        assert re.fullmatch(r"builtin-(pool|test)-3-\d+", turn.dialogue)
        assert len(turn.domains) == 1
        assert all(slot.startswith(f"{turn.domains[0]}-") for slot in turn.delta)


def test_nothing_is_left_unfilled(turns: list[Turn]) -> None:
    for turn in turns:
        for text in (turn.system, turn.user):
            assert not re.search(r"[{}]|  | ,|,,|\.\.", text), text
            assert text == text.strip()


def test_every_value_was_said_or_stood_elsewhere(turns: list[Turn]) -> None:
    """In the user's words, a hint's, the system's, or the state of an earlier turn."""
    split = turns[0].dialogue.split("-")[1]
    hints = phrases(split)["hint"]
    for dialogue in dialogues_of(turns).values():
        for turn in dialogue:
            past = {value for before in dialogue[: turn.number] for value in before.state.values()}
            for slot, value in turn.delta.items():
                if value in ("dontcare", DELETE):
                    continue
                forms = list(spoken_forms(_SLOTS[slot], value))
                heard = f"{turn.system} {turn.user}".lower()
                forms += [line.rstrip(".") for line in hints.get(f"{slot}={value}", [])]
                assert value in past or any(_said(form, heard) for form in forms), (turn, slot)


def _said(form: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(form.lower())}(?!\w)", text) is not None


def _kinds(turns: list[Turn]) -> Iterator[str]:
    for dialogue in dialogues_of(turns).values():
        before: dict[str, str] = {}
        for turn in dialogue:
            user, system = turn.user.lower(), turn.system.lower()
            if not turn.delta:
                yield "nothing"
            if len(turn.delta) > 1:
                yield "several"
            for slot, value in turn.delta.items():
                if value in ("dontcare", DELETE):
                    yield value
                    continue
                if slot in before:
                    yield "correction"
                forms = spoken_forms(_SLOTS[slot], value)
                if not any(_said(form, user) for form in forms):
                    by_system = any(_said(form, system) for form in forms)
                    shared = any(
                        each == value and name.split("-")[0] != slot.split("-")[0]
                        for name, each in before.items()
                    )
                    yield "of the system" if by_system else "shared" if shared else "hint"
                if _others(_SLOTS[slot], value, user):
                    yield "decoy"
            before = dict(turn.state)


def _others(slot: Slot, value: str, user: str) -> bool:
    return slot.kind == "day" and any(each in user for each in slot.values if each != value)


def test_every_hard_thing_happens(turns: list[Turn]) -> None:
    counts = Counter(_kinds(turns))
    wanted = ("nothing", "several", "dontcare", DELETE, "correction", "of the system", "shared")
    for kind in (*wanted, "hint", "decoy"):
        assert counts[kind] >= 20, counts
    assert 0.05 < counts["nothing"] / len(turns) < 0.4


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _lines(each)
    else:
        yield from value


def test_no_phrasing_is_in_both_splits() -> None:
    pool, test = (phrases(split) for split in SPLITS)
    assert pool.keys() == test.keys()
    assert all(pool[p].keys() == test[p].keys() for p in pool if isinstance(pool[p], dict))
    # A line of a value alone ("{v}") would be a phrasing of both in all but name.
    assert not set(map(str.lower, _lines(pool))) & set(map(str.lower, _lines(test)))


def test_no_long_utterance_is_in_both_splits() -> None:
    said = [
        {t.user.lower().rstrip(".") for t in simulate_dialogues(400, 5, split)} for split in SPLITS
    ]
    assert not {text for text in said[0] & said[1] if len(text.split()) > 3}


def test_dialogues_depend_on_split_seed_and_number_alone() -> None:
    ten = simulate_dialogues(10, 1, "pool")
    assert simulate_dialogues(20, 1, "pool")[: len(ten)] == ten
    assert ten == simulate_dialogues(10, 1, "pool")
    users = [turn.user for turn in ten]
    assert users != [turn.user for turn in simulate_dialogues(10, 2, "pool")]
    ids = {t.dialogue for t in simulate_dialogues(10, 2, "pool")}
    assert not ids & {t.dialogue for t in [*ten, *simulate_dialogues(10, 1, "test")]}


def test_wording_varies(turns: list[Turn]) -> None:
    assert len({turn.user for turn in turns}) > 0.6 * len(turns)


def test_none_are_none_and_wrong_arguments_are_named() -> None:
    assert simulate_dialogues(0, 0, "test") == []
    with pytest.raises(ConfigError, match=r"pool, test.*'train'"):
        simulate_dialogues(1, 0, "train")
    for count, seed in ((-1, 0), (1, -1)):
        with pytest.raises(ConfigError, match="0 or more"):
            simulate_dialogues(count, seed, "pool")
