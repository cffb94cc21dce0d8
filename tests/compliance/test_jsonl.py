"""A user's transcripts: good lines are read, bad ones are told, none stops the others."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from sparseft.compliance import Example, Transcript
from sparseft.compliance import jsonl as module
from sparseft.compliance.jsonl import BadLine, read_jsonl
from sparseft.compliance.schema import Schema, parse_schema
from sparseft.errors import DataError

_SCHEMA = """
name: demo
fields:
  kind: {kind: enum, values: [refund, other]}
  amount: {kind: amount, minimum: 0, maximum: 100, nullable: true}
"""
_GOLD = {"kind": "refund", "amount": 5}


@pytest.fixture
def schema() -> Schema:
    return parse_schema(_SCHEMA, "demo.yaml")


def _write(path: Path, *lines: object) -> Path:
    content = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(content) + b"\n")
    return path


def test_labelled_and_unlabelled_lines(tmp_path: Path, schema: Schema) -> None:
    file = _write(
        tmp_path / "t.jsonl",
        {"id": "a", "text": "hello", "gold": _GOLD, "group": "g", "tags": ["x"]},
        {"turns": [{"speaker": "agent", "text": "hi"}]},
    )
    first, second = read_jsonl(file, schema)
    assert isinstance(first, Example) and isinstance(second, Transcript)
    assert (first.transcript.id, first.group, first.tags) == ("a", "g", ("x",))
    assert first.gold == {"kind": "refund", "amount": 5.0}
    assert second.id == "line-2"
    assert second.turns[0].speaker == "agent"


def test_labelled_false_leaves_gold_alone(tmp_path: Path, schema: Schema) -> None:
    file = _write(tmp_path / "t.jsonl", {"text": "hello", "gold": {"kind": "nonsense"}})
    (line,) = read_jsonl(file, schema, labelled=False)
    assert isinstance(line, Transcript)


def test_one_bad_line_of_each_kind_stops_nothing(tmp_path: Path, schema: Schema) -> None:
    good = {"id": "good", "text": "hello", "gold": _GOLD}
    bad: dict[str, object] = {
        "line of JSON": b'{"text": ',
        "UTF-8": b'{"text": "caf\xe9"}',
        "a transcript as a JSON object": [1, 2],
        '"turns" (a list) or "text"': {"id": "b"},
        "speaker of agent": {"turns": [{"speaker": "robot", "text": "hi"}], "gold": _GOLD},
        'a "gold" object': {"text": "hello"},
        "exactly the fields": {"text": "hello", "gold": {"kind": "refund"}},
        "kind to be one of refund, other": {"text": "x", "gold": {"kind": "x", "amount": None}},
        "NaN": b'{"text": "x", "gold": {"kind": "refund", "amount": NaN}}',
        "a key occurs twice": b'{"text": "x", "text": "y"}',
        "surrogates": rb'{"text": "\ud83d"}',
        "recursion": b"[" * 100_000,
        "Exceeds the limit": b'{"text": ' + b"9" * 5000 + b"}",
        '"group"': {"text": "x", "gold": _GOLD, "group": 3},
        '"tags"': {"text": "x", "gold": _GOLD, "tags": "refund"},
    }
    content = [entry for line in bad.values() for entry in (line, good)]
    read = list(read_jsonl(_write(tmp_path / "t.jsonl", *content), schema, labelled=True))
    assert [isinstance(line, Example) for line in read] == [False, True] * len(bad)
    for place, (message, line) in enumerate(zip(bad, read[::2], strict=True)):
        assert isinstance(line, BadLine)
        assert line.line == 2 * place + 1
        assert message in line.error
        assert line.error.startswith("expected")


def test_a_bad_line_names_its_transcript(tmp_path: Path, schema: Schema) -> None:
    file = _write(tmp_path / "t.jsonl", {"id": "c7", "text": "x", "gold": {}})
    (line,) = read_jsonl(file, schema)
    assert isinstance(line, BadLine) and line.id == "c7"


def test_blank_lines_marks_and_line_ends(tmp_path: Path, schema: Schema) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n   \n{"text": "b"}')
    read = list(read_jsonl(path, schema))
    assert [line.id for line in read if isinstance(line, Transcript)] == ["line-1", "line-4"]
    assert len(read) == 2
    path.write_bytes(b"")
    assert list(read_jsonl(path, schema)) == []


def test_a_line_without_an_end_is_not_held(
    tmp_path: Path, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_LINE", 1000)
    path = tmp_path / "t.jsonl"
    exact = json.dumps({"text": ""})
    whole = json.dumps({"text": "x" * (999 - len(exact))})  # with its line end just what is read
    path.write_text(f"{whole}\n" + "y" * 3500 + '\n{"text": "after"}\n' + "z" * 5000)
    first, long, after, last = read_jsonl(path, schema)
    assert isinstance(first, Transcript) and isinstance(after, Transcript)
    assert (after.turns[0].text, after.id) == ("after", "line-3")
    for line, number in ((long, 2), (last, 4)):
        assert isinstance(line, BadLine)
        assert line.line == number and "at most 1000 bytes" in line.error


def test_memory_does_not_grow_with_the_file(tmp_path: Path, schema: Schema) -> None:
    path = tmp_path / "t.jsonl"
    line = json.dumps({"text": "word " * 2000})

    def peak(lines: int) -> int:
        path.write_text(f"{line}\n" * lines)
        tracemalloc.start()
        assert sum(1 for _ in read_jsonl(path, schema)) == lines
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(10)  # what is loaded once
    assert peak(500) < peak(20) + 200_000


def test_an_unreadable_file_is_told_at_once(tmp_path: Path, schema: Schema) -> None:
    with pytest.raises(DataError, match="expected to read"):
        read_jsonl(tmp_path / "missing.jsonl", schema)
    with pytest.raises(DataError, match="expected to read"):
        read_jsonl(tmp_path, schema)
