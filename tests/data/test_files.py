"""Reading parquet, CSV, TSV and JSON Lines, and what is said about damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.data.files import read_columns
from sparseft.errors import DataError
from tests.data.helpers import write_rows

ROWS = [
    {"text": "plain", "label": "a", "other": "1"},
    {"text": 'with "quotes", commas\nand two lines', "label": "b", "other": "2"},
    {"text": "ünïcode 漢字 🙂", "label": "a", "other": "3"},
]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl"])
def test_every_format_gives_the_same_columns(tmp_path: Path, suffix: str) -> None:
    path = write_rows(tmp_path / f"rows{suffix}", ROWS)
    texts, labels = read_columns(path, ["text", "label"])
    assert texts == [row["text"] for row in ROWS]
    assert labels == ["a", "b", "a"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=1))
def test_any_text_survives_csv(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    write_rows(path, [{"text": text, "label": "a"} for text in texts])
    assert read_columns(path, ["text", "label"])[0] == texts


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_lists_of_labels_stay_lists(tmp_path: Path, suffix: str) -> None:
    rows = [{"text": "x", "labels": ["a", "b"]}, {"text": "y", "labels": []}]
    path = write_rows(tmp_path / f"rows{suffix}", rows)
    assert read_columns(path, ["labels"]) == [[["a", "b"], []]]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl"])
def test_a_missing_column_names_those_found(tmp_path: Path, suffix: str) -> None:
    path = write_rows(tmp_path / f"rows{suffix}", ROWS)
    with pytest.raises(DataError, match=r"'intent'.*'text', 'label', 'other'.*data\.label_column"):
        read_columns(path, ["text", "intent"])


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\nx,a\n", encoding="utf-8-sig")
    assert read_columns(path, ["text"]) == [["x"]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.parquet", b"PAR1 not really", "parquet file"),
        ("rows.csv", b"text,label\nfine,a\nno, quotes here,a\n", "2 fields in line 3.*got 3"),
        ("rows.csv", b'text,label\n"open,a\n', "CSV.*quotes"),
        ("rows.csv", b"text,label\ncaf\xe9,a\n", "UTF-8.*0xe9"),
        ("rows.csv", b"", "column 'text'"),
        ("rows.jsonl", b'{"text": "x", "label": "a"}\n{"text": \n', "line 2"),
        ("rows.jsonl", b'["x", "a"]\n', "JSON object in line 1.*list"),
        ("rows.jsonl", b'{"text": "x", "label": "a"}\n{"text": "y"}\n', "'label' in line 2"),
        ("rows.xlsx", b"PK", r"ending in \.parquet, \.csv, \.tsv, \.jsonl"),
    ],
)
def test_a_damaged_file_has_one_clear_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_columns(path, ["text", "label"])
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file; .*data\.root"):
        read_columns(tmp_path / "none.csv", ["text"])
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="expected to read"):
        read_columns(tmp_path / "folder.csv", ["text"])
