"""A reader without a model: keywords turn by turn, then the rules. The baseline of the ablation.

Its keywords are those of a part of the training split's phrasings and their inflections.
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


# The first that fits wins.
_FLOWS = {
    "cancel": _any(
        r"\bcancel|\b(?:end|close|stop|terminate)\b.*(?:contract|it\b|service)|leaving"
        r"|not? (?:want to )?be a customer|don't want to be a customer"
    ),
    "password": _any(r"password|log ?in|locked out|get(?: back)? into my account"),
    "sim": _any(r"\bsim\b|(?:lost|stole|stolen).*phone|phone.*(?:lost|stolen)"),
    "router": _any(r"router|\bbox\b|modem"),
    "outage": _any(
        r"outage|offline|failure|interruption|service was gone"
        r"|(?:no|internet|line|service|connection|worked).*(?:days|week)|no connection"
    ),
    "refund": _any(
        r"refund|\bcharged?\b|overcharged|\bbill(?:ed)?\b.*\d|invoice.*\d|pay.*back|money back"
        r"|\d.*\bbill\b|paid.*\d"
    ),
    "address": _any(r"address|moved|new home"),
    "user": _any(r"\badd\b|allowed|manage my account|second user|access|talk to you about my"),
    "plan": _any(r"\bplan\b|switch|move me to|put me on|package"),
}
_DONE = {
    "refund": _any(
        r"\b(?:refunded|paid back|returned|reimbursed|reversed|sent it back)\b|way back to"
        r"|refund of.*(?:made|out)|goes back to|get(?:ting)? .*\d back|transferred to you"
        r"|off and sent it"
    ),
    "credit": _any(
        r"\bcredited\b|(?:put|added|booked|applied).*credit|off (?:your next|the coming)"
        r"|set against|\d.*in your account now"
    ),
    "address": _any(
        r"(?:changed|updated).*address|address.*(?:updated|saved|changed)|put the new street"
        r"|from now on we'll write|changed in the system|has the new address"
    ),
    "password": _any(
        r"(?:reset|cleared).*password|password.*(?:reset\b|cleared|temporary)|temporary password"
        r"|triggered a reset|old one doesn't work|been reset"
    ),
    "sim": _any(
        r"activated.*sim|sim (?:is|with).*(?:blocked|active|goes|out)|number is on|now runs on"
        r"|new (?:card|sim) is|moved your number"
    ),
    "router": _any(
        r"(?:ordered|sent|shipped|sending).*(?:router|another)|router.*(?:way|been sent|by post)"
        r"|new one goes out|put the order in|that's shipped"
    ),
    "cancel": _any(
        r"(?:i've|been) cancell?ed|contract (?:is|has been|stops)|just ended it|closed everything"
        r"|line will be switched off"
    ),
    "user": _any(
        r"(?:i've|been) added|is on your account|authori[sz]ed|may act for you now|put .* down as"
        r"|can call us and make|now has access"
    ),
    "plan": _any(
        r"switched you|you're on .*|plan has been changed|moved you over|is set up on"
        r"|i've put .* on your account, it"
    ),
}
_TEST = _any(r"\b(?:test(?:ing)?|diagnos\w+|line check|measur\w+|checking the)\b|the check on")
_FEE = _any(
    r"\bfee|costs?\b|charge|price|a month|monthly|per month|each month|every month|you(?:'d)? pay"
    r"|have to pay|on your (?:last|next) bill|to be paid|the device is|replacement is|makes"
    r"|it'd be|bills will be"
)
_ASKED = _any(
    r"\b(?:shall|should|may) i|do you (?:want|agree|allow|accept)|would you like"
    r"|are you (?:sure|fine)|is (?:that|it) (?:ok|alright)|do you agree"
)
_YES = _any(
    r"^\W*(?:yes|yep|ok|okay|fine|sure|alright|all right|agreed|exactly|that's (?:it|right)|right"
    r"|correct|absolutely|go on|please do|sounds good)"
)
_BACK = _any(
    r"read (?:that|it|this|what).* back|i(?:'ll)? repeat|did i get|is that (?:right|correct|how)"
    r"|correct\?|right\?|yes\?|i wrote down|check that with you"
)
_MATCH = _any(r"match|correct|right|agrees|confirmed|verified|fits|same as|have too|should be|says")
_NO_MATCH = _any(r"n't (?:match|agree|right)|isn't|not the one|wrong|failed|differe")
_BOSS = _any(r"supervisor|team lead|manager|boss|i asked")
_APPROVED = _any(r"approved|said yes|signed it|agrees|it's allowed")
_VISIT = _any(
    r"(?:technician|engineer|visit|colleague|somebody).*(?:booked|come|set\b|scheduled|to you on)"
    r"|booked a (?:technician|visit)"
)
_OFFER = _any(
    r"(?:like to|can) (?:give|offer|put)|offer you|fernlink gives|decided to give|for you:"
)
_UPSET = _any(
    r"angry|rude|fed up|disgrace|worst|outrageous|a joke|terrible|unacceptable|furious|unfriendly"
    r"|\bmad\b|scandal|nobody takes"
)
_REPEAT = _any(
    r"already (?:called|spoke)|third time|second time|before, the ticket|last month too|\bTK-"
    r"|contact(?:ed|ing) you (?:before|about)|last time|you promised|spoke to somebody"
)
_LATER = _any(r"\b(?:also|another|one more|something else|and we moved)\b")


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
        matches = _MATCH.search(turn.text) and not _NO_MATCH.search(turn.text)
        if (number - 1 in identified or word) and matches and "identify" not in steps:
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
