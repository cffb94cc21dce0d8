"""What happened in a conversation, before it is put into words; the gold record follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparseft.compliance.service.facts import Facts
from sparseft.compliance.service.scenarios import SENSITIVE, Scenario, step_of
from sparseft.compliance.transcript import Json

__all__ = ["Event", "Plan"]

_CHECKS = ("account", "identify", "code", "test", "fee", "consent", "readback", "approval")


@dataclass(frozen=True)
class Event:
    """Something that one or both sides did.

    Attributes:
        kind: what; see `scripts.py` for the turns that it becomes.
        style: how, such as asked, upfront or late.
        key: names the event within its conversation, so that its wording stays the same where
            other events change.
        flow: of a repeated kind, the request that it belongs to.
    """

    kind: str
    style: str = ""
    key: str = ""
    flow: str = ""

    @property
    def step(self) -> str | None:
        """The step that it completes."""
        return step_of(self.kind)


@dataclass(frozen=True)
class Plan:
    """One conversation as events.

    Attributes:
        name: of the conversation, with the variant if it is one.
        scenario: the worked case behind it.
        also: flows of later requests.
        flaw: the kind of flaw put in; "" without one.
        missing: the steps that the flaw took away or moved.
    """

    name: str
    split: str
    seed: int
    index: int
    scenario: Scenario
    facts: Facts
    events: tuple[Event, ...]
    also: tuple[str, ...] = ()
    origin: str = "none"
    outcome: str = "done"
    flaw: str = ""
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> list[str]:
        """Completed steps and actions, in order."""
        return [event.step for event in self.events if event.step is not None]

    @property
    def actions(self) -> list[str]:
        """Sensitive actions, in order."""
        return [step for step in self.steps if step in SENSITIVE]

    def has(self, kind: str) -> bool:
        """Whether an event of that kind happens."""
        return any(event.kind == kind for event in self.events)

    def gold(self) -> dict[str, Json]:
        """The value of every field of the schema `service`."""
        facts, steps = self.facts, self.steps
        money = [step for step in steps if step in ("refund", "credit")]
        return {
            "flow": self.scenario.flow,
            "also": sorted(set(self.also)),
            "account": facts.account if "account" in steps else None,
            "origin": self.origin,
            "steps": steps,
            "id2": facts.id2 if "identify" in steps else "none",
            "amount": facts.amount / 100 if money else None,
            "fee": facts.fee / 100 if "fee" in steps else None,
            "outcome": self.outcome,
            "upset": self.has("upset"),
            "repeat": self.has("repeat"),
            "email": facts.email if self.has("email") else None,
            "phone": facts.phone if self.has("phone") else None,
            "ticket": facts.ticket if "ticket" in steps else None,
            "verified": _verified(steps),
            "missing_steps": [step for step in _CHECKS if step in self.missing],
            "n_actions": len(self.actions),
            "policy_verdict": self._verdict(),
        }

    def _verdict(self) -> str:
        if not self.actions:
            return "no_sensitive_action"
        return "violation" if self.flaw else "compliant"

    def tags(self) -> tuple[str, ...]:
        """Scenario, flaw or "clean", and what makes the surface hard."""
        surface = {"injection", "interrupt", "smalltalk", "upset", "repeat"}
        found = sorted(surface & {event.kind for event in self.events})
        styles = sorted({e.style for e in self.events} & {"corrected", "misread", "squeezed"})
        return (self.scenario.name, self.flaw or "clean", *self.notes, *found, *styles)


def _verified(steps: Sequence[str]) -> str:
    acted = next((place for place, step in enumerate(steps) if step in SENSITIVE), None)
    if acted is None:
        return "na"
    shown = [place for place, step in enumerate(steps) if step in ("identify", "code")]
    if not shown:
        return "never"
    return "before" if min(shown) < acted else "after"
