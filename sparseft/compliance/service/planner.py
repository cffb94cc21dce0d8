"""Draws what happens in a conversation: a worked case, perhaps a flaw, and life around it.

A plan depends on (split, seed, index) alone, so the first ten of twenty conversations are the same
as ten. Verdicts, flaws and cases go round in shuffled decks, which keeps them in balance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from random import Random

from sparseft.compliance.service.edits import FLAWS, add_flaw
from sparseft.compliance.service.facts import SPLITS, draw_facts
from sparseft.compliance.service.plan import Event, Plan
from sparseft.compliance.service.scenarios import COMPLIANT, HARMLESS, SCENARIOS, Scenario
from sparseft.errors import ConfigError, DataError

__all__ = ["base_plan", "draw_plan", "parse_name"]

_VERDICTS = ("violation",) * 7 + ("compliant",) * 7 + ("none",) * 6
_ASKABLE = ("bill", "speed", "roaming", "hours", "refunds")
# Talk and how often it comes: right behind the request, and anywhere later.
_EARLY = (("story", 0.75), ("upset", 0.25), ("repeat", 0.25))
_ANYWHERE = (
    ("wait", 0.6), ("hold", 0.4), ("smalltalk", 0.3), ("interrupt", 0.25), ("injection", 0.04),
)  # fmt: skip
_NAME = re.compile(r"service:([a-z]+):(\d+):(\d+)\Z")


def parse_name(name: str) -> tuple[str, int, int]:
    """Split, seed and index of a conversation's name.

    Raises:
        DataError: it is no name of a conversation of the simulator.
    """
    match = _NAME.match(name)
    if match is None or match[1] not in SPLITS:
        raise DataError(
            f"expected a conversation of the simulator, service:<split>:<seed>:<index>, got "
            f"{name!r}; give examples that simulate() made."
        )
    return match[1], int(match[2]), int(match[3])


def draw_plan(split: str, seed: int, index: int) -> Plan:
    """The plan of one conversation.

    Raises:
        ConfigError: an unknown split, or a negative seed or index.
    """
    plan, flaw = _drawn(split, seed, index)
    if not flaw:
        return plan
    flawed = add_flaw(plan, flaw, _random(split, seed, index, "flaw"))
    assert flawed is not None  # the deck holds only cases that the flaw fits
    return flawed


def base_plan(split: str, seed: int, index: int) -> Plan:
    """The same conversation before a flaw was put in: hard negatives start from here."""
    return _drawn(split, seed, index)[0]


def _drawn(split: str, seed: int, index: int) -> tuple[Plan, str]:
    if split not in SPLITS or seed < 0 or index < 0:
        raise ConfigError(
            f"expected a split of {', '.join(SPLITS)} and a seed and index of 0 or more, got "
            f"{split!r}, {seed} and {index}; change them."
        )
    verdict, turn = _slot(split, seed, index)
    flaw = ""
    if verdict == "violation":
        flaw = _dealt(split, seed, "flaw", FLAWS, turn)
        name = _dealt(split, seed, flaw, _fitting(flaw), turn // len(FLAWS))
    else:
        cases = COMPLIANT if verdict == "compliant" else HARMLESS
        name = _dealt(split, seed, verdict, cases, turn)
    return _plan(split, seed, index, SCENARIOS[name]), flaw


def _slot(split: str, seed: int, index: int) -> tuple[str, int]:
    """The verdict of a conversation, and how many of that verdict stand before it."""
    block, place = divmod(index, len(_VERDICTS))
    deck = _shuffled(split, seed, "verdict", _VERDICTS, block)
    verdict = deck[place]
    return verdict, block * _VERDICTS.count(verdict) + deck[:place].count(verdict)


def _dealt(split: str, seed: int, what: str, cards: Sequence[str], turn: int) -> str:
    """A card of a deck that is shuffled anew each time it is used up."""
    return _shuffled(split, seed, what, cards, turn // len(cards))[turn % len(cards)]


def _shuffled(split: str, seed: int, what: str, cards: Sequence[str], number: int) -> list[str]:
    deck = list(cards)
    _random(split, seed, number, f"deck {what}").shuffle(deck)
    return deck


@cache
def _fitting(flaw: str) -> tuple[str, ...]:
    """The cases that a flaw can be put into."""
    plans = [_plan("train", 0, 0, SCENARIOS[name]) for name in dict.fromkeys(COMPLIANT)]
    return tuple(p.scenario.name for p in plans if add_flaw(p, flaw, Random(0)) is not None)


def _random(split: str, seed: int, index: int, what: str) -> Random:
    return Random(f"service|{split}|{seed}|{index}|{what}")


def _plan(split: str, seed: int, index: int, scenario: Scenario) -> Plan:
    random = _random(split, seed, index, "plan")
    facts = draw_facts(random, split, scenario.cents, scenario.dollars)
    events = _course(random, scenario)
    events, notes = _decoys(random, scenario, events)
    later, also = _later(random, scenario)
    if "refund" in also:
        facts = replace(facts, amount=random.randint(300, 1500))
    events = [*_opening(random, scenario), *events, *later]
    events = _life(random, scenario, events)
    events.append(Event("closing"))
    events = [replace(event, key=event.key or event.kind) for event in events]
    return Plan(
        name=f"service:{split}:{seed}:{index}",
        split=split,
        seed=seed,
        index=index,
        scenario=scenario,
        facts=facts,
        events=tuple(events),
        also=also,
        origin="customer" if "refund" in also else scenario.origin,
        outcome=scenario.outcome,
        notes=notes,
    )


def _opening(random: Random, scenario: Scenario) -> list[Event]:
    return [Event("greet"), Event("request", flow=scenario.flow, style=scenario.name)]


def _course(random: Random, scenario: Scenario) -> list[Event]:
    """The case's events, with the ways in which they happen."""
    events: list[Event] = []
    course = scenario.course
    for place, kind in enumerate(course):
        style = ""
        if kind == "account":
            style = random.choices(
                ("asked", "upfront", "corrected", "misread", "squeezed"), (50, 15, 17, 9, 9)
            )[0]
            if course[place + 1 : place + 2] == ("identify",) and random.random() < 0.25:
                style = "both"
        elif kind == "identify":
            style = "volunteered" if events and events[-1].style == "both" else "asked"
        elif kind == "refuse":
            style = random.choice(("push", "plain"))
        elif kind == "question":
            number = sum(event.kind == "question" for event in events)
            style = _ASKABLE[(random.randrange(5) + number) % 5] if not number else ""
            if number:
                left = [a for a in _ASKABLE if a not in {event.style for event in events}]
                style = random.choice(left)
            events.append(Event("question", style, key=f"question {number}"))
            continue
        events.append(Event(kind, style, flow=scenario.flow))
    return events


