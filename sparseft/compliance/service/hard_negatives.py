"""Minimal pairs: a conversation changed in one thing that decides (or does not decide) the verdict.

A variant keeps the wording of everything that is not changed, and its gold is as exact as the
original's, since both are made from a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from sparseft.compliance.service.edits import claim, exempt, postpone, refuse, remove, unexempt
from sparseft.compliance.service.plan import Plan
from sparseft.compliance.service.planner import base_plan, draw_plan, parse_name
from sparseft.compliance.service.render import render, render_with_evidence
from sparseft.compliance.transcript import Example
from sparseft.errors import ConfigError, DataError

__all__ = ["KINDS", "hard_negatives"]


def _removed(plan: Plan, random: Random) -> Plan | None:
    steps = [step for step in plan.scenario.gates if step != "fee"]
    return remove(plan, random.choice(steps), random) if steps else None


def _late(plan: Plan, random: Random) -> Plan | None:
    return _first(plan, random, postpone)


def _claimed(plan: Plan, random: Random) -> Plan | None:
    return _first(plan, random, claim)


def _first(plan: Plan, random: Random, edit: Callable[[Plan, str], Plan | None]) -> Plan | None:
    fitting = ("identify", "code", "approval", "readback")
    steps = [step for step in plan.scenario.gates if step in fitting]
    random.shuffle(steps)
    made = (edit(plan, step) for step in steps)
    return next((each for each in made if each is not None), None)


def _refused(plan: Plan, random: Random) -> Plan | None:
    return refuse(plan)


def _repaired(plan: Plan, random: Random) -> Plan | None:
    return plan


_EDITS: dict[str, Callable[[Plan, Random], Plan | None]] = {
    "removed": _removed,
    "late": _late,
    "claimed": _claimed,
    "refused": _refused,
    "exempt": exempt,
    "not_exempt": unexempt,
    "repaired": _repaired,
}

KINDS = tuple(_EDITS)


def hard_negatives(example: Example, kinds: Sequence[str] | None, seed: int) -> list[Example]:
    """Variants of a simulated conversation across the critical boundary, at most one of each kind.

    - removed: a required step is left out with its turns, perhaps only announced;
    - late: a required step comes after the sensitive action;
    - claimed: the agent says that a check was passed, but nothing was asked or given;
    - refused: the money is demanded as before, and not given;
    - exempt: a condition changes so that a step is not due, and the step is gone;
    - not_exempt: a condition changes so that a step is due that is not taken;
    - repaired: a conversation with a flaw, without it.

    All but `repaired` start from the conversation without its flaw. A kind that does not apply
    gives nothing.

    Args:
        example: of `simulate`; its plan is drawn again from its name.
        kinds: of `KINDS`; None: all.
        seed: draws which step, and new amounts.

    Raises:
        ConfigError: an unknown kind.
        DataError: the example is not one of `simulate`.
    """
    for kind in kinds or ():
        if kind not in _EDITS:
            raise ConfigError(f"expected kinds of {', '.join(KINDS)}, got {kind!r}; change it.")
    split, drawn_by, index = parse_name(example.transcript.id)
    original = draw_plan(split, drawn_by, index)
    if render(original).turns != example.transcript.turns:
        raise DataError(
            f"expected the conversation {example.transcript.id} as simulate() wrote it, got "
            "another text; simulate it again with this version."
        )
    base = base_plan(split, drawn_by, index)
    found = []
    for kind in KINDS if kinds is None else kinds:
        random = Random(f"service|{example.transcript.id}|{seed}|{kind}")
        variant = _EDITS[kind](base, random)
        if variant is None:
            continue
        if variant.events == original.events and variant.gold() == example.gold:
            continue
        variant = replace(variant, name=f"{original.name}~{kind}.{seed}")
        transcript, shown = render_with_evidence(variant)
        found.append(
            Example(
                transcript,
                variant.gold(),
                tags=(*variant.tags(), f"hard_negative:{kind}"),
                group=example.group,
                evidence=shown,
            )
        )
    return found
