"""Each rule by itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.compliance import Finding, Transcript, Turn, load_schema
from sparseft.compliance.rules import rules
from sparseft.compliance.service import rules as service_rules
from sparseft.compliance.service.book import load_book, parse_book
from sparseft.compliance.transcript import Json

_SCHEMA = load_schema("service")
_STEPS = _SCHEMA["steps"].choices


def _talk(*lines: str) -> Transcript:
    """Turns from `a: …` (agent) and `c: …` (customer)."""
    names: dict[str, Any] = {"a": "agent", "c": "customer"}
    return Transcript("t", tuple(Turn(names[line[0]], line[3:]) for line in lines))


def _say(rule: str, transcript: Transcript, **values: Json) -> Finding | None:
    known = {
        "steps": [], "amount": None, "fee": None, "origin": "none", "id2": "none",
        "outcome": "answered", "account": None, "policy_verdict": "no_sensitive_action", **values,
    }  # fmt: skip
    return rules()[f"service.{rule}"](transcript, known)


def _value(rule: str, transcript: Transcript, **values: Json) -> Json:
    finding = _say(rule, transcript, **values)
    assert finding is not None and finding.reason
    return finding.value


def test_every_rule_of_the_schema_is_registered_and_the_other_way_round() -> None:
    named = {field.rule for field in _SCHEMA.fields if field.rule}
    assert named == {name for name in rules() if name.startswith("service.")}
    assert service_rules


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("It's AC-4412.", "AC-4412"),
        ("ac 4412", "AC-4412"),
        ("AC4412 I think", "AC-4412"),
        ("AC-4421. No wait, AC-4412.", "AC-4412"),
        ("AC-4412, not AC-4421, sorry", "AC-4412"),
        ("AC-4412 instead of AC-4421", "AC-4412"),
        ("It's AC-4412, not it's AC-4421", "AC-4412"),
    ],
)
def test_account_is_the_last_that_the_customer_gave(said: str, wanted: str) -> None:
    talk = _talk("a: Your number? It starts with AC.", f"c: {said}", "a: So AC-9999?")
    finding = _say("account", talk)
    assert finding is not None and finding.value == wanted
    (place,) = finding.evidence
    assert (
        talk.turns[place.turn].text[place.start : place.end].replace(" ", "-").upper()[-4:]
        == (wanted[-4:])
    )


@pytest.mark.parametrize("said", ["TAC-4412", "AC-44123", "AC-441", "nothing"])
def test_what_is_no_account_number_leaves_the_models_word(said: str) -> None:
    assert _say("account", _talk(f"c: {said}"), account="AC-1111") is None


def test_email_takes_the_correction() -> None:
    talk = _talk("a: e-mail?", "c: A.B@post.com. No, C.D@post.com", "a: me@fernlink.com is ours")
    assert _value("email", talk) == "c.d@post.com"
    assert _value("email", _talk("c: hello")) is None


@pytest.mark.parametrize("said", ["0777-123456", "0777 123 456", "0777123456"])
def test_phone_in_any_spelling(said: str) -> None:
    assert _value("phone", _talk(f"c: try {said}.")) == "0777-123456"


def test_phone_of_the_agent_does_not_count() -> None:
    assert _value("phone", _talk("a: call 0777-123456")) is None


def test_ticket_is_the_agents_not_an_older_one() -> None:
    talk = _talk("c: I had TK-11111 before", "a: opened tk 22222", "c: not TK-11111?")
    assert _value("ticket", talk) == "TK-22222"
    assert _value("ticket", _talk("c: I had TK-11111 before")) is None


def test_steps_lose_checks_without_anything_said() -> None:
    talk = _talk("a: I've verified you.", "c: great")
    finding = _say("steps", talk, steps=["account", "identify", "code", "refund"])
    assert finding is not None and finding.value == ["refund"]
    for reason in ("no account number", "no second identifier", "no code"):
        assert reason in finding.reason


@pytest.mark.parametrize(
    "said",
    ["born 4 March 1986", "March 4, 1986", "04/03/1986", "FN4 7QD", "fn47qd", "it ends in 4471"],
)
def test_steps_keep_an_identifier_that_was_given(said: str) -> None:
    talk = _talk("c: AC-4412", f"c: {said}")
    assert _say("steps", talk, steps=["account", "identify"]) is None


def test_steps_keep_a_security_word() -> None:
    talk = _talk("c: AC-4412", "a: your security word?", "c: maple")
    assert _say("steps", talk, steps=["account", "identify"]) is None


@pytest.mark.parametrize("said", ["AC-4412", "0777-123456", "it was $4412", "ac 4412", "TK-44123"])
def test_other_numbers_are_no_identifier(said: str) -> None:
    finding = _say("steps", _talk(f"c: {said}"), steps=["identify"])
    assert finding is not None and finding.value == []


def test_a_code_needs_six_digits() -> None:
    assert _say("steps", _talk("c: 553 201"), steps=["code"]) is None
    finding = _say("steps", _talk("c: 0777-553201"), steps=["code"])
    assert finding is not None and finding.value == []


def test_id2_from_the_only_shape() -> None:
    assert _value("id2", _talk("c: FN4 7QD"), steps=[], id2="dob") == "none"
    assert _value("id2", _talk("c: FN4 7QD"), steps=["identify"], id2="dob") == "postcode"
    word = _talk("a: your security word?", "c: maple")
    assert _value("id2", word, steps=["identify"], id2="dob") == "word"
    assert _say("id2", word, steps=["identify"], id2="word") is None
    two = _talk("c: FN4 7QD, born 4 March 1986")
    assert _say("id2", two, steps=["identify"], id2="dob") is None


def test_amount_only_where_money_was_given() -> None:
    talk = _talk("c: I want $40 back", "a: I refunded $12.50, the plan is 30 dollars")
    assert _value("amount", talk, steps=["account"], amount=40.0) is None
    assert _value("amount", talk, steps=["refund"], amount=12.5) == 12.5
    assert _say("amount", talk, steps=["refund"], amount=99.0) is None
    one = _talk("c: I want $40 back", "a: I refunded $12.50")
    assert _value("amount", one, steps=["refund"], amount=40.0) == 12.5


def test_fee_is_not_the_money_given_back() -> None:
    talk = _talk("a: it costs $49", "a: and I refunded $12.50")
    assert _value("fee", talk, steps=["fee"], amount=12.5, fee=12.0) == 49
    assert _value("fee", talk, steps=["plan"], fee=49.0) is None


def test_outcome_is_done_where_an_action_was_taken() -> None:
    assert _value("outcome", _talk(), steps=["refund"], outcome="pending") == "done"
    assert _say("outcome", _talk(), steps=["refund"], outcome="done") is None
    assert _say("outcome", _talk(), steps=["ticket"], outcome="pending") is None


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        (["account", "identify", "refund"], "before"),
        (["account", "refund", "identify"], "after"),
        (["code", "password"], "before"),
        (["account", "refund"], "never"),
        (["account", "identify"], "na"),
        ([], "na"),
        (["refund", "identify", "address"], "after"),
    ],
)
def test_verified(steps: list[str], wanted: str) -> None:
    assert _value("verified", _talk(), steps=steps) == wanted


@pytest.mark.parametrize(
    ("steps", "more", "wanted"),
    [
        (["account", "refund"], {"amount": 15.0}, []),
        (["account", "refund"], {"amount": 15.01}, ["identify"]),
        (["account", "identify", "refund"], {"amount": 100.0}, []),
        (["account", "identify", "refund"], {"amount": 100.01}, ["approval"]),
        (["account", "credit"], {"origin": "company"}, []),
        (["account", "credit"], {"origin": "customer"}, ["identify"]),
        (["account", "identify", "address", "readback"], {}, ["readback"]),
        (["account", "identify", "consent", "cancel"], {}, []),
        (["account", "identify", "consent", "cancel", "fee"], {"fee": 49.0}, ["fee"]),
        (["account", "identify", "consent", "fee", "cancel"], {"fee": 49.0}, ["fee"]),
        (["account", "identify", "fee", "consent", "cancel"], {"fee": 49.0}, []),
        (["account", "test", "router"], {}, []),
        (["account", "test", "fee", "router"], {"fee": 49.0}, ["consent"]),
        (["password"], {}, ["account", "code"]),
        (["account", "identify"], {}, []),
    ],
)
def test_missing_steps_by_the_book(
    steps: list[str], more: dict[str, Json], wanted: list[str]
) -> None:
    finding = _say("missing_steps", _talk(), steps=steps, **more)
    assert finding is not None and sorted(finding.value) == sorted(wanted)
    assert all(step in finding.reason for step in wanted)


def test_n_actions_counts_sensitive_ones() -> None:
    assert _value("n_actions", _talk(), steps=["account", "refund", "ticket", "address"]) == 2
    assert _value("n_actions", _talk(), steps=["visit"]) == 0


def test_verdict_raises_an_alarm() -> None:
    finding = _say(
        "policy_verdict", _talk(), steps=["account", "address"], policy_verdict="compliant"
    )
    assert finding is not None
    assert finding.value == "violation" and "address came without identify" in finding.reason


def test_verdict_between_the_harmless_ones_follows_the_steps() -> None:
    acted = ["account", "test", "router"]
    assert _value("policy_verdict", _talk(), steps=acted) == "compliant"
    assert _value("policy_verdict", _talk(), steps=[]) == "no_sensitive_action"


@given(
    steps=st.lists(st.sampled_from(_STEPS), max_size=12),
    amount=st.none() | st.floats(0, 999),
    fee=st.none() | st.floats(0, 999),
    origin=st.sampled_from(["customer", "company", "none"]),
)
def test_the_verdict_is_an_alarm_exactly_where_a_need_is_not_met(
    steps: list[str], amount: float | None, fee: float | None, origin: str
) -> None:
    facts: dict[str, Json] = {"steps": steps, "amount": amount, "fee": fee, "origin": origin}
    finding = _say("policy_verdict", _talk(), **facts)
    assert finding is not None
    assert (finding.value == "violation") == bool(load_book().missing(steps, amount, origin, fee))


@given(steps=st.lists(st.sampled_from(_STEPS), max_size=12), text=st.text(max_size=80))
def test_the_steps_rule_only_takes_away(steps: list[str], text: str) -> None:
    finding = _say("steps", Transcript("t", (Turn("customer", text),)), steps=steps)
    if finding is not None:
        left = iter(steps)
        assert all(step in left for step in finding.value)
        assert {*steps} - {*finding.value} <= {"account", "identify", "code"}


def test_a_book_of_ones_own() -> None:
    book = parse_book("actions: {gift: {meaning: x, needs: [{step: hello, origin: company}]}}")
    assert book.missing(["gift"], None, "customer", None) == []
    ((action, need),) = book.missing(["gift"], None, "company", None)
    assert (action, need.step, need.why()) == ("gift", "hello", "asked for by the company")
