"""The policy agrees with the guidelines' knowledge base, and judges by order."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from sparseft.compliance import load_schema
from sparseft.compliance.abcd import policy
from sparseft.compliance.abcd.policy import BUTTONS, SENSITIVE, STEPS, WAYS

# What a way need not name: opening, writing down, and what is itself sensitive.
_NO_CHECKS = {"pull-up-account", "record-reason", "enter-details", *SENSITIVE}
_REMEDIES = {"try-again", "log-out-in", "enter-details", "instructions", "notify-team"}


@pytest.mark.parametrize(
    ("actions", "verdict", "missing"),
    [
        ([], "no_sensitive_action", []),
        (["search-faq", "search-boots", "select-faq"], "no_sensitive_action", []),
        (["pull-up-account", "validate-purchase", "offer-refund"], "compliant", []),
        (["pull-up-account", "offer-refund"], "violation", ["validate-purchase"]),
        # The same steps, the check too late.
        (["offer-refund", "validate-purchase"], "violation", ["validate-purchase"]),
        # The way begun is the one that is named.
        (["verify-identity", "offer-refund"], "violation", ["shipping-status"]),
        (["verify-identity", "shipping-status", "offer-refund"], "compliant", []),
        (["ask-the-oracle", "update-account", "offer-refund"], "compliant", []),
        (["ask-the-oracle", "update-order"], "violation", ["validate-purchase"]),
        # Every sensitive action is judged, not only the first.
        (["notify-team", "promo-code", "update-account"], "violation", ["verify-identity"]),
        (["try-again", "make-purchase"], "compliant", []),
        (["make-password"], "violation", ["enter-details"]),
    ],
)
def test_verdict_and_missing_steps(actions: list[str], verdict: str, missing: list[str]) -> None:
    assert policy.verdict(actions) == verdict
    assert policy.missing_steps(actions) == missing


def test_what_else_follows_from_the_actions() -> None:
    actions = ["verify-identity", "ask-the-oracle", "update-order", "validate-purchase"]
    assert policy.derived(actions) == {
        "identity_check": "both",
        "oracle_consulted": True,
        "n_actions": 4,
        "resolution": "order_change",
        "verified_before_sensitive": "yes",
        "missing_steps": [],
        "policy_verdict": "compliant",
    }
    assert policy.verified_before_sensitive(["promo-code", "verify-identity"]) == "no"
    assert policy.verified_before_sensitive(["verify-identity"]) == "na"
    assert policy.identity_check(["validate-purchase"]) == "validate"
    # The last that gives something, not the last action.
    assert policy.resolution(["offer-refund", "send-link", "membership"]) == "link"
    assert policy.resolution(["pull-up-account"]) == "none"


def test_more_checks_never_make_a_violation() -> None:
    for way in WAYS:
        done = [*way.waived, *way.steps]
        assert policy.verdict([*done, way.action]) == "compliant"
        assert policy.verdict([*BUTTONS[:9], *done, way.action]) == "compliant"


def test_the_schema_lists_what_the_policy_says() -> None:
    schema = load_schema("abcd")
    assert schema["actions_taken"].choices == BUTTONS
    assert schema["missing_steps"].choices == STEPS
    assert set(schema["resolution"].choices) == {
        policy.resolution([button]) for button in BUTTONS
    }  # fmt: skip


def test_every_way_is_that_of_the_knowledge_base(real_abcd: Path) -> None:
    with gzip.open(real_abcd / "kb.json.gz", "rt", encoding="utf-8") as stream:
        base: dict[str, list[str]] = json.load(stream)
    assert set(BUTTONS) == {button for steps in base.values() for button in steps}
    asked = {(flow, a) for flow, steps in base.items() for a in steps if a in SENSITIVE}
    assert asked == {(flow, way.action) for way in WAYS for flow in way.subflows} - {
        ("recover_username", "make-password")  # reached from recover_password
    }
    for way in WAYS:
        for flow in way.subflows:
            steps = base[flow]
            if flow in ("credit_card", "shopping_cart", "search_results", "slow_speed"):
                assert set(way.steps) <= set(steps) & _REMEDIES
            elif way.action in steps:
                before = set(steps[: steps.index(way.action)])
                assert set(way.steps) | set(way.waived) <= before
                assert before - set(way.steps) - set(way.waived) <= _NO_CHECKS
            else:
                assert set(way.steps) <= set(steps)
