"""ABCD's rules: ids that stand in the text, and what follows from the actions that were read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sparseft.compliance.abcd import policy
from sparseft.compliance.abcd.cues import (
    LEVELS,
    REASONS,
    SHIPPING,
    TEAMS,
    first_named,
    last_named,
)
from sparseft.compliance.abcd.plans import planned_actions
from sparseft.compliance.abcd.text import Match, accounts, amounts, emails, orders
from sparseft.compliance.rules import Finding, rule
from sparseft.compliance.transcript import Evidence, Json, Transcript

__all__ = ["FIELDS"]

Values = Mapping[str, Json]


def _copied(matches: list[Match], what: str) -> Finding:
    if not matches:
        return Finding(None, f"the conversation holds no {what}")
    # Of several, the last: customers correct themselves.
    text, place = matches[-1]
    return Finding(text, f"the last {what} of the conversation", (place,))


@rule("abcd.account_id")
def account_id(transcript: Transcript, _: Values) -> Finding:
    """The last text that looks like an account id."""
    return _copied(accounts(transcript), "account id")


@rule("abcd.order_id")
def order_id(transcript: Transcript, _: Values) -> Finding:
    """The last text that looks like an order id."""
    return _copied(orders(transcript), "order id")


@rule("abcd.email")
def email(transcript: Transcript, _: Values) -> Finding:
    """The last e-mail address."""
    return _copied(emails(transcript), "e-mail address")


@rule("abcd.refund_amount")
def refund_amount(transcript: Transcript, values: Values) -> Finding | None:
    """No amount without a refund; where the model has none, the largest that was named."""
    if "offer-refund" not in values["actions_taken"]:
        return Finding(None, "no refund was given")
    said = values["refund_amount"]
    if said is not None:
        place = next((place for amount, place in amounts(transcript) if amount == said), None)
        return Finding(said, "the amount was named", (place,)) if place else None
    # Of equal amounts, the last place.
    named: dict[float, Evidence] = dict(amounts(transcript))
    if not named:
        return None
    largest = max(named)
    return Finding(largest, "a refund was given; the largest amount named", (named[largest],))


@rule("abcd.actions_taken")
def actions_taken(transcript: Transcript, values: Values) -> Finding | None:
    """The actions of the request that keywords and the actions read fit best."""
    read: list[str] = values["actions_taken"]
    text = "\n".join(turn.text for turn in transcript.turns)
    planned = planned_actions(text, read)
    if planned == read:
        return None
    return Finding(planned, "what a request of these words and actions brings")


def _entered_with(
    field: str, buttons: tuple[str, ...], named: Callable[[str], str | None]
) -> Callable[[Transcript, Values], Finding | None]:
    """A value that is entered with an action: none without it, one of the text's words with it.

    Args:
        named: the value that a text's words show, or the field's "none".
    """

    def found(transcript: Transcript, values: Values) -> Finding | None:
        if not set(buttons) & set(values["actions_taken"]):
            return Finding(_EMPTY[field], f"no {' or '.join(buttons)} in actions_taken")
        if values[field] != _EMPTY[field]:
            return None
        text = "\n".join(turn.text for turn in transcript.turns)
        shown = named(text)
        if shown == _EMPTY[field]:
            return None
        return Finding(shown, f"{' or '.join(buttons)} in actions_taken, and words that show it")

    return found


def _follows(field: str, reason: str) -> Callable[[Transcript, Values], Finding]:
    def found(_: Transcript, values: Values) -> Finding:
        return Finding(policy.derived(values["actions_taken"])[field], reason)

    return found


_EMPTY = {
    "customer_name": None,
    "membership_level": None,
    "shipping_status": None,
    "reason": None,
    "escalation": "none",
}
_ENTERED: dict[str, tuple[tuple[str, ...], Callable[[str], str | None]]] = {
    "customer_name": (("pull-up-account", "verify-identity", "validate-purchase"), lambda _: None),
    "membership_level": (("membership",), lambda text: last_named(LEVELS, text)),
    "shipping_status": (("shipping-status",), lambda text: last_named(SHIPPING, text)),
    "reason": (("record-reason",), lambda text: first_named(REASONS, text, "other")),
    "escalation": (("notify-team",), lambda text: first_named(TEAMS, text, "none")),
}
for _field, (_buttons, _named) in _ENTERED.items():
    rule(f"abcd.{_field}")(_entered_with(_field, _buttons, _named))

FIELDS = {
    "identity_check": "the identity steps in actions_taken",
    "oracle_consulted": "ask-the-oracle in actions_taken",
    "n_actions": "length of actions_taken",
    "resolution": "the last of actions_taken that gives the customer something",
    "verified_before_sensitive": "order of actions_taken",
}
for _field, _reason in FIELDS.items():
    rule(f"abcd.{_field}")(_follows(_field, _reason))


@rule("abcd.missing_steps")
def missing_steps(_: Transcript, values: Values) -> Finding:
    """What the guidelines ask for before the sensitive actions, and was left out."""
    missing = policy.missing_steps(values["actions_taken"])
    if not missing:
        return Finding([], "no sensitive action lacks a step")
    return Finding(missing, "left out before a sensitive action of actions_taken")


@rule("abcd.policy_verdict")
def policy_verdict(_: Transcript, values: Values) -> Finding | None:
    """Raises an alarm where a step is missing; never lowers one that the model raised."""
    missing = policy.missing_steps(values["actions_taken"])
    if not missing:
        return None
    return Finding("violation", f"a sensitive action came without {', '.join(missing)}")
