"""Tables and lines give the same turns; what does not fit is refused by file, row or line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparseft.errors import DataError
from sparseft.routing import Turn, applied, dialogues_of, difference
from sparseft.routing.dialogues import read_jsonl, read_turns, write_jsonl
from sparseft.routing.dialogues.sgd import read_sgd_turns
from tests.routing.dialogues.cases import lines, rows, table


def test_a_table_becomes_turns_in_its_order(tmp_path: Path) -> None:
    turns = read_turns(table(tmp_path / "t.parquet", rows()))
    assert [turn.id for turn in turns] == [("a", 0), ("a", 1), ("b", 1), ("b", 0)]
    first = rows()[0]
    assert turns[0] == Turn("a", 0, "", first["user"], first["state"], first["delta"], ("hotel",))
    assert turns[1].delta == {"hotel-area": "[DELETE]"} and turns[1].state == {}


def test_lines_become_the_same_turns(tmp_path: Path) -> None:
    turns = read_turns(table(tmp_path / "t.parquet", rows()))
    assert read_jsonl(lines(tmp_path / "t.jsonl", rows())) == turns


def test_domains_of_lines_may_be_left_out_and_lines_empty(tmp_path: Path) -> None:
    row = rows()[0]
    del row["domains"]
    path = lines(tmp_path / "t.jsonl", [row])
    path.write_bytes(b"\xef\xbb\xbf\n" + path.read_bytes() + b"\r\n")
    assert [turn.domains for turn in read_jsonl(path)] == [()]


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["a-b", "c-d"]), st.text("ab|é\n ", max_size=4)),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, states: list[dict[str, str]]
) -> None:
    before = [{}, *states[:-1]]
    turns = [
        Turn("d", n, "s\u2028s", "u", state, difference(old, state), ("x", "y"))
        for n, (old, state) in enumerate(zip(before, states, strict=True))
    ]
    path = write_jsonl(tmp_path_factory.mktemp("jsonl") / "t.jsonl", turns)
    assert read_jsonl(path) == turns


def test_turns_that_could_not_be_read_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="place 0"):
        write_jsonl(tmp_path / "t.jsonl", [Turn("d", 1, "", "u", {}, {})])
    assert not list(tmp_path.iterdir())


_BAD: list[tuple[dict[str, Any], str]] = [
    ({"dialogue_id": None}, "dialogue_id"),
    ({"dialogue_id": ""}, "dialogue_id"),
    ({"turn_id": "1"}, "turn_id"),
    ({"turn_id": True}, "turn_id"),
    ({"turn_id": -1}, "turn_id"),
    ({"turn_id": 2}, "turn 1 of 'a'"),
    ({"turn_id": 0}, "second"),
    ({"user": None}, "user"),
    ({"system": 3}, "system"),
    ({"domains": "hotel"}, "domains"),
    ({"state": {"hotel-area": 1}}, "state"),
    ({"state": {"hotel-area": "[DELETE]"}, "delta": {}}, "belongs in delta"),
    ({"state": {"hotel-area": "south"}}, r"namely \{'hotel-area': 'south'\}"),
    ({"delta": []}, "delta"),
    ({"delta": {}}, "leads to the state"),
]


@pytest.mark.parametrize(("change", "said"), _BAD)
def test_a_bad_line_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    content = rows()
    content[1] |= change
    with pytest.raises(DataError, match=rf"(?s){said}.*line 2 of .*t\.jsonl"):
        read_jsonl(lines(tmp_path / "t.jsonl", content))


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"turn_id": NaN}', '{"a": 1, "a": 2}', "{}"])
def test_a_line_that_is_no_turn_is_named(tmp_path: Path, text: str) -> None:
    path = lines(tmp_path / "t.jsonl", rows())
    path.write_text(path.read_text() + "\n" + text)
    with pytest.raises(DataError, match=r"line 6 of .*t\.jsonl"):
        read_jsonl(path)


@pytest.mark.parametrize(
    "change",
    [
        {"dialogue_id": None},
        {"turn_id": None},
        {"user": None},
        {"state": None},
        {"state": "{"},
        {"state": "[]"},
        {"delta": '{"a": 1}'},
        {"delta": "{}"},
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    content = rows()
    content[1] |= change
    with pytest.raises(DataError, match=r"row 1 of .*t\.parquet"):
        read_turns(table(tmp_path / "t.parquet", content))


def test_missing_columns_and_files_are_named(tmp_path: Path) -> None:
    content = [{k: v for k, v in row.items() if k != "delta"} for row in rows()]
    with pytest.raises(DataError, match=r"'delta'.*'state'"):
        read_turns(table(tmp_path / "t.parquet", content))
    (tmp_path / "empty.jsonl").write_text("\n")
    readers: list[tuple[Callable[[Path], Any], str]] = [
        (read_turns, "none.parquet"),
        (read_jsonl, "none.jsonl"),
        (read_jsonl, "empty.jsonl"),
        (read_turns, "empty.jsonl"),
    ]
    for reader, name in readers:
        with pytest.raises(DataError, match=name):
            reader(tmp_path / name)


def test_services_of_sgd_are_those_of_the_turns_frames(tmp_path: Path) -> None:
    intents = [["H_1:NONE"], ["H_1:Find", "R_2:Book"], ["T_1:Go"], ["T_1:Go"]]
    content = [
        {**row, "domains": ["H_1", "R_2"], "active_intents": each}
        for row, each in zip(rows(), intents, strict=True)
    ]
    turns = read_sgd_turns(table(tmp_path / "s.parquet", content))
    assert [turn.domains for turn in turns] == [("H_1",), ("H_1", "R_2"), ("T_1",), ("T_1",)]
    content[2]["active_intents"] = ["T_1"]
    with pytest.raises(DataError, match=r"SERVICE:INTENT.*row 2 of"):
        read_sgd_turns(table(tmp_path / "s.parquet", content))
    with pytest.raises(DataError, match="'active_intents'"):
        read_sgd_turns(table(tmp_path / "s.parquet", rows()))


def test_deltas_of_a_file_add_up(tmp_path: Path) -> None:
    turns = read_turns(table(tmp_path / "t.parquet", rows()))
    for dialogue in dialogues_of(turns).values():
        state: dict[str, str] = {}
        for turn in dialogue:
            state = applied(state, turn.delta)
            assert state == turn.state
