"""Recorded answers by turn; files that do not fit are refused by row."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from sparseft import paths
from sparseft.errors import DataError
from sparseft.routing import DELETE, Expert
from sparseft.routing.experts import Prices, RecordedExpert
from tests.routing.experts.cases import context


def _row(**changes: Any) -> dict[str, Any]:
    facts = {"system_name": "s", "dialogue_id": "d", "turn_id": 0, "pred_delta": "{}"}
    return {**facts, "score": -0.5, **changes}


def _table(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def _lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_a_table_answers_by_dialogue_and_number(tmp_path: Path) -> None:
    delta = {"hotel-area": "north", "hotel-name": DELETE}
    table = _table(
        tmp_path / "p.parquet",
        [
            _row(turn_id=1, pred_delta=json.dumps(delta)),
            _row(turn_id=0, pred_delta=None, score=math.nan),
            _row(system_name="other", turn_id=1, pred_delta='{"hotel-area": "south"}'),
        ],
    )
    expert = RecordedExpert.from_parquet(table, "s", trained_on=frozenset({"x"}))
    assert isinstance(expert, Expert) and len(expert) == 2
    assert (expert.name, expert.trained_on) == ("s", frozenset({"x"}))
    first, null, missing = expert.predict([context(1), context(0), context(7)])
    assert (first.delta, first.score, first.problem) == (delta, -0.5, "")
    assert (null.delta, null.score) == ({}, None) and "got none in row 1" in null.problem
    assert missing.delta == {} and "turn 7 of 'd'" in missing.problem


def test_lines_answer_too_with_what_else_they_know(tmp_path: Path) -> None:
    path = _lines(
        tmp_path / "large.jsonl",
        {"dialogue_id": "d", "turn_id": 0, "delta": {"a-b": "c"}, "score": -1, "seconds": 0.5}
        | {"prompt_tokens": 1000, "answer_tokens": 100, "model": "m"},
        {"dialogue_id": "d", "turn_id": 1, "delta": None},
        {"dialogue_id": "d", "turn_id": 2},
    )
    expert = RecordedExpert.from_jsonl(path, prices=Prices(prompt=1.0, answer=10.0))
    full, null, none = expert.predict([context(0), context(1), context(2)])
    assert expert.name == "large" and full.delta == {"a-b": "c"} and full.score == -1.0
    assert (full.prompt_tokens, full.answer_tokens, full.seconds) == (1000, 100, 0.5)
    assert full.price == pytest.approx(0.002) and full.notes == {"model": "m"}
    assert null.problem and none.problem and not full.problem


def test_a_score_that_is_not_finite_is_none(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"dialogue_id": "d", "turn_id": 0, "delta": {}, "score": NaN}\n')
    assert RecordedExpert.from_jsonl(path).predict([context()])[0].score is None


def test_turns_of_another_numbering_are_noticed(tmp_path: Path) -> None:
    expert = RecordedExpert.from_parquet(_table(tmp_path / "p.parquet", [_row()]), "s")
    expert.check([("d", 0)])
    with pytest.raises(DataError, match=r"none for 2 such as \('d', 1\)"):
        expert.check([("d", 0), ("d", 1), ("D", 0)])


def test_a_second_record_of_a_turn_is_refused(tmp_path: Path) -> None:
    rows = [_row(), _row(system_name="other"), _row()]
    with pytest.raises(DataError, match=r"second one of \('d', 0\) in row 2 of .*p\.parquet"):
        RecordedExpert.from_parquet(_table(tmp_path / "p.parquet", rows), "s")
    row = {"dialogue_id": "d", "turn_id": 0, "delta": {}}
    with pytest.raises(DataError, match=r"line 2 of .*p\.jsonl"):
        RecordedExpert.from_jsonl(_lines(tmp_path / "p.jsonl", row, row))


@pytest.mark.parametrize(
    "bad",
    [
        {"pred_delta": "{"},
        {"pred_delta": "[]"},
        {"pred_delta": '{"a": 1}'},
        {"pred_delta": '{"a": "b", "a": "c"}'},
        {"dialogue_id": None},
        {"turn_id": None},
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, bad: dict[str, Any]) -> None:
    rows = [_row(turn_id=5), _row(**bad)]
    with pytest.raises(DataError, match=r"row 1 of .*p\.parquet"):
        RecordedExpert.from_parquet(_table(tmp_path / "p.parquet", rows), "s")


@pytest.mark.parametrize(
    "bad",
    [
        [],
        {"turn_id": 0},
        {"dialogue_id": "d", "turn_id": "0"},
        {"dialogue_id": "d", "turn_id": True},
        {"dialogue_id": "d", "turn_id": 0, "delta": {"a": None}},
        {"dialogue_id": "d", "turn_id": 0, "delta": "{}"},
        {"dialogue_id": "d", "turn_id": 0, "delta": {}, "score": "high"},
        {"dialogue_id": "d", "turn_id": 0, "delta": {}, "prompt_tokens": -1},
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(DataError, match=r"line 1 of .*p\.jsonl"):
        RecordedExpert.from_jsonl(_lines(tmp_path / "p.jsonl", bad))


def test_other_systems_and_columns_are_named(tmp_path: Path) -> None:
    table = _table(tmp_path / "p.parquet", [_row()])
    with pytest.raises(DataError, match=r"'t'.*'s'"):
        RecordedExpert.from_parquet(table, "t")
    rows = [{"system_name": "s", "dialogue_id": "d"}]
    with pytest.raises(DataError, match="'turn_id'"):
        RecordedExpert.from_parquet(_table(tmp_path / "q.parquet", rows), "s")


@pytest.mark.parametrize("content", [None, b"", b"PAR1", b"\xff" * 100, b"{\n"])
def test_unreadable_files_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "p"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=str(path)):
        RecordedExpert.from_parquet(path, "s")
    if content != b"":
        with pytest.raises(DataError, match=str(path)):
            RecordedExpert.from_jsonl(path)


def test_the_recorded_runs_of_multiwoz_are_read() -> None:
    root = paths.default_data_root()
    table = (root or Path()) / "multiwoz24_dev_llm_predictions" / "predictions.parquet"
    if not table.is_file():
        pytest.skip("data: needs the public data sets in ../shared/data beside the checkout")
    small = RecordedExpert.from_parquet(table, "llama3-8b.ftsbert-topk.python")
    large = RecordedExpert.from_parquet(table, "gpt-3.5.bm25+ftsbert.python")
    assert len(small) == len(large) == 1447
    wanted = [context(n, dialogue="MUL0013") for n in range(2)]
    deltas = [p.delta for p in large.predict(wanted)]
    assert deltas[0] == {"hotel-internet": "yes", "hotel-parking": "yes"}
    assert deltas[1] == {"hotel-area": "dontcare", "hotel-type": "guest house"}
