"""A reader without a model: keywords say what was asked and done, the rules do the rest.

The lower bound of the comparison "model only, hybrid, rules only"; no part of the hybrid.
"""

from __future__ import annotations

import functools
import re

from sparseft.compliance.abcd import rules as _registered  # noqa: F401
from sparseft.compliance.abcd.cues import (
    CHANGES,
    LEVELS,
    REASONS,
    SHIPPING,
    TEAMS,
    first_named,
    last_named,
)
from sparseft.compliance.abcd.plans import planned_actions
from sparseft.compliance.abcd.policy import SENSITIVE
from sparseft.compliance.abcd.text import amounts
from sparseft.compliance.rules import apply_rules
from sparseft.compliance.schema import Schema, load_schema
from sparseft.compliance.transcript import Json, Transcript

__all__ = ["read_by_rules"]

_SENSITIVE = frozenset(SENSITIVE)
_CHANGING = frozenset(("update-order", "update-account"))
_IDENTITY = ("pull-up-account", "verify-identity", "validate-purchase")
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
    taken = planned_actions(text)
    said: dict[str, Json] = {
        "customer_name": _name(text) if set(_IDENTITY) & set(taken) else None,
        "membership_level": last_named(LEVELS, text) if "membership" in taken else None,
        "shipping_status": last_named(SHIPPING, text) if "shipping-status" in taken else None,
        "reason": first_named(REASONS, text, "other") if "record-reason" in taken else None,
        "changed": first_named(CHANGES, text, "other") if _CHANGING & set(taken) else None,
        "refund_amount": max((amount for amount, _ in amounts(transcript)), default=None),
        "escalation": first_named(TEAMS, text, "none") if "notify-team" in taken else "none",
        "actions_taken": taken,
        "policy_verdict": "no_sensitive_action" if not _SENSITIVE & set(taken) else "compliant",
    }
    return apply_rules(_schema(), transcript, said).values()


@functools.cache
def _schema() -> Schema:
    return load_schema("abcd")


def _name(text: str) -> str | None:
    for pattern in (_NAMED, _CAPITALS):
        for match in pattern.finditer(text):
            name = match.group(1).lower()
            if not _NO_NAME.search(name):
                return name
    return None
