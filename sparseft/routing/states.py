"""Belief states: what a dialogue has settled so far, and how one turn changes it.

A state maps a slot's name, `domain-slot` as in MultiWOZ, to its value. A delta (the turn-level
belief of Hosseini-Asl et al. 2020 and of IC-DST) maps the slots that a turn changes to their new
values; a slot that the turn takes away has the value `DELETE`.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["DELETE", "State", "applied", "difference"]

State = Mapping[str, str]
DELETE = "[DELETE]"


def applied(state: State, delta: State) -> dict[str, str]:
    """The state after a turn; taking away a slot that is not there changes nothing."""
    merged = {**state, **delta}
    return {slot: value for slot, value in merged.items() if value != DELETE}


def difference(before: State, after: State) -> dict[str, str]:
    """The delta that leads from one state to another: `applied(before, difference) == after`."""
    changed = {slot: value for slot, value in after.items() if before.get(slot) != value}
    return {**changed, **{slot: DELETE for slot in before if slot not in after}}
