"""The true record of an ABCD conversation, from what the agent's console recorded.

Every value is an annotated one: an action's button, or a value the agent entered with it. A field
whose action was not taken is null: the record says what was done, not what was talked about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sparseft.compliance.abcd.kinds import Ontology
from sparseft.compliance.abcd.policy import derived
from sparseft.compliance.transcript import Json

__all__ = ["Action", "gold_of"]


@dataclass(frozen=True)
class Action:
    """One button pressed, and the values entered with it, lower case."""

    button: str
    values: tuple[str, ...]


_CHANGES = {
    "by mail": "by_mail", "in store": "in_store", "drop off center": "drop_off",
    "give credit": "credit", "waive fee": "waive_fee", "tomorrow": "faster",
    "overnight delivery": "faster", "next week": "later", "change date": "date",
    "change time": "date", "change address": "address", "change order": "items",
    "change item": "items", "remove item": "items", "change price": "fee",
    "change method": "payment", "add service": "add_service", "remove service": "remove_service",
    "renew subscription": "renew", "pay subscription": "renew", "extend subscription": "extend",
}  # fmt: skip
_REASONS = {
    "competitor": "competitor", "yesterday": "yesterday", "email": "email", "spouse": "spouse",
    "news": "news", "subscription refund": "subscription_refund",
    "previous purchase": "previous_purchase", "promotional package": "promotion",
}  # fmt: skip
_TEAMS = {
    "manager": "manager", "manger": "manager", "website team": "website_team",
    "purchasing department": "purchasing", "purchasing team": "purchasing",
}  # fmt: skip
_SHIPPING = {
    "order received": "order_received", "order recieved": "order_received",
    "received": "order_received", "in transit": "in_transit", "transit": "in_transit",
    "out for delivery": "out_for_delivery", "delivered": "delivered",
}  # fmt: skip
_LEVELS = {"gold": "gold", "silver": "silver", "sliver": "silver", "bronze": "bronze",
           "guest": "guest"}  # fmt: skip
_IDENTITY = ("verify-identity", "validate-purchase")


def gold_of(actions: Sequence[Action], ontology: Ontology) -> dict[str, Json]:
    """All fields of the schema `abcd`, from a conversation's annotated actions in order."""
    buttons = [action.button for action in actions]
    # A button pressed again at once is a correction of what was entered, not another step.
    taken = [b for place, b in enumerate(buttons) if place == 0 or b != buttons[place - 1]]
    openings = [*_entered(actions, "pull-up-account"), *_entered(actions, *_IDENTITY)]
    names = [name for value in openings if (name := ontology.name(value)) is not None]
    amounts = [ontology.amount(value) for value in _entered(actions, "offer-refund")]
    return {
        # The account that was opened first is the conversation's; of ids the corrected one counts.
        "customer_name": names[0] if names else None,
        "account_id": _last(
            _entered(actions, "pull-up-account", "enter-details", *_IDENTITY), ontology.account_id
        ),
        "order_id": _last(_entered(actions, *_IDENTITY), ontology.order_id),
        "email": _last(_entered(actions, "enter-details", *_IDENTITY), ontology.email),
        "membership_level": _listed(_entered(actions, "membership"), _LEVELS),
        "shipping_status": _listed(_entered(actions, "shipping-status"), _SHIPPING),
        "reason": _reason(_entered(actions, "record-reason"), ontology),
        "changed": _change(_entered(actions, "update-order", "update-account"), ontology),
        "refund_amount": next((a for a in reversed(amounts) if a is not None), None),
        "escalation": _listed(_entered(actions, "notify-team"), _TEAMS) or "none",
        "actions_taken": taken,
        **derived(taken),
    }


def _entered(actions: Sequence[Action], *buttons: str) -> list[str]:
    return [
        value
        for action in actions
        if action.button in buttons
        for value in action.values
        if value != "none"
    ]


def _last(values: Sequence[str], fits: Callable[[str], bool]) -> str | None:
    return next((value for value in reversed(values) if fits(value)), None)


def _listed(values: Sequence[str], known: dict[str, str]) -> str | None:
    return next((known[value] for value in reversed(values) if value in known), None)


def _reason(values: Sequence[str], ontology: Ontology) -> str | None:
    """What kind of reason was recorded last."""
    if not values:
        return None
    value = values[-1]
    if value in _REASONS:
        return _REASONS[value]
    if value.removesuffix("days").strip().isdigit():
        return "days"
    if value == "add value" or ontology.payment(value):
        return "payment"
    if ontology.product(value):
        return "product"
    if ontology.phone(value) or ontology.address(value) or ontology.name(value):
        return "old_value"
    return "other"


def _change(values: Sequence[str], ontology: Ontology) -> str | None:
    """What was changed last in an order or account."""
    if not values:
        return None
    value = values[-1]
    if value in _CHANGES:
        return _CHANGES[value]
    if ontology.amount(value) is not None:
        return "fee"
    if ontology.phone(value):
        return "phone"
    if ontology.payment(value):
        return "payment"
    if ontology.product(value):
        return "items"
    if ontology.address(value):
        return "address"
    return "name" if ontology.name(value) else "other"
