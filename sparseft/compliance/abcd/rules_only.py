"""A reader without a model: keywords say what was asked and done, the rules do the rest.

The lower bound of the comparison "model only, hybrid, rules only"; no part of the hybrid.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from sparseft.compliance.abcd import rules as _registered  # noqa: F401
from sparseft.compliance.abcd.plans import PLANS, STEP_CUES
from sparseft.compliance.abcd.policy import SENSITIVE
from sparseft.compliance.abcd.text import amounts
from sparseft.compliance.rules import apply_rules
from sparseft.compliance.schema import Schema, load_schema
from sparseft.compliance.transcript import Json, Transcript

__all__ = ["read_by_rules"]

_OPENING = 450  # characters, in which a customer mostly says what the matter is
_SENSITIVE = frozenset(SENSITIVE)
_CHANGING = frozenset(("update-order", "update-account"))
_IDENTITY = ("pull-up-account", "verify-identity", "validate-purchase")
Cues = Mapping[str, re.Pattern[str]]


def _cues(**texts: str) -> Cues:
    return {name: re.compile(text, re.IGNORECASE) for name, text in texts.items()}


_LEVELS = _cues(guest=r"\bguest\b", bronze=r"\bbronze\b", silver=r"\bsilver\b", gold=r"\bgold\b")
_SHIPPING = _cues(
    order_received=r"order (?:has been |was )?re[ci]+e?i?ved|order received",
    in_transit=r"in.transit",
    out_for_delivery=r"out for delivery",
    delivered=r"\bdelivered\b",
)
_REASONS = _cues(
    competitor=r"competitor|elsewhere|another (?:site|store)",
    yesterday=r"yesterday",
    spouse=r"spouse|wife|husband",
    news=r"\bnews\b",
    subscription_refund=r"subscription refund|refund.{0,20}subscription",
    previous_purchase=r"previous purchase",
    promotion=r"promotional package",
    payment=r"gift card|paper check|credit card|debit card|paypal",
    old_value=r"current|correct (?:name|address|phone)",
    product=r"out.of.stock|boots|shirt|jeans|jacket",
    days=r"\bdays\b|how long|week",
    email=r"e-?mail",
)
_CHANGES = _cues(
    by_mail=r"by mail|mail it|\bmail\b",
    in_store=r"in.store",
    drop_off=r"drop.?off",
    waive_fee=r"waive",
    faster=r"overnight|tomorrow",
    later=r"next week",
    extend=r"exten",
    renew=r"renew|subscription.{0,40}pa(?:y|id)|pa(?:y|id).{0,40}subscription",
    remove_service=r"remove.{0,20}service|(?:service|subscription).{0,60}removed",
    add_service=r"add.{0,20}service|reinstat|(?:service|subscription).{0,60}added",
    phone=r"phone number",
    payment=r"payment method|paypal|debit card",
    credit=r"credit",
    address=r"address",
    date=r"\b(?:date|morning|evening)\b",
    items=r"\bitems?\b",
    name=r"\bname\b",
    fee=r"\bfee\b|\$ ?[0-9]",
)
_TEAMS = _cues(
    purchasing=r"purchasing|out.of.stock|sold out",
    website_team=r"web ?site|slow|search",
    manager=r"manager|supervisor",
)
_IDS = re.compile(r"\b(?=[A-Z]*[0-9])[A-Z0-9]{10}\b|[0-9]{10}|@")
_NAMED = re.compile(
    r"(?:my (?:full )?name(?: is|'s)|\bname ?:|this is) *([a-z]+ [a-z]+)", re.IGNORECASE
)
_CAPITALS = re.compile(r"\b([A-Z][a-z]+ [A-Z][a-z]+)\b")
_NO_NAME = re.compile(
    r"\b(?:acmebrands|hello|hi|thanks|thank|order|account|michael|kors|calvin|klein|tommy|"
    r"hilfiger|guess|email|user|username|name|full|can|may|have|what|how|your|my|the|and|"
    r"you|sure|ok|okay|great|dr|ave|st|mateo|lima|fayette|ny|ca|tx|mi|wa|gold|silver|"
    r"bronze|member|level|san|la|is|a|an|it|drive|street|avenue|credit|card|paypal|id|in|"
    r"looking|trying|wondering|not|going|sorry|acme|out|of|two|zip|more|so|these|yes|"
    r"customer|support|purchasing|department|kind)\b"
)


def read_by_rules(transcript: Transcript) -> dict[str, Json]:
    """Values of all fields of the schema `abcd`."""
    text = "\n".join(turn.text for turn in transcript.turns)
    taken = _actions(text)
    said: dict[str, Json] = {
        "customer_name": _name(text) if set(_IDENTITY) & set(taken) else None,
        "membership_level": _last(_LEVELS, text) if "membership" in taken else None,
        "shipping_status": _last(_SHIPPING, text) if "shipping-status" in taken else None,
        "reason": _first(_REASONS, text, "other") if "record-reason" in taken else None,
        "changed": _first(_CHANGES, text, "other") if _CHANGING & set(taken) else None,
        "refund_amount": max((amount for amount, _ in amounts(transcript)), default=None),
        "escalation": _first(_TEAMS, text, "none") if "notify-team" in taken else "none",
        "actions_taken": taken,
        "policy_verdict": "no_sensitive_action" if not _SENSITIVE & set(taken) else "compliant",
    }
    return apply_rules(_schema(), transcript, said).values()


@functools.cache
def _schema() -> Schema:
    return load_schema("abcd")


def _actions(text: str) -> list[str]:
    """The steps of the request whose keywords occur most; the opening counts twice."""
    opening = text[:_OPENING]
    # Questions about the shop need no ids, and whoever gives ids asks for more than an answer.
    ids = _IDS.search(text) is not None

    def score(place: int) -> tuple[int, int]:
        cues = PLANS[place].cues
        hits = sum(2 if cue.search(opening) else 1 if cue.search(text) else 0 for cue in cues)
        question = PLANS[place].steps[0] == "search-faq!"
        return hits + (0 if not question else -2 if ids else 1), -place

    plan = PLANS[max(range(len(PLANS)), key=score)]
    taken = []
    for step in plan.steps:
        name = step.removesuffix("!")
        if step.endswith("!") or STEP_CUES[name].search(text):
            taken.append(name)
    return taken


def _name(text: str) -> str | None:
    for pattern in (_NAMED, _CAPITALS):
        for match in pattern.finditer(text):
            name = match.group(1).lower()
            if not _NO_NAME.search(name):
                return name
    return None


def _first(cues: Cues, text: str, without: str) -> str:
    """The first of the names, in the table's order, whose keyword occurs."""
    return next((name for name, cue in cues.items() if cue.search(text)), without)


def _last(cues: Cues, text: str) -> str | None:
    """The name whose keyword occurs last in the text."""
    ends = {
        name: max((match.end() for match in cue.finditer(text)), default=-1)
        for name, cue in cues.items()
    }
    name = max(ends, key=lambda key: ends[key])
    return name if ends[name] >= 0 else None
