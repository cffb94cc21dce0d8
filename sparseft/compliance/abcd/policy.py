"""ABCD's agent guidelines as a table, and what follows from the actions an agent took.

Actions are the 30 buttons of ABCD's agent console (Chen et al., 2021, arXiv:2104.00783). A
sensitive action changes an order or account or gives something away. Each subflow of the guidelines
that allows one asks for steps before it; those that hang on an answer (a membership level, the
oracle's yes) are listed as waived. The conversations do not say which subflow they follow, so an
action keeps the policy where the steps of at least one subflow that allows it came before it.

Opening the customer's record (pull-up-account) checks nothing and is no step here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "BUTTONS",
    "SENSITIVE",
    "STEPS",
    "WAYS",
    "Way",
    "derived",
    "first_sensitive",
    "identity_check",
    "missing_steps",
    "resolution",
    "verdict",
    "verified_before_sensitive",
]

BUTTONS = (
    "pull-up-account", "verify-identity", "validate-purchase", "record-reason", "ask-the-oracle",
    "shipping-status", "membership", "enter-details", "subscription-status", "notify-team",
    "send-link", "offer-refund", "update-order", "update-account", "promo-code", "make-purchase",
    "make-password", "try-again", "log-out-in", "instructions", "search-faq", "search-boots",
    "search-shirt", "search-jeans", "search-jacket", "search-pricing", "search-membership",
    "search-timing", "search-policy", "select-faq",
)  # fmt: skip
SENSITIVE = (
    "offer-refund", "update-order", "update-account", "promo-code", "make-purchase",
    "make-password",
)  # fmt: skip
_IDENTITY = ("verify-identity", "validate-purchase")


@dataclass(frozen=True)
class Way:
    """One way to a sensitive action.

    Attributes:
        subflows: of the guidelines, that allow it this way.
        steps: actions that must come before it.
        waived: actions that the guidelines name before it for some customers only.
    """

    action: str
    subflows: tuple[str, ...]
    steps: tuple[str, ...]
    waived: tuple[str, ...] = ()


# The first way of an action is the one that is named where none was begun.
WAYS = (
    # The address or account for the money is asked for some refund methods only.
    Way("offer-refund", ("refund_initiate",), ("validate-purchase", "record-reason"),
        ("enter-details",)),
    Way("offer-refund", ("refund_update",), ("validate-purchase", "record-reason")),
    # Where the parcel is still on its way, the fee is waived instead of refunded.
    Way("offer-refund", ("cost",), ("validate-purchase", "shipping-status"), ("update-order",)),
    # The level matters only where the item has left.
    Way("offer-refund", ("manage_cancel",), ("verify-identity", "shipping-status"),
        ("membership",)),
    Way("offer-refund", ("status_quantity",),
        ("verify-identity", "ask-the-oracle", "shipping-status")),
    # Gold and silver by their level, others by the oracle: one of the two decides.
    Way("offer-refund", ("manage_dispute_bill",), ("verify-identity", "membership"),
        ("ask-the-oracle",)),
    Way("offer-refund", ("manage_dispute_bill",), ("verify-identity", "ask-the-oracle"),
        ("membership",)),
    Way("offer-refund", ("status_service_added",),
        ("record-reason", "ask-the-oracle", "update-account")),
    # A manager is notified instead, where the status is what displeases.
    Way("update-order", ("refund_status",), ("validate-purchase",), ("notify-team",)),
    Way("update-order", ("return_stain", "return_color", "return_size"),
        ("validate-purchase", "membership", "enter-details")),
    # The level matters only where the customer is wrong.
    Way("update-order", ("mistimed_billing_already_returned",),
        ("validate-purchase", "record-reason"), ("membership",)),
    Way("update-order", ("mistimed_billing_never_bought",),
        ("validate-purchase", "ask-the-oracle"), ("membership",)),
    Way("update-order", ("status",),
        ("verify-identity", "validate-purchase", "ask-the-oracle")),
    Way("update-order", ("manage",), ("shipping-status", "validate-purchase")),
    Way("update-order", ("missing",), ("validate-purchase", "record-reason")),
    Way("update-order", ("cost",), ("validate-purchase", "shipping-status")),
    # Level or shipping status only where the oracle says no.
    Way("update-order", ("status_mystery_fee",), ("verify-identity", "ask-the-oracle"),
        ("membership",)),
    Way("update-order", ("status_delivery_time",), ("verify-identity", "ask-the-oracle"),
        ("shipping-status",)),
    Way("update-order", ("status_payment_method",), ("verify-identity", "shipping-status")),
    # The level only says who pays the fee.
    Way("update-order", ("manage_upgrade", "manage_downgrade"),
        ("verify-identity", "shipping-status"), ("membership",)),
    Way("update-account",
        ("manage_change_address", "manage_change_name", "manage_change_phone",
         "manage_payment_method"),
        ("record-reason", "verify-identity")),
    Way("update-account", ("status_service_added", "status_service_removed"),
        ("record-reason", "ask-the-oracle")),
    # The amount due is looked up only where the customer does not know it.
    Way("update-account", ("manage_pay_bill",), ("verify-identity", "enter-details"),
        ("subscription-status",)),
    Way("update-account", ("manage_extension",), ("verify-identity", "membership")),
    Way("promo-code", ("bad_price_competitor", "bad_price_yesterday"),
        ("record-reason", "verify-identity")),
    Way("promo-code", ("promo_code_invalid", "promo_code_out_of_date"), ("ask-the-oracle",),
        ("membership",)),
    Way("promo-code", ("status_credit_missing",), ("record-reason", "ask-the-oracle")),
    Way("promo-code", ("out_of_stock_general",), ("notify-team",)),
    # The level matters only where the order has left.
    Way("make-purchase", ("manage_create",), ("verify-identity", "shipping-status"),
        ("membership",)),
    Way("make-purchase", ("out_of_stock_one_item",), ("record-reason", "notify-team")),
    # The new address is taken only after a week of waiting.
    Way("make-purchase", ("missing",), ("validate-purchase", "record-reason"), ("update-order",)),
    # The customer's own attempts are options in any order; buying for them is the last.
    Way("make-purchase", ("credit_card", "shopping_cart", "search_results", "slow_speed"),
        ("try-again",)),
    Way("make-purchase", ("credit_card", "shopping_cart", "search_results", "slow_speed"),
        ("log-out-in",)),
    Way("make-purchase", ("credit_card", "shopping_cart"), ("enter-details",)),
    Way("make-purchase", ("search_results", "slow_speed"), ("instructions",)),
    Way("make-purchase", ("search_results", "slow_speed"), ("notify-team",)),
    Way("make-password", ("recover_password",), ("enter-details",)),
    # Without a username, it is recovered first.
    Way("make-password", ("recover_username",), ("verify-identity",)),
)  # fmt: skip
STEPS = tuple(button for button in BUTTONS if any(button in way.steps for way in WAYS))

# What the customer got; the last such action of a conversation is its resolution.
_RESOLUTIONS = {
    "offer-refund": "refund",
    "update-order": "order_change",
    "update-account": "account_change",
    "promo-code": "promo_code",
    "make-purchase": "purchase",
    "make-password": "password",
    "notify-team": "escalation",
    "send-link": "link",
    "select-faq": "answer",
    "try-again": "self_help",
    "log-out-in": "self_help",
    "instructions": "self_help",
}


def missing_steps(actions: Sequence[str]) -> list[str]:
    """The steps that should have come before a sensitive action and did not, in `STEPS`' order.

    Of an action that keeps no way, those of the way that was followed furthest.
    """
    missing: set[str] = set()
    for place, action in enumerate(actions):
        done = set(actions[:place])
        ways = [way for way in WAYS if way.action == action]
        if ways and not any(done.issuperset(way.steps) for way in ways):
            nearest = max(ways, key=lambda way: len(done & set(way.steps)) / len(way.steps))
            missing |= set(nearest.steps) - done
    return [step for step in STEPS if step in missing]


def first_sensitive(actions: Sequence[str]) -> int | None:
    """Place of the first sensitive action; None without one."""
    return next((place for place, action in enumerate(actions) if action in SENSITIVE), None)


def verdict(actions: Sequence[str]) -> str:
    """compliant, violation or no_sensitive_action."""
    if first_sensitive(actions) is None:
        return "no_sensitive_action"
    return "violation" if missing_steps(actions) else "compliant"


def identity_check(actions: Sequence[str]) -> str:
    """none, verify, validate or both: which identity steps were taken at all."""
    verified, validated = (step in actions for step in _IDENTITY)
    if verified and validated:
        return "both"
    return "verify" if verified else "validate" if validated else "none"


def verified_before_sensitive(actions: Sequence[str]) -> str:
    """yes, no or na: whether an identity step came before the first sensitive action."""
    place = first_sensitive(actions)
    if place is None:
        return "na"
    return "yes" if any(step in actions[:place] for step in _IDENTITY) else "no"


def resolution(actions: Sequence[str]) -> str:
    """What the customer got in the end; none where nothing."""
    return next(
        (_RESOLUTIONS[action] for action in reversed(actions) if action in _RESOLUTIONS), "none"
    )


def derived(actions: Sequence[str]) -> Mapping[str, object]:
    """All that the actions decide, by name of the field in the schema `abcd`."""
    return {
        "identity_check": identity_check(actions),
        "oracle_consulted": "ask-the-oracle" in actions,
        "n_actions": len(actions),
        "resolution": resolution(actions),
        "verified_before_sensitive": verified_before_sensitive(actions),
        "missing_steps": missing_steps(actions),
        "policy_verdict": verdict(actions),
    }
