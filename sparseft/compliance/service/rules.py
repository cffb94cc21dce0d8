"""The rules of the schema `service`: what the text shows, and what follows from the steps.

They read the transcript and the procedure book; of the planner they know nothing. Where a rule
takes a check away, it does so because the text holds nothing that could have passed it: an error
then raises an alarm, and never hides one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sparseft.compliance.rules import Finding, rule
from sparseft.compliance.service.book import Need, load_book
from sparseft.compliance.service.text import (
    Found,
    accounts,
    codes,
    emails,
    identifiers,
    phones,
    sums,
    tickets,
)
from sparseft.compliance.transcript import Evidence, Json, Transcript

Values = Mapping[str, Json]

_CHECKED_BY = ("identify", "code")
_GIVEN_BACK = ("refund", "credit")
_WORD = re.compile(r"\b(?:security|secret|memorable|pass)[\s-]?(?:word|phrase)\b", re.IGNORECASE)


def _last(found: Found, what: str) -> Finding | None:
    if not found:
        return None
    text, place = found[-1]
    if len({each for each, _ in found}) == 1:
        return Finding(text, f"the {what}", (place,))
    return Finding(text, f"the last {what} of several, as a correction", (place,))


@rule("service.account")
def account(transcript: Transcript, values: Values) -> Finding | None:
    """The last account number of the customer that was not taken back; else the model's word."""
    return _last(accounts(transcript), "account number that the customer gave")


@rule("service.email")
def email(transcript: Transcript, _: Values) -> Finding:
    """The last e-mail address of the customer that was not taken back."""
    found = _last(emails(transcript), "e-mail address that the customer gave")
    return found or Finding(None, "the customer gave no e-mail address")


@rule("service.phone")
def phone(transcript: Transcript, _: Values) -> Finding:
    """The last phone number of the customer that was not taken back."""
    found = _last(phones(transcript), "phone number that the customer gave")
    return found or Finding(None, "the customer gave no phone number")


@rule("service.ticket")
def ticket(transcript: Transcript, _: Values) -> Finding:
    """The last ticket number that the agent said; customers speak of older ones."""
    found = _last(tickets(transcript), "ticket number that the agent gave")
    return found or Finding(None, "the agent gave no ticket number")


@rule("service.steps")
def steps(transcript: Transcript, values: Values) -> Finding | None:
    """Takes away checks for which nothing was said that could have passed them."""
    said: list[str] = values["steps"]
    unfounded = []
    if "account" in said and not accounts(transcript):
        unfounded.append(("account", "no account number was given"))
    if "code" in said and not codes(transcript):
        unfounded.append(("code", "no code was read back"))
    if "identify" in said and not _could_identify(transcript):
        unfounded.append(("identify", "no second identifier was given"))
    if not unfounded:
        return None
    gone = {step for step, _ in unfounded}
    reasons = "; ".join(f"without {step}: {reason}" for step, reason in unfounded)
    return Finding([step for step in said if step not in gone], reasons)


def _could_identify(transcript: Transcript) -> bool:
    if identifiers(transcript):
        return True
    # A security word has no shape, but is called by its name.
    return any(_WORD.search(turn.text) for turn in transcript.turns)


@rule("service.id2")
def id2(transcript: Transcript, values: Values) -> Finding | None:
    """None where nothing was identified; the one kind of identifier that the text shows."""
    if "identify" not in values["steps"]:
        return Finding("none", "identify is not among the steps")
    shapes = identifiers(transcript)
    if len(shapes) == 1:
        ((kind, places),) = shapes.items()
        return Finding(kind, "the only kind of identifier that was given", (places[-1][1],))
    if not shapes and values["id2"] != "word" and _could_identify(transcript):
        return Finding("word", "a security word was spoken of, and no other identifier given")
    return None


@rule("service.amount")
def amount(transcript: Transcript, values: Values) -> Finding | None:
    """None where no money was given; a sum of the text else."""
    given = [step for step in values["steps"] if step in _GIVEN_BACK]
    if not given:
        return Finding(None, "no money was given back")
    return _sum(transcript, values["amount"], "given back")


@rule("service.fee")
def fee(transcript: Transcript, values: Values) -> Finding | None:
    """None where no fee was named; a sum that the agent named else."""
    if "fee" not in values["steps"]:
        return Finding(None, "fee is not among the steps")
    return _sum(transcript, values["fee"], "named as fee or price", values["amount"])


def _sum(
    transcript: Transcript, said: float | None, what: str, other: float | None = None
) -> Finding | None:
    """The model's sum where the agent said it; else the only one that the agent said, if so."""
    named: dict[float, Evidence] = {}
    for value, place in sums(transcript, "agent"):
        named.setdefault(value, place)
    if said in named:
        return Finding(said, f"the agent said it; {what}", (named[said],))
    left = [value for value in named if value != other]
    if len(left) == 1:
        return Finding(left[0], f"the only sum that the agent said; {what}", (named[left[0]],))
    return None


@rule("service.outcome")
def outcome(_: Transcript, values: Values) -> Finding | None:
    """The first request is done where its action was taken, and not done where none was."""
    acted = [step for step in values["steps"] if step in load_book().actions]
    if acted and values["outcome"] != "done":
        return Finding("done", f"{acted[0]} was carried out")
    return None


@rule("service.verified")
def verified(_: Transcript, values: Values) -> Finding:
    """Where the first second identifier or code stands, seen from the first sensitive action."""
    taken: list[str] = values["steps"]
    actions = load_book().actions
    for place, step in enumerate(taken):
        if step in actions:
            if any(check in taken[:place] for check in _CHECKED_BY):
                return Finding("before", f"an identity check stands before {step}")
            if any(check in taken[place:] for check in _CHECKED_BY):
                return Finding("after", f"the first identity check stands after {step}")
            return Finding("never", "no identity check is among the steps")
    return Finding("na", "no sensitive action is among the steps")


@rule("service.missing_steps")
def missing_steps(_: Transcript, values: Values) -> Finding:
    """Needs of the procedure book that were not met when the action was taken."""
    lacking = _lacking(values)
    if not lacking:
        return Finding([], "no sensitive action lacks a step of the procedure book")
    missing = list(dict.fromkeys(need.step for _, need in lacking))
    reasons = []
    for action, need in lacking:
        why = f" ({need.why()})" if need.why() else ""
        reasons.append(f"{action} needs {need.step}{why}")
    return Finding(missing, "; ".join(reasons))


@rule("service.n_actions")
def n_actions(_: Transcript, values: Values) -> Finding:
    """Sensitive actions among the steps."""
    actions = [step for step in values["steps"] if step in load_book().actions]
    return Finding(len(actions), f"sensitive among the steps: {', '.join(actions) or 'none'}")


@rule("service.policy_verdict")
def policy_verdict(_: Transcript, values: Values) -> Finding:
    """A violation where a need was not met when the action was taken."""
    lacking = _lacking(values)
    if lacking:
        action, need = lacking[0]
        return Finding("violation", f"{action} came without {need.step} before it")
    if any(step in load_book().actions for step in values["steps"]):
        return Finding("compliant", "a sensitive action is among the steps, and lacks nothing")
    return Finding("no_sensitive_action", "no sensitive action is among the steps")


def _lacking(values: Values) -> list[tuple[str, Need]]:
    return load_book().missing(values["steps"], values["amount"], values["origin"], values["fee"])
