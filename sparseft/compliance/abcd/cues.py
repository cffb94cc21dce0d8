"""Words that show the values of ABCD's fields.

For the reader without a model (`rules_only.py`), and for the rules that fill in what a model left
open. Written from the ontology, the guidelines and the train subset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["CHANGES", "LEVELS", "REASONS", "SHIPPING", "TEAMS", "first_named", "last_named"]

Cues = Mapping[str, re.Pattern[str]]


def _cues(**texts: str) -> Cues:
    return {name: re.compile(text, re.IGNORECASE) for name, text in texts.items()}


LEVELS = _cues(guest=r"\bguest\b", bronze=r"\bbronze\b", silver=r"\bsilver\b", gold=r"\bgold\b")
SHIPPING = _cues(
    order_received=r"order (?:has been |was )?re[ci]+e?i?ved|order received",
    in_transit=r"in.transit",
    out_for_delivery=r"out for delivery",
    delivered=r"\bdelivered\b",
)
REASONS = _cues(
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
CHANGES = _cues(
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
TEAMS = _cues(
    purchasing=r"purchasing|out.of.stock|sold out",
    website_team=r"web ?site|slow|search",
    manager=r"manager|supervisor",
)


def first_named(cues: Cues, text: str, without: str) -> str:
    """The first of the names, in the table's order, whose keyword occurs."""
    return next((name for name, cue in cues.items() if cue.search(text)), without)


def last_named(cues: Cues, text: str) -> str | None:
    """The name whose keyword occurs last in the text."""
    ends = {
        name: max((match.end() for match in cue.finditer(text)), default=-1)
        for name, cue in cues.items()
    }
    name = max(ends, key=lambda key: ends[key])
    return name if ends[name] >= 0 else None
