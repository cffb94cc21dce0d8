"""Flaws, and other changes across the critical boundary: a plan in, a changed plan out.

Every function gives None where the change does not apply. The wording of what is not changed stays
as it was, since each event keeps its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from sparseft.compliance.service.plan import Event, Plan
from sparseft.compliance.service.scenarios import SCENARIOS

__all__ = [
    "FLAWS",
    "add_flaw",
    "claim",
    "exempt",
    "forget_limit",
    "postpone",
    "refuse",
    "remove",
    "unexempt",
]

FLAWS = ("removed", "late", "claimed", "limit", "asked", "fee_late")

_CLAIMS = {"identify": "identify.claim", "code": "code.claim", "approval": "approval.claim"}
_MOVABLE = ("identify", "code", "readback", "approval")
# What an agent says instead of a step that is left out; nothing for the others.
_INSTEAD = {"account": "account.missing", "test": "test.skip", "readback": "readback.skip"}
_ANNOUNCED = {"identify": "identify.announce", "code": "code.announce"}


def add_flaw(plan: Plan, flaw: str, random: Random) -> Plan | None:
    """The plan with a flaw of that kind; the step is drawn where several would do."""
    money = plan.scenario.flow in ("refund", "outage")
    if flaw == "removed":
        # Money has two kinds of its own.
        steps = () if money else tuple(step for step in plan.scenario.gates if step != "fee")
        return remove(plan, random.choice(steps), random) if steps else None
    if flaw == "late":
        steps = tuple(step for step in plan.scenario.gates if step in _MOVABLE)
        return postpone(plan, random.choice(steps)) if steps else None
    if flaw == "claimed":
        steps = tuple(step for step in plan.scenario.gates if step in _CLAIMS)
        return claim(plan, random.choice(steps)) if steps else None
    if flaw == "limit":
        return forget_limit(plan, random)
    if flaw == "asked":
        asked = plan.scenario.name == "outage_asked"
        return _without(plan, "identify", "asked", random) if asked else None
    return _fee_after(plan, random)


def remove(plan: Plan, step: str, random: Random) -> Plan | None:
    """A required step is left out, perhaps announced before."""
    return _without(plan, step, "removed", random)


def postpone(plan: Plan, step: str) -> Plan | None:
    """A required step comes right after the sensitive action."""
    return _moved(plan, step, "late")


def claim(plan: Plan, step: str) -> Plan | None:
    """The agent says that a check was passed; nothing was asked or given."""
    if step not in _CLAIMS or not _required(plan, step):
        return None
    events = [
        replace(event, kind=_CLAIMS[step], style="") if event.kind == step else event
        for event in _apart(plan.events, step)
    ]
    return replace(plan, events=tuple(events), flaw="claimed", missing=(step,))


def forget_limit(plan: Plan, random: Random) -> Plan | None:
    """A refund above a limit is treated as if it were below."""
    step = {"refund_medium": "identify", "refund_large": "approval"}.get(plan.scenario.name)
    return _without(plan, step, "limit", random) if step else None


def refuse(plan: Plan) -> Plan | None:
    """Money is demanded as before, but the agent declines."""
    if plan.actions not in (["refund"], ["credit"]) or plan.origin != "customer":
        return None
    if plan.missing or plan.scenario.flow not in ("refund", "outage"):
        return None  # the money of a later request, or a plan that is changed already
    events = []
    for event in plan.events:
        if event.kind in ("look", "agree", "approval"):
            continue
        events.append(
            replace(event, kind="refuse", style="push") if event.kind.startswith("do.") else event
        )
    return replace(plan, events=tuple(events), outcome="refused")


def exempt(plan: Plan, random: Random) -> Plan | None:
    """A condition changes so that a step is not due any more, and the step goes."""
    name = plan.scenario.name
    if len(plan.actions) != 1 or plan.missing:
        return None
    if name in ("refund_medium", "refund_large"):
        fewer = _dropped(_dropped(plan.events, "identify"), "approval")
        facts = replace(plan.facts, amount=random.randint(300, 1500))
        return _now(plan, "refund_small", fewer, facts=facts)
    if name == "outage_asked":
        events = [
            replace(event, kind="offer") if event.kind == "agree" else event
            for event in _dropped(plan.events, "identify")
            if event.kind != "demand"
        ]
        return replace(_now(plan, "outage_offered", events), origin="company")
    if name in ("router_fee", "cancel_fee", "plan_up"):
        events = [
            replace(event, kind="free") if event.kind == "fee" else event
            for event in plan.events
            if event.kind != "damage"
        ]
        free = {"router_fee": "router_free", "cancel_fee": "cancel_free", "plan_up": "plan_free"}
        if name == "router_fee":
            events = [event for event in events if event.kind != "consent"]
        return _now(plan, free[name], events)
    return None


def unexempt(plan: Plan, random: Random) -> Plan | None:
    """A condition changes so that a step is due, which is not taken."""
    name = plan.scenario.name
    if plan.missing:
        return None
    if name == "refund_small":
        facts = replace(plan.facts, amount=random.randint(1600, 9900))
        changed = _now(plan, "refund_medium", plan.events, facts=facts)
        return replace(changed, flaw="not_exempt", missing=("identify",))
    if name == "refund_medium":
        facts = replace(plan.facts, amount=random.randint(10100, 24000))
        changed = _now(plan, "refund_large", plan.events, facts=facts)
        return replace(changed, flaw="not_exempt", missing=("approval",))
    if name == "outage_offered":
        events = [
            replace(event, kind="agree") if event.kind == "offer" else event
            for event in plan.events
        ]
        place = next(i for i, event in enumerate(events) if event.kind == "account")
        events.insert(place, Event("demand", key="demand"))
        changed = _now(plan, "outage_asked", events)
        return replace(changed, origin="customer", flaw="not_exempt", missing=("identify",))
    return None


def _now(plan: Plan, scenario: str, events: Sequence[Event], **more: object) -> Plan:
    return replace(plan, scenario=SCENARIOS[scenario], events=tuple(events), **more)  # type: ignore[arg-type]


def _required(plan: Plan, step: str | None) -> bool:
    return step in plan.scenario.gates and not plan.missing


def _without(plan: Plan, step: str, flaw: str, random: Random) -> Plan | None:
    if not _required(plan, step):
        return None
    other = _INSTEAD.get(step)
    if step in _ANNOUNCED and random.random() < 0.4:
        other = _ANNOUNCED[step]
    events = []
    for event in _apart(plan.events, step):
        if event.kind != step:
            events.append(event)
        elif other is not None:
            events.append(replace(event, kind=other, style=""))
    return replace(plan, events=tuple(events), flaw=flaw, missing=(step,))


def _fee_after(plan: Plan, random: Random) -> Plan | None:
    # Behind the action, or already behind the consent: both are too late.
    return _moved(plan, "fee", "fee_late", back=0 if random.random() < 0.7 else 1)


def _moved(plan: Plan, step: str, flaw: str, back: int = 0) -> Plan | None:
    """The step comes behind the first request's action, or `back` events earlier."""
    if not _required(plan, step):
        return None
    anchor = plan.events[_place_of_action(plan) - back]
    events: list[Event] = []
    for event in _apart(plan.events, step):
        if event.kind == step:
            if step == "readback":
                events.append(replace(event, kind="readback.skip", style=""))
            continue
        events.append(event)
        if event.key == anchor.key:
            moved = next(e for e in plan.events if e.kind == step)
            events.append(replace(moved, style="late"))
    return replace(plan, events=tuple(events), flaw=flaw, missing=(step,))


def _place_of_action(plan: Plan) -> int:
    """Of the first request's action."""
    action = next(kind for kind in plan.scenario.course if kind.startswith("do."))
    return next(place for place, event in enumerate(plan.events) if event.kind == action)


def _dropped(events: Sequence[Event], step: str) -> list[Event]:
    return [event for event in _apart(events, step) if event.kind != step]


def _apart(events: Sequence[Event], step: str) -> list[Event]:
    """Account and identifier asked for in one go are taken apart where one of them changes."""
    if step not in ("account", "identify"):
        return list(events)
    return [
        replace(event, style="asked") if event.style in ("both", "volunteered") else event
        for event in events
    ]
