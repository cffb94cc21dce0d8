"""Puts a plan into words: turns, values, chat style and slips of the keyboard."""

from __future__ import annotations

from random import Random

from sparseft.compliance.service.phrases import phrase, with_typo
from sparseft.compliance.service.plan import Event, Plan
from sparseft.compliance.service.scripts import script
from sparseft.compliance.transcript import Evidence, Transcript, Turn

__all__ = ["render", "render_with_evidence", "templates"]

_ID2_NAMES = {
    "dob": "date of birth",
    "postcode": "postcode",
    "card": "last four card digits",
    "word": "security word",
}
_TYPOS = 0.12  # of a customer's phrasings
_CHAT = 0.25  # of customers who write small letters and leave out the full stop


def render(plan: Plan) -> Transcript:
    """The conversation of a plan. The same events get the same words in every variant of it."""
    return Transcript(plan.name, _laid_out(plan)[0])


def render_with_evidence(plan: Plan) -> tuple[Transcript, dict[str, tuple[Evidence, ...]]]:
    """The conversation, and where it shows steps, requests, a complaint, an earlier contact.

    A check is shown by the line that completes it, an action by the agent's word that it is done.
    """
    turns, places = _laid_out(plan)
    shown: dict[str, list[Evidence]] = {"flow": [], "steps": [], "also": [], "upset": []}
    shown["repeat"] = []
    for event, lines in zip(plan.events, places, strict=True):
        if event.step is not None:
            done_at_once = event.kind.startswith("do.") or event.kind in ("ticket", "visit")
            shown["steps"].append(lines[0] if done_at_once else lines[-1])
        elif event.kind == "request":
            shown["flow"].append(lines[0])
        elif event.kind == "second":
            shown["also"].append(lines[0])
        elif event.kind in ("upset", "repeat"):
            shown[event.kind].append(lines[0])
    evidence = {name: tuple(own) for name, own in shown.items()}
    return Transcript(plan.name, turns), evidence


def templates(plan: Plan) -> tuple[str, ...]:
    """Names of the phrasings used, in order."""
    return tuple(template for own in _lines(plan) for _, _, template in own)


def _laid_out(plan: Plan) -> tuple[tuple[Turn, ...], list[list[Evidence]]]:
    """The turns, and of each event where its lines stand."""
    turns: list[Turn] = []
    places: list[list[Evidence]] = []
    for own in _lines(plan):
        at = []
        for speaker, text, _ in own:
            before = ""
            if turns and turns[-1].speaker == speaker:
                before = f"{_closed(turns.pop().text)} "
            turns.append(Turn("agent" if speaker == "agent" else "customer", before + text))
            whole = len(turns[-1].text)
            at.append(Evidence(len(turns) - 1, len(before), whole))
        places.append(at)
    return tuple(turns), places


def _lines(plan: Plan) -> list[list[tuple[str, str, str]]]:
    """Of each event its lines: speaker, text, and the phrasing's name."""
    chat = _random(plan, "chat").random() < _CHAT
    values = _values(plan)
    found = []
    for event in plan.events:
        lines = []
        for speaker, bank in script(event, plan):
            random = _random(plan, f"{event.key}|{bank}")
            chosen = phrase(random, bank, plan.split)
            text = chosen.text
            if speaker == "customer":
                if random.random() < _TYPOS:
                    text = with_typo(random, text)
                if chat:
                    text = text[0].lower() + text[1:]
                    text = text[:-1] if text.endswith(".") and not text.endswith("..") else text
            lines.append((speaker, text.format_map(_own(values, event, random)), chosen.template))
        found.append(lines)
    return found


def _closed(text: str) -> str:
    return text if text[-1] in ".!?," else f"{text}."


def _random(plan: Plan, what: str) -> Random:
    return Random(f"service|{plan.split}|{plan.seed}|{plan.index}|words|{what}")


def _values(plan: Plan) -> dict[str, str]:
    facts = plan.facts
    style = _random(plan, "money").choice(("sign", "sign", "word"))
    first = facts.name.split()[0]
    return {
        "agent": facts.agent,
        "name": facts.name if _random(plan, "name").random() < 0.5 else first,
        "person": facts.person,
        "account": facts.account,
        "wrong_account": facts.wrong_account,
        "id2_name": _ID2_NAMES[facts.id2],
        "identifier": facts.identifier,
        "code": facts.code,
        "amount": _money(facts.amount, style),
        "fee": _money(facts.fee, style),
        "email": facts.email,
        "wrong_email": facts.wrong_email,
        "phone": facts.phone,
        "ticket": facts.ticket,
        "old_ticket": facts.old_ticket,
        "address": facts.address,
        "plan": facts.plan,
        "day": facts.day,
    }


def _own(values: dict[str, str], event: Event, random: Random) -> dict[str, str]:
    """The values, in the spelling of this event's speaker."""
    if event.kind == "account" and event.style == "squeezed":
        # The agent's bank `account.repeat` has {spelled}, the usual spelling.
        plain = values["account"]
        squeezed = random.choice((plain.replace("-", ""), plain.replace("-", " ").lower()))
        return {**values, "account": squeezed, "spelled": plain}
    if event.kind == "phone":
        plain = values["phone"]
        spelled = random.choice((plain, f"{plain[:4]} {plain[5:8]} {plain[8:]}"))
        return {**values, "phone": spelled}
    return values


def _money(cents: int, style: str) -> str:
    text = f"{cents // 100}" if cents % 100 == 0 and style == "word" else f"{cents / 100:.2f}"
    return f"${text}" if style == "sign" else f"{text} dollars"
