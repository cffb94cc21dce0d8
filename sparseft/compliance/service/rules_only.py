"""A reader without a model: keywords turn by turn, then the rules. The baseline of the ablation.

Its keywords come from the training split's phrasings and from what people usually say; the test
split's phrasings were not looked at for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sparseft.compliance.rules import apply_rules
from sparseft.compliance.schema import Schema, load_schema
from sparseft.compliance.service import rules as rules  # registers the schema's rules
from sparseft.compliance.service.text import accounts, codes, identifiers, sums, tickets
from sparseft.compliance.transcript import Json, Transcript, Turn

__all__ = ["read_by_rules"]


def _any(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_FLOWS = {
    "cancel": _any(r"\bcancel|\b(?:end|close|terminate)\b.*contract|leaving"),
    "password": _any(r"password|log ?in|locked out"),
    "sim": _any(r"\bsim\b|(?:lost|stolen).*phone|phone.*(?:lost|stolen)"),
    "router": _any(r"router|\bbox\b|modem"),
    "outage": _any(r"outage|offline|(?:no|internet|line|service|connection).*(?:days|week|since)"),
    "refund": _any(r"refund|charged?\b|overcharged|\bbill(?:ed)?\b.*\d|pay.*back|money back"),
    "address": _any(r"address|moved"),
    "user": _any(r"\badd\b|allowed|manage my account|second user|access"),
    "plan": _any(r"\bplan\b|switch|move me to|change to"),
}
_DONE = {
    "refund": _any(
        r"\b(?:refunded|paid back|returned|reimbursed|on its way back)|refund of.*(?:made|out)"
    ),
    "credit": _any(r"\bcredited\b|(?:put|added|booked|applied).*credit|is credited"),
    "address": _any(r"(?:changed|updated).*address|address.*(?:updated|saved|changed)"),
    "password": _any(r"reset your password|password (?:has been|was) reset|temporary password"),
    "sim": _any(
        r"activated.*sim|sim is (?:blocked|active)|new sim (?:now|is)|number is on the new"
    ),
    "router": _any(r"(?:ordered|sent|shipped).*router|router.*(?:on its way|been sent)"),
    "cancel": _any(
        r"(?:i've|been) cancell?ed|contract (?:is|has been) (?:ended|cancell?ed|closed)"
    ),
    "user": _any(r"(?:i've|been) added|is on your account|is authori[sz]ed"),
    "plan": _any(r"switched you|you're on .* now|plan has been changed"),
}
_TEST = _any(r"\b(?:test|testing|diagnos\w+|line check|measure)\b")
_FEE = _any(r"fee|costs?\b|charge|price|a month|monthly|per month|each month|pay\b|bill")
_ASKED = _any(
    r"\b(?:shall|should) i|do you (?:want|agree|allow|accept)|would you like|are you sure|is (?:that|it) ok"
)
_YES = _any(
    r"^\W*(?:yes|yep|ok|okay|fine|sure|alright|all right|agreed|exactly|that's (?:it|right)|correct|absolutely)"
)
_BACK = _any(
    r"read (?:that|it|this) back|repeat|did i get|is that (?:right|correct)|correct\?|right\?|yes\?"
)
_MATCH = _any(r"match|correct|right|agrees|confirmed|verified|fits")
_NO_MATCH = _any(r"n't match|isn't|not (?:the one|what)|doesn't|failed|different")
_BOSS = _any(r"supervisor|team lead|manager")
_APPROVED = _any(r"approved|said yes|signed it off|agreed")
_VISIT = _any(
    r"(?:technician|engineer|visit).*(?:booked|come|set|scheduled)|booked a (?:technician|visit)"
)
_OFFER = _any(r"(?:like to|can|we'd like to) (?:give|offer)|offer you|fernlink gives")
_UPSET = _any(r"angry|rude|fed up|disgrace|worst|outrageous|a joke|terrible|unacceptable|furious")
_REPEAT = _any(
    r"already (?:called|spoke)|third time|second time|before, the ticket|last month too|\bTK-|again about"
)
_LATER = _any(r"\b(?:also|another|one more|something else|and we moved|and another)\b")


def read_by_rules(transcript: Transcript, schema: Schema | None = None) -> dict[str, Json]:
    """All 18 fields of a conversation, without a model.

    Args:
        schema: `service`, where it is loaded already.
    """
    schema = schema or load_schema("service")
    steps = _steps(transcript)
    asked = [turn.text for turn in transcript.turns if turn.speaker != "agent"]
    flow = _flow(asked[0] if asked else "")
    given = accounts(transcript)
    shapes = identifiers(transcript)
    acts = [step for step in steps if step in _DONE]
    values: Mapping[str, Json] = {
        "flow": flow,
        "also": _also(asked[1:], flow),
        "account": given[-1][0] if given else None,
        "origin": _origin(transcript, flow),
        "steps": steps[: schema["steps"].max_items],
        "id2": next(iter(shapes), "word") if "identify" in steps else "none",
        "amount": _sum_near(transcript, _any("refund|credit|back|give|offer|wrong|mistake")),
        "fee": _sum_near(transcript, _FEE),
        "outcome": _outcome(steps, bool(acts), flow),
        "upset": any(_UPSET.search(text) for text in asked),
        "repeat": any(_REPEAT.search(text) for text in asked),
        "policy_verdict": "compliant" if acts else "no_sensitive_action",
    }
    return apply_rules(schema, transcript, values).values()


def _flow(text: str) -> str:
    return next((flow for flow, words in _FLOWS.items() if words.search(text)), "info")


def _also(texts: list[str], first: str) -> list[str]:
    found = {_flow(text) for text in texts if _LATER.search(text)} - {first}
    return sorted(found)[:2]


def _origin(transcript: Transcript, flow: str) -> str:
    for turn in transcript.turns:
        if turn.speaker == "agent" and _OFFER.search(turn.text):
            return "company"
        if turn.speaker == "customer" and _FLOWS["refund"].search(turn.text):
            return "customer"
        if turn.speaker == "customer" and flow == "outage" and sums(Transcript("", (turn,))):
            return "customer"
    return "none"


def _outcome(steps: list[str], acted: bool, flow: str) -> str:
    if acted:
        return "done"
    if "ticket" in steps or "visit" in steps:
        return "pending"
    if flow == "info":
        return "answered"
    return "withdrawn" if "fee" in steps else "refused"


def _sum_near(transcript: Transcript, words: re.Pattern[str]) -> float | None:
    for value, place in sums(transcript, "agent"):
        if words.search(transcript.turns[place.turn].text):
            return value
    return None


def _steps(transcript: Transcript) -> list[str]:
    steps: list[str] = []
    identified = {e.turn for places in identifiers(transcript).values() for _, e in places}
    given = {e.turn for _, e in accounts(transcript)}
    coded = {e.turn for _, e in codes(transcript)}
    ticketed = {e.turn for _, e in tickets(transcript)}
    turns = transcript.turns
    for number, turn in enumerate(turns):
        before = turns[number - 1] if number else Turn("unknown", "")
        if turn.speaker != "agent":
            if number in given and "account" not in steps:
                steps.append("account")
            if _YES.search(turn.text):
                if _BACK.search(before.text):
                    steps.append("readback")
                elif _ASKED.search(before.text):
                    steps.append("consent")
            continue
        word = re.search(
            r"security word", " ".join(t.text for t in turns[max(0, number - 2) : number])
        )
        if (number - 1 in identified or word) and _MATCH.search(turn.text):
            if not _NO_MATCH.search(turn.text) and "identify" not in steps:
                steps.append("identify")
        if number - 1 in coded:
            steps.append("code")
        steps.extend(_of_agent(turn, number in ticketed, before))
    return steps


def _of_agent(turn: Turn, ticketed: bool, before: Turn) -> list[str]:
    """Steps of one turn of an agent, in the order of their words."""
    found: list[tuple[int, str]] = []
    for action, words in _DONE.items():
        if match := words.search(turn.text):
            found.append((match.start(), action))
    if match := _TEST.search(turn.text):
        found.append((match.start(), "test"))
    if _BOSS.search(turn.text) and (match := _APPROVED.search(turn.text)):
        found.append((match.start(), "approval"))
    priced = sums(Transcript("", (turn,)))
    money = any(step in ("refund", "credit") for _, step in found) or _OFFER.search(turn.text)
    if priced and _FEE.search(turn.text) and not money and "mistake" not in turn.text:
        found.append((priced[0][1].start, "fee"))
    if ticketed:
        found.append((len(turn.text), "ticket"))
    if match := _VISIT.search(turn.text):
        found.append((match.start(), "visit"))
    return [step for _, step in sorted(found)]
