"""The reader without a model: a baseline that must at least be one."""

from __future__ import annotations

from collections import Counter

import pytest

from sparseft.compliance import Transcript, Turn, load_schema
from sparseft.compliance.service import simulate
from sparseft.compliance.service.rules_only import read_by_rules

_SCHEMA = load_schema("service")


def test_it_reads_its_own_split_well_above_the_majority() -> None:
    examples = simulate(120, 9, "train")
    read = [read_by_rules(e.transcript, _SCHEMA) for e in examples]
    gold = [_SCHEMA.canonical(e.gold) for e in examples]
    right = majority = 0
    for name in _SCHEMA.names:
        right += sum(a[name] == b[name] for a, b in zip(read, gold, strict=True))
        majority += Counter(str(b[name]) for b in gold).most_common(1)[0][1]
    assert right / (18 * 120) > 0.72 > 0.62 > majority / (18 * 120)


@pytest.mark.parametrize(
    "turns",
    [
        (),
        (Turn("unknown", ""),),
        (Turn("unknown", "AC-4412 refund $5 " * 300),),
        (Turn("agent", "I've added you. I've cancelled. The refund of $5 has been made." * 30),),
    ],
)
def test_odd_input_gives_a_valid_record(turns: tuple[Turn, ...]) -> None:
    assert _SCHEMA.canonical(read_by_rules(Transcript("t", turns)))