def _decoys(
    random: Random, scenario: Scenario, events: list[Event]
) -> tuple[list[Event], tuple[str, ...]]:
    """Talk about checks that proves nothing either way."""
    kinds = [event.kind for event in events]
    if "account" not in kinds:
        return events, ()
    behind = kinds.index("account") + 1
    roll = random.random()
    if "identify" in kinds and events[behind - 1].style != "both" and roll < 0.25:
        # Announced, and then done.
        return [*events[:behind], Event("identify.announce"), *events[behind:]], ("announced",)
    unneeded = scenario.acts and "identify" not in (*scenario.gates, *kinds)
    if unneeded and roll < 0.12:  # claimed where nobody asks for it
        return [*events[:behind], Event("identify.claim"), *events[behind:]], ("idle_claim",)
    return events, ()


def _later(random: Random, scenario: Scenario) -> tuple[list[Event], tuple[str, ...]]:
    """A further request, or none."""
    if scenario.name == "questions" or random.random() > 0.35:
        return [], ()
    course, money = scenario.course, scenario.flow in ("refund", "outage")
    choices = ["info", "info"] if scenario.flow != "info" else []
    if scenario.acts and "identify" in scenario.gates and scenario.flow != "address":
        choices.append("address")
    if scenario.acts and "account" in course and not money:
        choices.append("refund")
    if not choices:
        return [], ()
    flow = random.choice(choices)
    lead = Event("second", flow=flow)
    if flow == "info":
        return [lead, Event("question", random.choice(_ASKABLE), key="question later")], ("info",)
    kinds = ("details", "readback", "do.address") if flow == "address" else ("look", "do.refund")
    return [lead, *(Event(kind, flow=flow, key=f"{kind} later") for kind in kinds)], (flow,)


def _life(random: Random, scenario: Scenario, events: list[Event]) -> list[Event]:
    """Complaints, small talk, interruptions, addresses for a confirmation."""
    found = list(events)
    start = next(i for i, event in enumerate(found) if event.kind == "request") + 1
    if found[start : start + 1] and found[start].kind in ("demand", "damage"):
        start += 1
    if found[start].style == "upfront":
        start += 1
    talk = [kind for kind, share in _EARLY if random.random() < share]
    random.shuffle(talk)
    if "repeat" in talk and scenario.name == "questions":
        talk.remove("repeat")
    found[start:start] = [Event(kind) for kind in talk]
    contacts = [k for k, share in (("email", 0.4), ("phone", 0.3)) if random.random() < share]
    for kind in contacts:
        style = "corrected" if kind == "email" and random.random() < 0.3 else ""
        found.append(Event(kind, style))
    if random.random() < 0.75:
        found.append(Event("explain"))
    for kind, share in _ANYWHERE:
        if random.random() < share:
            # Behind any event that leaves the floor to the customer.
            places = [
                i + 1
                for i, event in enumerate(found)
                if i >= start and event.style not in ("both", "upfront") and _ends(event)
            ]
            if places:
                place = random.choice(places)
                found[place:place] = [Event(kind)]
    return found


def _ends(event: Event) -> bool:
    """Whether an event is a whole exchange, behind which something else may come."""
    return event.kind in (
        "account",
        "identify",
        "code",
        "readback",
        "question",
        "email",
        "phone",
    ) or (event.kind.startswith("do."))
