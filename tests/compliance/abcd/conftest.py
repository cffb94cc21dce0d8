"""A small ABCD folder that is written here, and the real one where it lies beside the checkout."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparseft.compliance.abcd.kinds import Ontology
from sparseft.paths import default_data_root

Row = tuple[str, Sequence[tuple[str, Sequence[str]]]]

ENUMERABLE = {
    "customer_name": ["Crystal Minh", "David Williams", "Norman Bouchard"],
    "membership_level": ["guest", "bronze", "silver", "gold"],
    "payment_method": ["credit card", "debit card", "paypal"],
    "product": ["guess boots", "michael kors jeans"],
    "refund_target": ["add value", "credit card", "gift card", "paper check"],
    "security_answer": ["Livingston"],
    "shipping_option": ["delivered", "in transit", "order received", "out for delivery"],
}


@pytest.fixture
def ontology() -> Ontology:
    return Ontology({slot: tuple(v.lower() for v in values) for slot, values in ENUMERABLE.items()})


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[Sequence[Row], Sequence[Row]], Path]:
    """Write train and validation rows (dialogue, actions with values) as an ABCD folder."""

    def write(train: Sequence[Row], validation: Sequence[Row]) -> Path:
        for name, rows in (("train_subset", train), ("validation", validation)):
            recorded = [
                json.dumps([{"action": button, "values": list(v)} for button, v in actions])
                for _, actions in rows
            ]
            table = pa.table({"dialogue": [text for text, _ in rows], "actions": recorded})
            pq.write_table(table, tmp_path / f"conversations_{name}.parquet")
        content = json.dumps({"values": {"enumerable": ENUMERABLE}})
        (tmp_path / "ontology.json.gz").write_bytes(gzip.compress(content.encode()))
        return tmp_path

    return write


@pytest.fixture
def real_abcd() -> Path:
    """The real folder; a test that needs it is skipped where there is none."""
    root = default_data_root()
    if root is None or not (root / "abcd").is_dir():
        pytest.skip("data: needs the public data sets in ../shared/data beside the checkout")
    return root / "abcd"
