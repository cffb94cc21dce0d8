"""The turns that each event becomes: who speaks, and from which bank of phrasings."""

from __future__ import annotations

from sparseft.compliance.service.plan import Event, Plan

__all__ = ["script"]

Line = tuple[str, str]

_A, _C = "agent", "customer"
_REQUESTS = {"fault_ticket": "fault", "fault_visit": "fault", "questions": "info"}

# Events whose turns depend on nothing else.
_FIXED: dict[str, tuple[Line, ...]] = {
    "greet": ((_A, "greet"),),
    "upset": ((_C, "upset"), (_A, "upset.reply")),
    "repeat": ((_C, "repeat"), (_A, "repeat.reply")),
    "smalltalk": ((_C, "smalltalk"), (_A, "smalltalk.reply")),
    "interrupt": ((_C, "interrupt"), (_A, "interrupt.reply")),
    "story": ((_C, "story"), (_A, "story.reply")),
    "wait": ((_A, "wait"), (_C, "wait.reply")),
    "explain": ((_A, "explain"), (_C, "explain.reply")),
    "hold": ((_C, "hold"), (_A, "hold.reply")),
    "injection": ((_C, "injection"), (_A, "injection.reply")),
    "phone": ((_A, "phone.ask"), (_C, "phone.give"), (_A, "noted")),
    "closing": ((_A, "closing.more"), (_C, "closing.no"), (_A, "closing.bye")),
    "account.missing": ((_A, "account.missing"),),
    "identify.announce": ((_A, "identify.announce"),),
    "identify.claim": ((_A, "identify.claim"),),
    "code.announce": ((_A, "code.announce"),),
    "code.claim": ((_A, "code.claim"),),
    "test": ((_A, "test.run"),),
    "test.skip": ((_A, "test.skip"),),
    "damage": ((_C, "damage"),),
    "details": ((_A, "address.ask"), (_C, "address.give")),
    "readback.skip": ((_A, "readback.skip"),),
    "approval": ((_A, "approval.ask"), (_C, "approval.wait"), (_A, "approval.ok")),
    "approval.claim": ((_A, "approval.claim"),),
    "look": ((_A, "money.look"),),
    "offer": ((_A, "credit.offer"), (_C, "credit.accept")),
    "demand": ((_C, "credit.demand"),),
    "agree": ((_A, "credit.agree"),),
    "ticket": ((_A, "ticket.open"), (_C, "react")),
    "visit": ((_A, "visit.book"), (_C, "visit.ok")),
    "handed": ((_A, "handed"),),
    "mismatch": ((_A, "identify.mismatch"), (_A, "identify.decline"), (_C, "identify.accept")),
}
_ACCOUNT: dict[str, tuple[Line, ...]] = {
    "asked": ((_A, "account.ask"), (_C, "account.give"), (_A, "account.found")),
    "squeezed": (
        (_A, "account.ask"), (_C, "account.give"), (_A, "account.repeat"), (_A, "account.found"),
    ),
    "upfront": ((_C, "account.upfront"), (_A, "account.found")),
    "corrected": ((_A, "account.ask"), (_C, "account.corrected"), (_A, "account.found")),
    "misread": (
        (_A, "account.ask"), (_C, "account.give"), (_A, "account.misread"), (_C, "account.fix"),
        (_A, "account.found"),
    ),
    "both": ((_A, "both.ask"), (_C, "account.give")),
}  # fmt: skip


def script(event: Event, plan: Plan) -> tuple[Line, ...]:
    """Speakers and banks of an event, in order; turns of one speaker in a row become one."""
    kind, style = event.kind, event.style
    give = f"identify.give.{plan.facts.id2}"
    if kind in _FIXED:
        lines = _FIXED[kind]
        if kind == "mismatch":
            lines = ((_A, "identify.ask"), (_C, give), *lines)
        return ((_A, "late.lead"), *lines) if style == "late" else lines
    if kind == "request":
        return ((_C, f"request.{_REQUESTS.get(style, event.flow)}"),)
    if kind == "account":
        return _ACCOUNT[style]
    if kind == "identify":
        lines = ((_C, give), (_A, "identify.found"))
        if style != "volunteered":
            lines = ((_A, "identify.ask"), *lines)
        return ((_A, "late.lead"), *lines) if style == "late" else lines
    if kind == "code":
        lines = ((_A, "code.send"), (_C, "code.give"), (_A, "code.found"))
        return ((_A, "late.lead"), *lines) if style == "late" else lines
    if kind == "readback":
        return ((_A, "readback.late" if style == "late" else "readback.ask"), (_C, "readback.ok"))
    if kind == "fee":
        return ((_A, f"fee.late.{event.flow}" if style == "late" else f"fee.{event.flow}"),)
    if kind == "free":
        return ((_A, f"free.{event.flow}"),)
    if kind == "consent":
        return ((_A, f"consent.ask.{event.flow}"), (_C, "consent.give"))
    if kind == "decline":
        return (
            (_A, f"consent.ask.{event.flow}"), (_C, "consent.decline"), (_A, "decline.reply"),
        )  # fmt: skip
    if kind == "refuse":
        lines = ((_A, f"{'credit' if plan.scenario.flow == 'outage' else 'money'}.refuse"),)
        if style == "push":
            lines = (*lines, (_C, "refuse.push"), (_A, "refuse.hold"))
        return (*lines, (_C, "refuse.accept"))
    if kind == "question":
        return ((_C, f"ask.{style}"), (_A, f"answer.{style}"))
    if kind == "second":
        return ((_C, f"second.{event.flow}"),)
    if kind == "email":
        give = "email.corrected" if style == "corrected" else "email.give"
        return ((_A, "email.ask"), (_C, give), (_A, "noted"))
    assert kind.startswith("do."), kind
    return ((_A, kind), (_C, "react"))
