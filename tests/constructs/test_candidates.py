"""Counting, class tables and redundancy against what a loop over texts finds."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.constructs.candidates import Candidates, candidates
from sparseft.constructs.redundancy import irredundant
from sparseft.constructs.tables import class_table
from sparseft.constructs.texts import TokenisedTexts

Group = tuple[tuple[int, ...], bool]

texts_strategy = st.lists(st.lists(st.integers(0, 4), max_size=9), min_size=1, max_size=12)


def corpus_of(rows: list[list[int]], blocked: frozenset[int] = frozenset()) -> TokenisedTexts:
    sizes = [len(row) for row in rows]
    ids = np.array([i for row in rows for i in row], np.int64)
    spans = np.array([(n, n + 1) for row in rows for n in range(len(row))], np.int64).reshape(-1, 2)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return TokenisedTexts(tuple(str(row) for row in rows), ids, starts, spans, blocked)


def expected(rows: list[list[int]], longest: int, gap: int, blocked: set[int]) -> dict[Group, set]:
    found: dict[Group, set[int]] = defaultdict(set)
    for number, row in enumerate(rows):
        for start in range(len(row)):
            for end in range(start + 1, min(len(row), start + longest) + 1):
                if not blocked & set(row[start:end]):
                    found[tuple(row[start:end]), False].add(number)
            for end in range(start + 2, min(len(row), start + gap + 2)):
                if not blocked & {row[start], row[end]}:
                    found[(row[start], row[end]), True].add(number)
    return found


def counted(found: Candidates, ids: np.ndarray) -> dict[Group, set[int]]:
    result: dict[Group, set[int]] = defaultdict(set)
    for group, text in zip(found.group.tolist(), found.text.tolist(), strict=True):
        result[found.tokens(group, ids), bool(found.gapped[group])].add(text)
    return result


@given(texts_strategy, st.integers(1, 4), st.integers(0, 3), st.integers(1, 3), st.booleans())
def test_every_frequent_group_is_counted_once_a_text(
    rows: list[list[int]], longest: int, gap: int, support: int, block: bool
) -> None:
    blocked = {0} if block else set()
    corpus = corpus_of(rows, frozenset(blocked))
    found = candidates(corpus, longest, gap, support)
    wanted = {
        group: where
        for group, where in expected(rows, longest, gap, blocked).items()
        if len(where) >= support
    }
    assert counted(found, corpus.ids) == wanted
    assert len(found) == len(wanted)
    assert found.frequency.tolist() == [
        len(wanted[found.tokens(g, corpus.ids), bool(found.gapped[g])]) for g in range(len(found))
    ]
    assert (np.diff(found.group) >= 0).all()
    # Where a group is said to be, it is.
    for group, text, place, end in zip(
        found.group, found.text, found.place, found.end, strict=True
    ):
        tokens = found.tokens(int(group), corpus.ids)
        assert corpus.starts[text] <= place <= end < corpus.starts[text + 1]
        assert (corpus.ids[place], corpus.ids[end]) == (tokens[0], tokens[-1])
        if not found.gapped[group]:
            assert tuple(corpus.ids[place : end + 1]) == tokens


@given(texts_strategy, st.booleans(), st.integers(0, 100))
def test_class_counts(rows: list[list[int]], several: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (len(rows), 3)) if several else random.integers(0, 3, len(rows))
    of_text = [set(np.flatnonzero(row)) if several else {int(row)} for row in labels]
    corpus = corpus_of(rows)
    found = candidates(corpus, 3, 2, 1)
    table = class_table(found, labels, 3)
    wanted = {}
    for group, where in expected(rows, 3, 2, set()).items():
        for label in range(3):
            y = sum(label in of_text[text] for text in where)
            if y:
                wanted[group, label] = (y, len(where), sum(label in own for own in of_text))
    got = {}
    for m, (group, label) in enumerate(zip(table.group.tolist(), table.label, strict=True)):
        key = (found.tokens(group, corpus.ids), bool(found.gapped[group])), int(label)
        got[key] = tuple(int(part[m]) for part in table.counts)
    assert got == wanted


def keep(entries: list[tuple[Group, int, int, int]], gap: int = 2) -> list[Group]:
    groups = [group for group, *_ in entries]
    label, y, k = (np.array([entry[i] for entry in entries]) for i in (1, 2, 3))
    kept = irredundant(groups, label, y, k, gap=gap)
    return [group for group, yes in zip(groups, kept, strict=True) if yes]


A, B, AB, ABC, AC = (
    ((1,), False),
    ((2,), False),
    ((1, 2), False),
    ((1, 2, 3), False),
    ((1, 3), True),
)


@pytest.mark.parametrize(
    ("entries", "left"),
    [
        # A part that hardly occurs alone gives way to the whole.
        ([(A, 0, 20, 30), (AB, 0, 19, 25)], [AB]),
        # One that often does stays, and the whole stays where it points better.
        ([(A, 0, 40, 100), (AB, 0, 20, 20)], [A, AB]),
        # A whole that points no better than its part goes.
        ([(A, 0, 40, 100), (AB, 0, 10, 25)], [A]),
        # Of another class nothing is redundant.
        ([(A, 1, 20, 30), (AB, 0, 19, 25)], [A, AB]),
        # The longest of several that say the same stays; also a gapped pair is a part.
        (
            [(A, 0, 20, 20), (B, 0, 20, 20), (AB, 0, 20, 20), (ABC, 0, 20, 20), (AC, 0, 20, 20)],
            [ABC],
        ),
        # A pair has its ends as parts.
        ([(A, 0, 20, 20), (AC, 0, 20, 20)], [AC]),
        ([(A, 0, 40, 100), (AC, 0, 10, 25)], [A]),
    ],
)
def test_redundancy(entries: list[tuple[Group, int, int, int]], left: list[Group]) -> None:
    assert keep(entries) == left
    assert sorted(keep(entries[::-1])) == sorted(left)  # whatever the order


def test_a_pair_wider_than_the_gap_is_no_part() -> None:
    far = ((1, 4), True)
    whole = ((1, 2, 3, 4), False)
    assert keep([(far, 0, 20, 20), (whole, 0, 20, 20)], gap=1) == [far, whole]
    assert keep([(far, 0, 20, 20), (whole, 0, 20, 20)], gap=2) == [whole]
