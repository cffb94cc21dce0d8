"""Gold comes from the values that were entered, and from nothing that predicts."""

from __future__ import annotations

import ast
import gzip
from pathlib import Path

import pytest

from sparseft.compliance import load_schema
from sparseft.compliance.abcd import gold as module
from sparseft.compliance.abcd import kinds
from sparseft.compliance.abcd.gold import Action, gold_of
from sparseft.compliance.abcd.kinds import Ontology, read_ontology
from sparseft.errors import DataError


def _gold(ontology: Ontology, *actions: tuple[str, ...]) -> dict[str, object]:
    gold = gold_of([Action(button, values) for button, *values in actions], ontology)  # type: ignore[arg-type]
    return load_schema("abcd").canonical(gold)


def test_a_whole_record(ontology: Ontology) -> None:
    gold = _gold(
        ontology,
        ("pull-up-account", "crystal minh"),
        ("validate-purchase", "cminh730", "cminh730@email.com", "3348917502"),
        ("validate-purchase", "cminh730", "cminh730@email.com", "3348917503"),
        ("membership", "sliver"),
        ("record-reason", "credit card"),
        ("enter-details", "rneyv9znbh"),
        ("offer-refund", "$64"),
    )
    assert gold == {
        "customer_name": "crystal minh",
        "account_id": "RNEYV9ZNBH",
        "order_id": "3348917503",  # the corrected one
        "email": "cminh730@email.com",
        "membership_level": "silver",
        "shipping_status": None,
        "reason": "payment",
        "changed": None,
        "refund_amount": 64.0,
        "escalation": "none",
        # A button pressed again at once stands once.
        "actions_taken": [
            "pull-up-account", "validate-purchase", "membership", "record-reason", "enter-details",
            "offer-refund",
        ],
        "identity_check": "validate",
        "oracle_consulted": False,
        "n_actions": 6,
        "resolution": "refund",
        "verified_before_sensitive": "yes",
        "missing_steps": [],
        "policy_verdict": "compliant",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("add service", "add_service"),
        ("10", "fee"),
        ("9.95", "fee"),
        ("(003) 635-6929", "phone"),
        ("mastercard", "payment"),
        ("michael kors jeans", "items"),
        ("4189 brushwick rd", "address"),
        ("norman bouchard", "name"),
        ("refund", "other"),
    ],
)
def test_what_was_changed(ontology: Ontology, value: str, kind: str) -> None:
    assert _gold(ontology, ("update-account", value))["changed"] == kind


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("competitor", "competitor"),
        ("9", "days"),
        ("5 days", "days"),
        ("add value", "payment"),
        ("guess boots", "product"),
        ("1941 2nd ave", "old_value"),
        ("changed mind", "other"),
    ],
)
def test_the_reason(ontology: Ontology, value: str, kind: str) -> None:
    assert _gold(ontology, ("record-reason", value))["reason"] == kind


def test_ids_are_told_from_look_alikes(ontology: Ontology) -> None:
    assert ontology.account_id("jalzskapfn") and ontology.account_id("s1mdy7uciy")
    # Too short, all digits, a security answer, a user name of this customer.
    for value in ("afg5674g", "3348917502", "livingston", "dwilliams1", "cminh@a.de"):
        assert not ontology.account_id(value)
    assert ontology.order_id("0080060908") and not ontology.order_id("520639177")
    assert ontology.email("a.b@email.com")
    for value in ("as595038@email", "@email.com", "a b@email.com", "a@email.", "cminh730"):
        assert not ontology.email(value)
    assert ontology.phone("247 983 8853") and not ontology.phone("2479838853")
    assert ontology.amount("credit card") is None and ontology.amount("64.50") == 64.5


def test_names(ontology: Ontology) -> None:
    assert ontology.name("norman bouchard customer is typing") == "norman bouchard"
    assert ontology.name("crystak minh") == "crystak minh"
    assert ontology.name("account id") is None and ontology.name("aphoenix523") is None


def test_no_values_are_null(ontology: Ontology) -> None:
    gold = _gold(ontology, ("shipping-status", "none"), ("offer-refund", "none"))
    assert gold["shipping_status"] is None and gold["refund_amount"] is None
    assert gold["policy_verdict"] == "violation"


def test_gold_shares_no_pattern_with_the_predictions() -> None:
    for source in (module, kinds):
        tree = ast.parse(Path(source.__file__ or "").read_text(encoding="utf-8"))
        names = {
            name
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom)
                else []
            )
        }  # fmt: skip
        assert "re" not in names
        assert not any(name.endswith((".text", ".rules", ".plans")) for name in names)


def test_a_damaged_ontology_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ontology.json.gz"
    for content in (b"no gzip", gzip.compress(b"{"), gzip.compress(b'{"values": {}}')):
        path.write_bytes(content)
        with pytest.raises(DataError, match="expected ABCD's ontology"):
            read_ontology(path)
    with pytest.raises(DataError, match="expected ABCD's ontology"):
        read_ontology(tmp_path / "missing")
