"""Worked cases of the procedures: what is done in which order, written out by hand.

This is the planner's side. The rules do not read it; they read the procedure book.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COMPLIANT", "HARMLESS", "SCENARIOS", "SENSITIVE", "Scenario", "step_of"]

SENSITIVE = ("refund", "credit", "address", "password", "sim", "router", "cancel", "user", "plan")
_STEPS = frozenset(
    {"account", "identify", "code", "test", "fee", "consent", "readback", "approval", "ticket"}
    | {"visit"}
)


@dataclass(frozen=True)
class Scenario:
    """One worked case, without a flaw.

    Attributes:
        flow: the first request.
        course: its events, in order.
        gates: steps of the course without which the action would break the procedure.
        outcome: how it ends.
        origin: who brings money up.
        cents: lowest and highest amount of money back (given or demanded).
        dollars: lowest and highest fee or price.
    """

    name: str
    flow: str
    course: tuple[str, ...]
    gates: tuple[str, ...] = ()
    outcome: str = "done"
    origin: str = "none"
    cents: tuple[int, int] = (300, 1500)
    dollars: tuple[int, int] = (35, 160)

    @property
    def acts(self) -> bool:
        """Whether a sensitive action is taken."""
        return any(event.startswith("do.") for event in self.course)


def step_of(event: str) -> str | None:
    """The step that an event completes, if any."""
    if event.startswith("do."):
        return event[3:]
    return event if event in _STEPS else None


def _case(name: str, flow: str, course: str, gates: str = "", **more: object) -> Scenario:
    return Scenario(name, flow, tuple(course.split()), tuple(gates.split()), **more)  # type: ignore[arg-type]


_SMALL, _MEDIUM, _LARGE = (300, 1500), (1600, 9900), (10100, 24000)
_MONTHLY, _DEVICE = (29, 79), (25, 90)
_ASKED = {"origin": "customer"}

_ACTIONS = (
    _case("refund_small", "refund", "account look do.refund", "account", cents=_SMALL, **_ASKED),
    _case("refund_small_checked", "refund", "account identify look do.refund", "account",
          cents=_SMALL, **_ASKED),
    _case("refund_medium", "refund", "account identify look do.refund", "account identify",
          cents=_MEDIUM, **_ASKED),
    _case("refund_large", "refund", "account identify look approval do.refund",
          "account identify approval", cents=_LARGE, **_ASKED),
    _case("outage_offered", "outage", "account offer do.credit", "account", origin="company",
          cents=(500, 4500)),
    _case("outage_offered_checked", "outage", "account identify offer do.credit", "account",
          origin="company", cents=(500, 4500)),
    _case("outage_asked", "outage", "demand account identify agree do.credit", "account identify",
          cents=(500, 4500), **_ASKED),
    _case("address", "address", "account identify details readback do.address",
          "account identify readback"),
    _case("password", "password", "account code do.password", "account code"),
    _case("sim", "sim", "account identify code do.sim", "account identify code"),
    _case("router_free", "router", "account test free do.router", "account test"),
    _case("router_fee", "router", "damage account test fee consent do.router",
          "account test fee consent", dollars=_DEVICE),
    _case("cancel_fee", "cancel", "account identify fee consent do.cancel",
          "account identify fee consent"),
    _case("cancel_free", "cancel", "account identify free consent do.cancel",
          "account identify consent"),
    _case("user", "user", "account identify consent do.user", "account identify consent"),
    _case("plan_up", "plan", "account fee consent do.plan", "account fee consent",
          dollars=_MONTHLY),
    _case("plan_free", "plan", "account free consent do.plan", "account consent"),
)  # fmt: skip

_NO_ACTION = (
    _case("questions", "info", "question question question", outcome="answered"),
    _case("fault_ticket", "info", "account test ticket", outcome="pending"),
    _case("fault_visit", "info", "account test visit", outcome="pending"),
    _case("refund_refused", "refund", "account refuse", outcome="refused", cents=(500, 9000),
          **_ASKED),
    _case("refund_refused_checked", "refund", "account identify refuse", outcome="refused",
          cents=(1600, 20000), **_ASKED),
    _case("outage_refused", "outage", "demand account refuse", outcome="refused",
          cents=(500, 6000), **_ASKED),
    _case("outage_refused_checked", "outage", "demand account identify refuse", outcome="refused",
          cents=(500, 6000), **_ASKED),
    _case("address_mismatch", "address", "account mismatch", outcome="refused"),
    _case("sim_mismatch", "sim", "account mismatch", outcome="refused"),
    _case("user_mismatch", "user", "account mismatch", outcome="refused"),
    _case("cancel_withdrawn", "cancel", "account identify fee decline", outcome="withdrawn"),
    _case("plan_withdrawn", "plan", "account fee decline", outcome="withdrawn", dollars=_MONTHLY),
    _case("router_withdrawn", "router", "damage account test fee decline", outcome="withdrawn",
          dollars=_DEVICE),
    _case("password_handed", "password", "account handed ticket", outcome="pending"),
    _case("sim_handed", "sim", "account identify handed ticket", outcome="pending"),
)  # fmt: skip

SCENARIOS = {scenario.name: scenario for scenario in (*_ACTIONS, *_NO_ACTION)}

# How often each comes up. Refunds and outages come twice, since two of the flaws are theirs alone:
# the flow must not give the verdict away.
COMPLIANT = (*(s.name for s in _ACTIONS), "refund_small", "refund_medium", "outage_offered")
HARMLESS = (*(s.name for s in _NO_ACTION), "questions")
