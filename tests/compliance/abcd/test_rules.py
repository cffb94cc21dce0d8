"""ABCD's rules copy from the text, follow the actions, and only ever raise an alarm."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sparseft.compliance import Evidence, Record, Transcript, Turn, apply_rules, load_schema
from sparseft.compliance import abcd as abcd
from sparseft.compliance.abcd.rules_only import read_by_rules

_SAID: dict[str, Any] = {
    "customer_name": None,
    "membership_level": None,
    "shipping_status": None,
    "reason": None,
    "changed": None,
    "refund_amount": None,
    "escalation": "none",
    "actions_taken": [],
    "policy_verdict": "no_sensitive_action",
}


def _record(*texts: str, sure: float = 1.0, **said: Any) -> Record:
    transcript = Transcript("t", tuple(Turn("unknown", text) for text in texts))
    confidences = dict.fromkeys(_SAID, sure)
    return apply_rules(load_schema("abcd"), transcript, _SAID | said, confidences)


def test_ids_are_copied_with_their_place() -> None:
    texts = (
        "My id is tr9argh4as, order 5548814169, no sorry",
        "5548814160. Mail: Rd.5@Email.com.",
    )
    record = _record(*texts)
    values = record.values()
    assert values["account_id"] == "TR9ARGH4AS"
    assert values["order_id"] == "5548814160"  # the corrected one
    assert values["email"] == "rd.5@email.com"
    (place,) = record.fields["order_id"].evidence
    assert place == Evidence(1, 0, 10)
    (place,) = record.fields["account_id"].evidence
    assert texts[0][place.start : place.end] == "tr9argh4as"


@pytest.mark.parametrize(
    "text",
    [
        "no ids here, everything is fine",
        "my user name is dwilliams1 and nbouchard9",  # ten signs, but a name and a number
        "order 55488141690 and 554881416",  # eleven and nine digits
        "ABCDEFGHIJK or abcdefghij",
        "write to 1234567890@email",
    ],
)
def test_look_alikes_are_no_ids(text: str) -> None:
    values = _record(text).values()
    assert (values["account_id"], values["order_id"], values["email"]) == (None, None, None)


@pytest.mark.parametrize("piece", ["a", ".", "a.", "a@", "1", "$1", "A1b", "a@b."])
def test_long_texts_take_linear_time(piece: str) -> None:
    started = time.process_time()
    _record(piece * (200_000 // len(piece)))
    # Quadratic time would be minutes.
    assert time.process_time() - started < 5


def test_capitals_win_over_small_letters() -> None:
    assert _record("code a1b2c3d4e5 and id RQT400RTHI").values()["account_id"] == "RQT400RTHI"


def test_an_amount_needs_a_refund() -> None:
    text = "It cost $64.50 and shipping was 8 dollars."
    assert _record(text, refund_amount=8.0).values()["refund_amount"] is None
    refund = {"actions_taken": ["validate-purchase", "offer-refund"], "policy_verdict": "compliant"}
    kept = _record(text, refund_amount=8.0, **refund).fields["refund_amount"]
    assert (kept.value, kept.source, kept.evidence) == (8.0, "model", (Evidence(0, 32, 33),))
    filled = _record(text, **refund).fields["refund_amount"]
    assert (filled.value, filled.source) == (64.5, "rule override")
    # Neither named nor found: the model's own word stands.
    assert _record("no amounts", refund_amount=8.0, **refund).values()["refund_amount"] == 8.0
    assert _record("no amounts", **refund).values()["refund_amount"] is None


def test_fields_follow_from_the_actions() -> None:
    values = _record("hello", actions_taken=["ask-the-oracle", "update-order"]).values()
    assert values["oracle_consulted"] is True
    assert values["n_actions"] == 2
    assert values["resolution"] == "order_change"
    assert values["verified_before_sensitive"] == "no"
    assert values["missing_steps"] == ["validate-purchase"]


def test_the_verdict_is_raised_and_never_lowered() -> None:
    bad = ["pull-up-account", "offer-refund"]
    raised = _record("hello", actions_taken=bad, policy_verdict="compliant")
    entry = raised.fields["policy_verdict"]
    assert (entry.value, entry.source) == ("violation", "rule override")
    assert "validate-purchase" in entry.reason
    for actions in ([], ["validate-purchase", "offer-refund"]):
        kept = _record("hello", actions_taken=actions, policy_verdict="violation")
        assert kept.fields["policy_verdict"].value == "violation"
        assert kept.fields["policy_verdict"].source == "model"


_PASSWORD = (
    "Hi, how can I help? I forgot my password. Sure, your full name please? Joyce Wu. And your "
    "username? joycew33. Your new password is mc2ab0mlw8a. Have a great day!"
)


def test_actions_that_were_read_without_certainty_are_completed_from_the_procedures() -> None:
    read = {"actions_taken": ["pull-up-account", "make-password"]}
    planned = ["pull-up-account", "enter-details", "make-password"]
    entry = _record(_PASSWORD, sure=0.3, **read).fields["actions_taken"]
    assert (entry.value, entry.source) == (planned, "rule override")
    kept = _record(_PASSWORD, sure=0.7, **read).fields["actions_taken"]
    assert (kept.value, kept.source) == (read["actions_taken"], "model")


def test_what_is_entered_with_an_action_needs_it() -> None:
    said = {"membership_level": "gold", "escalation": "manager"}
    values = _record("I am a silver member.", **said).values()
    assert (values["membership_level"], values["escalation"]) == (None, "none")
    taken = {"actions_taken": ["membership", "notify-team"]}
    kept = _record("I am a silver member.", **taken, **said).values()
    assert (kept["membership_level"], kept["escalation"]) == ("gold", "manager")
    filled = _record("I am a silver member.", **taken).fields["membership_level"]
    assert (filled.value, filled.source) == ("silver", "rule override")


def test_the_reader_without_a_model() -> None:
    text = (
        "Hi, how can I help? I forgot my password. Sure, your full name please? Joyce Wu. And your "
        "username? joycew33. Your new password is mc2ab0mlw8a. Have a great day!"
    )
    values = read_by_rules(Transcript("t", (Turn("unknown", text),)))
    assert values["customer_name"] == "joyce wu"
    assert values["actions_taken"] == ["pull-up-account", "enter-details", "make-password"]
    assert values["policy_verdict"] == "compliant"


@pytest.mark.parametrize("text", ["", " ", "¿?", "a" * 20_000, "refund " * 3000])
def test_the_reader_without_a_model_reads_anything(text: str) -> None:
    values = read_by_rules(Transcript("t", (Turn("unknown", text),)))
    assert load_schema("abcd").canonical(values) == values


def test_the_reader_without_a_model_reads_no_turns() -> None:
    assert read_by_rules(Transcript("t", ()))["customer_name"] is None
