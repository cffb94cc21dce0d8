"""ABCD's agent guidelines as a table, and what follows from the actions an agent took.

Actions are the 30 buttons of ABCD's agent console (Chen et al., 2021, arXiv:2104.00783). A
sensitive action changes an order or account or gives something away. Each subflow of the guidelines
that allows one asks for checks before it. The conversations do not say which subflow they follow,
so an action keeps the policy where the checks of at least one subflow that allows it came before.

Opening the record (pull-up-account) and writing down what the customer says (record-reason,
enter-details) check nothing: agents often do without the button, and the text cannot tell. A check
that hangs on an answer (a membership level, the oracle's no) is listed as waived.
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
        steps: checks that must come before it.
        waived: checks that the guidelines name before it for some customers only.
    """

    action: str
    subflows: tuple[str, ...]
    steps: tuple[str, ...]
    waived: tuple[str, ...] = ()


_TROUBLE = ("credit_card", "shopping_cart", "search_results", "slow_speed")
# The first way of an action is the one that is named where none was begun.
WAYS = (
    Way("offer-refund", ("refund_initiate", "refund_update"), ("validate-purchase",)),
    # Where the parcel is still on its way, the fee is waived instead of refunded.
    Way("offer-refund", ("cost",), ("validate-purchase", "shipping-status")),
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
    Way("offer-refund", ("status_service_added",), ("ask-the-oracle",)),
    # A manager is notified instead, where the status is what displeases.
    Way("update-order", ("refund_status",), ("validate-purchase",), ("notify-team",)),
    Way("update-order", ("missing",), ("validate-purchase",)),
    Way("update-order", ("return_stain", "return_color", "return_size"),
        ("validate-purchase", "membership")),
    # The level matters only where the customer is wrong.
    Way("update-order", ("mistimed_billing_already_returned",), ("validate-purchase",),
        ("membership",)),
    Way("update-order", ("mistimed_billing_never_bought",),
        ("validate-purchase", "ask-the-oracle"), ("membership",)),
    Way("update-order", ("status",),
        ("verify-identity", "validate-purchase", "ask-the-oracle")),
    Way("update-order", ("manage", "cost"), ("validate-purchase", "shipping-status")),
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
        ("verify-identity",)),
    # The amount due is looked up only where the customer does not know it.
    Way("update-account", ("manage_pay_bill",), ("verify-identity",), ("subscription-status",)),
    Way("update-account", ("manage_extension",), ("verify-identity", "membership")),
    Way("update-account", ("status_service_added", "status_service_removed"),
        ("ask-the-oracle",)),
    Way("promo-code", ("bad_price_competitor", "bad_price_yesterday"), ("verify-identity",)),
    Way("promo-code", ("promo_code_invalid", "promo_code_out_of_date"), ("ask-the-oracle",),
        ("membership",)),
    Way("promo-code", ("status_credit_missing",), ("ask-the-oracle",)),
    # The report that is promised first.
    Way("promo-code", ("out_of_stock_general",), ("notify-team",)),
    # The level matters only where the order has left.
    Way("make-purchase", ("manage_create",), ("verify-identity", "shipping-status"),
        ("membership",)),
    Way("make-purchase", ("missing",), ("validate-purchase",)),
    Way("make-purchase", ("out_of_stock_one_item",), ("notify-team",)),
    # Remedies are options in any order, and buying for the customer is the last; one was tried.
    Way("make-purchase", _TROUBLE, ("try-again",)),
    Way("make-purchase", _TROUBLE, ("log-out-in",)),
    Way("make-purchase", _TROUBLE[:2], ("enter-details",)),
    Way("make-purchase", _TROUBLE[2:], ("instructions",)),
    Way("make-purchase", _TROUBLE[2:], ("notify-team",)),
    # The user name that is entered is what identifies the customer.
    Way("make-password", ("recover_password",), ("enter-details",)),
    # Without one, it is recovered first.
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
