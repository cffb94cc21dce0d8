"""Gold comes from the plan; the rules, which read the text and the book, come to the same."""

from __future__ import annotations

from random import Random

import pytest

from sparseft.compliance import Example, apply_rules, load_schema
from sparseft.compliance.service import hard_negatives, simulate
from sparseft.compliance.service.book import load_book
from sparseft.compliance.service.edits import FLAWS, add_flaw
from sparseft.compliance.service.facts import draw_facts
from sparseft.compliance.service.plan import Event, Plan
from sparseft.compliance.service.planner import base_plan, draw_plan
from sparseft.compliance.service.scenarios import SCENARIOS, SENSITIVE
from sparseft.compliance.transcript import Json

_SCHEMA = load_schema("service")


def _by_rules(example: Example) -> dict[str, Json]:
    said = {f.name: f.canonical(example.gold[f.name]) for f in _SCHEMA.model_fields}
    return apply_rules(_SCHEMA, example.transcript, said).values()


def _plan(name: str) -> Plan:
    scenario = SCENARIOS[name]
    facts = draw_facts(Random(1), "train", scenario.cents, scenario.dollars)
    events = tuple(Event(kind, key=kind) for kind in scenario.course)
    return Plan(
        "service:train:0:0", "train", 0, 0, scenario, facts, events,
        origin=scenario.origin, outcome=scenario.outcome,
    )  # fmt: skip


@pytest.mark.parametrize("split", ["train", "test"])
def test_rules_agree_with_gold(split: str) -> None:
    examples = simulate(500, 11, split)
    agreed = [_by_rules(e) == _SCHEMA.canonical(e.gold) for e in examples]
    clean = [same for same, e in zip(agreed, examples, strict=True) if e.tags[1] == "clean"]
    print(f"{split}: {sum(agreed)} of {len(agreed)} records agree")
    # A typo in a correction ("insteaad of …") is a slip that rules may fall for.
    assert sum(agreed) >= 0.99 * len(agreed)
    assert sum(clean) >= 0.99 * len(clean)
    for example in examples:
        assert _by_rules(example)["policy_verdict"] == example.gold["policy_verdict"]


def test_rules_agree_with_the_gold_of_hard_negatives() -> None:
    for example in simulate(60, 12, "train"):
        for variant in hard_negatives(example, None, 5):
            values = _by_rules(variant)
            for field in ("policy_verdict", "missing_steps", "verified", "n_actions"):
                assert values[field] == variant.gold[field], (variant.transcript.id, field)


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_worked_cases_keep_the_procedure_book(name: str) -> None:
    gold = _plan(name).gold()
    assert not load_book().missing(gold["steps"], gold["amount"], gold["origin"], gold["fee"])
    assert gold["policy_verdict"] == (
        "compliant" if SCENARIOS[name].acts else "no_sensitive_action"
    )
    assert gold["missing_steps"] == []


@pytest.mark.parametrize("flaw", FLAWS)
def test_flaws_break_the_procedure_book_where_they_say(flaw: str) -> None:
    seen = 0
    for name in SCENARIOS:
        for seed in range(6):
            plan = add_flaw(_plan(name), flaw, Random(seed))
            if plan is None:
                continue
            seen += 1
            gold = plan.gold()
            assert gold["policy_verdict"] == "violation"
            assert len(gold["missing_steps"]) == 1
            lacking = load_book().missing(
                gold["steps"], gold["amount"], gold["origin"], gold["fee"]
            )
            assert {need.step for _, need in lacking} == set(gold["missing_steps"]), (name, seed)
    assert seen >= 6


def test_a_plan_by_hand() -> None:
    gold = _plan("refund_large").gold()
    assert gold["steps"] == ["account", "identify", "approval", "refund"]
    assert gold["amount"] > 100
    assert (gold["verified"], gold["n_actions"], gold["origin"]) == ("before", 1, "customer")
    assert (gold["email"], gold["phone"], gold["ticket"], gold["fee"]) == (None,) * 4
    assert gold["policy_verdict"] == "compliant"


def test_verified_after_and_never() -> None:
    late = add_flaw(_plan("address"), "late", Random(3))
    claimed = add_flaw(_plan("password"), "claimed", Random(0))
    assert late is not None and claimed is not None
    if "identify" in late.missing:
        assert late.gold()["verified"] == "after"
    assert claimed.gold()["verified"] == "never"
    assert _plan("plan_up").gold()["verified"] == "never"
    assert _plan("questions").gold()["verified"] == "na"


def test_demanded_money_is_not_given() -> None:
    gold = _plan("refund_refused_checked").gold()
    assert gold["amount"] is None
    assert (gold["origin"], gold["outcome"]) == ("customer", "refused")


def test_a_plan_and_its_base_differ_by_the_flaw_alone() -> None:
    for index in range(100):
        plan, base = draw_plan("test", 0, index), base_plan("test", 0, index)
        assert base.flaw == "" and base.missing == ()
        assert plan.facts == base.facts
        assert bool(plan.flaw) == (plan.events != base.events)
        assert (plan.gold()["policy_verdict"] == "violation") == bool(plan.flaw)


def test_actions_of_the_planner_and_of_the_book_are_the_same() -> None:
    assert set(load_book().actions) == set(SENSITIVE)
