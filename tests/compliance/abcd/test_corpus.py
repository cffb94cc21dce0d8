"""The ABCD folder becomes labelled transcripts, the same ones for the same seed."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sparseft.compliance import Example, apply_rules, load_schema
from sparseft.compliance.abcd import load_abcd
from sparseft.compliance.abcd.rules_only import read_by_rules
from sparseft.errors import DataError

Folder = Callable[..., Path]


def _rows(count: int, word: str) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    return [
        (f"{word} {place}", [("pull-up-account", ["Crystal Minh "]), ("send-link", ["none"])])
        for place in range(count)
    ]


def test_draws_are_nested_and_disjoint(folder: Folder) -> None:
    root = folder(_rows(20, "train"), _rows(9, "test"))
    small = load_abcd(root, train_rows=5, seed=3)
    large = load_abcd(root, train_rows=12, seed=3, test_rows=4)
    assert large.train[:5] == small.train
    assert load_abcd(root, train_rows=5, seed=4).train != small.train
    names = [e.transcript.id for e in (*small.train, *small.spare, *small.test)]
    assert len(set(names)) == 29 and (len(small.train), len(small.test)) == (5, 9)
    # The scored ones do not depend on the seed.
    assert large.test == load_abcd(root, train_rows=1, seed=9, test_rows=4).test
    assert {e.transcript.id for e in large.test} < {e.transcript.id for e in small.test}


def test_an_example(folder: Folder) -> None:
    (example,) = load_abcd(folder(_rows(1, "train"), _rows(1, "test")), train_rows=1).train
    (turn,) = example.transcript.turns
    assert (turn.speaker, turn.text) == ("unknown", "train 0")
    assert example.gold["customer_name"] == "crystal minh"
    assert example.gold["actions_taken"] == ["pull-up-account", "send-link"]
    assert example.group == example.transcript.id


@pytest.mark.parametrize("rows", [0, 21, -1])
def test_too_many_rows_are_refused(folder: Folder, rows: int) -> None:
    root = folder(_rows(20, "train"), _rows(20, "test"))
    with pytest.raises(DataError, match="train_rows from 1 to 20"):
        load_abcd(root, train_rows=rows)
    with pytest.raises(DataError, match="test_rows from 1 to 20"):
        load_abcd(root, train_rows=1, test_rows=rows)


def test_damaged_files_are_told(folder: Folder) -> None:
    root = folder(_rows(2, "train"), _rows(2, "test"))
    path = root / "conversations_validation.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="expected ABCD's conversations at"):
        load_abcd(root, train_rows=1)
    path.unlink()
    with pytest.raises(DataError, match="expected ABCD's conversations at"):
        load_abcd(root, train_rows=1)
    root = folder([("x", [])], _rows(1, "test"))
    (root / "ontology.json.gz").write_bytes(gzip.compress(b"[]"))
    with pytest.raises(DataError, match="ontology"):
        load_abcd(root, train_rows=1)


def test_an_unknown_button_is_refused(folder: Folder) -> None:
    root = folder([("x", [("press-me", [])])], _rows(1, "test"))
    with pytest.raises(ValueError, match="actions_taken"):
        load_abcd(root, train_rows=1)


@pytest.fixture
def real(real_abcd: Path) -> tuple[list[Example], list[Example]]:
    corpus = load_abcd(real_abcd)
    return [*corpus.train, *corpus.spare], list(corpus.test)


def test_real_records_can_be_read_from_the_text(
    real: tuple[list[Example], list[Example]],
) -> None:
    assert (len(real[0]), len(real[1])) == (800, 1004)
    texts = [{e.transcript.turns[0].text for e in split} for split in real]
    assert not texts[0] & texts[1]
    for split in real:
        for field in ("customer_name", "account_id", "order_id", "email"):
            said = [e for e in split if e.gold[field] is not None]
            found = sum(e.gold[field].lower() in e.transcript.render().lower() for e in said)
            assert found / len(said) > 0.97, field


def test_real_violations_are_few(real: tuple[list[Example], list[Example]]) -> None:
    for split in real:
        verdicts = Counter(e.gold["policy_verdict"] for e in split)
        sensitive = verdicts["compliant"] + verdicts["violation"]
        assert 0.03 < verdicts["violation"] / sensitive < 0.15
        assert 0.3 < sensitive / len(split) < 0.5


def test_the_rules_are_right_where_the_model_is(
    real: tuple[list[Example], list[Example]],
) -> None:
    schema = load_schema("abcd")
    right: Counter[str] = Counter()
    for example in real[1]:
        said = {field.name: example.gold[field.name] for field in schema.model_fields}
        sure = dict.fromkeys(said, 1.0)
        values = apply_rules(schema, example.transcript, said, sure).values()
        right.update(name for name in schema.names if values[name] == example.gold[name])
    for field in schema.fields:
        copied = field.name in ("account_id", "order_id", "email")
        # What was entered with an action is sometimes none of the values that the schema knows.
        filled = field.rule is not None and field.by == "model" and field.name != "policy_verdict"
        least = 0.95 if copied else 0.995 if filled else 1.0
        assert right[field.name] / len(real[1]) >= least, field.name


def test_the_reader_without_a_model_beats_the_majority(
    real: tuple[list[Example], list[Example]],
) -> None:
    split = real[1][::5]
    read = [read_by_rules(example.transcript) for example in split]
    gains = []
    for name in load_schema("abcd").names:
        gold = [repr(example.gold[name]) for example in split]
        majority = Counter(gold).most_common(1)[0][1]
        gains.append(sum(repr(r[name]) == g for r, g in zip(read, gold, strict=True)) - majority)
    assert sum(gains) / len(gains) / len(split) > 0.12
