"""A batch that was cut off, in whatever way, ends with the bytes of one that was not."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparseft.compliance.serving import evaluate_stream
from sparseft.errors import DataError
from tests.compliance.serving.cases import (
    SCHEMA,
    Keywords,
    killed_at_last,
    read_lines,
    until,
    write_lines,
)

_LINES: list[Any] = [
    {"id": "a", "text": "hello ä 😀"},
    b"{no",
    {"id": "a", "text": "hello forbidden"},
    {"text": "boom"},
    {"id": 7, "text": "word"},
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "in.jsonl", *_LINES)


@pytest.fixture
def whole(tmp_path: Path, source: Path) -> bytes:
    evaluate_stream(Keywords(), source, tmp_path / "whole.jsonl")
    return (tmp_path / "whole.jsonl").read_bytes()


def test_cut_after_any_byte_it_ends_the_same(tmp_path: Path, source: Path, whole: bytes) -> None:
    out = tmp_path / "out.jsonl"
    for size in range(len(whole) + 1):
        out.write_bytes(whole[:size])
        counts = evaluate_stream(Keywords(), source, out, batch_size=2)
        assert out.read_bytes() == whole, f"cut after {size} bytes"
        assert counts.resumed == whole[:size].count(b"\n")


_SLOW = """
import sys
from tests.compliance.serving.cases import Keywords, quiet
from sparseft.compliance.serving import evaluate_stream
quiet()
evaluate_stream(Keywords(seconds=0.01), sys.argv[1], sys.argv[2], batch_size=3)
"""


def test_killed_three_times_it_ends_the_same(tmp_path: Path) -> None:
    lines = [{"id": f"c{n}", "text": f"hello {'word ' * (n % 13)}"} for n in range(300)]
    source = write_lines(tmp_path / "in.jsonl", *lines)
    evaluate_stream(Keywords(), source, tmp_path / "whole.jsonl")
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-c", _SLOW, str(source), str(out)]
    for part in (1, 2, 3):
        with killed_at_last(command) as process:
            until(lambda part=part: out.exists() and out.read_bytes().count(b"\n") > part * 40, 120)
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait(30) == -signal.SIGKILL
        assert len(out.read_bytes()) < len((tmp_path / "whole.jsonl").read_bytes())
    evaluator = Keywords()
    counts = evaluate_stream(evaluator, source, out)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert counts.resumed > 120
    assert sum(map(len, evaluator.batches)) == 300 - counts.resumed


def test_a_finished_batch_is_left_alone(tmp_path: Path, source: Path, whole: bytes) -> None:
    evaluator = Keywords()
    assert evaluate_stream(evaluator, source, tmp_path / "whole.jsonl").resumed == len(_LINES)
    assert evaluator.batches == []
    assert (tmp_path / "whole.jsonl").read_bytes() == whole


def test_more_lines_at_the_end_of_the_input_are_evaluated(tmp_path: Path, whole: bytes) -> None:
    longer = write_lines(tmp_path / "in.jsonl", *_LINES, {"id": "new", "text": "more"})
    counts = evaluate_stream(Keywords(), longer, tmp_path / "whole.jsonl")
    assert (counts.resumed, counts.evaluated) == (len(_LINES), 1)
    assert read_lines(tmp_path / "whole.jsonl")[-1]["id"] == "new"


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (0, {"id": "b", "text": "hello ä 😀"}),
        (0, {"id": "a", "text": "hello ä"}),
        (0, {"id": "a", "turns": [{"speaker": "agent", "text": "hello ä 😀"}]}),
        (1, {"id": "mended", "text": "no"}),
        (2, b""),
    ],
)
def test_a_changed_input_is_refused(tmp_path: Path, whole: bytes, place: int, line: Any) -> None:
    changed = [*_LINES[:place], line, *_LINES[place + 1 :]]
    source = write_lines(tmp_path / "in.jsonl", *changed)
    with pytest.raises(DataError, match="a change at line"):
        evaluate_stream(Keywords(), source, tmp_path / "whole.jsonl")
    assert (tmp_path / "whole.jsonl").read_bytes() == whole


def test_fewer_lines_another_schema_or_stamp_are_refused(
    tmp_path: Path, source: Path, whole: bytes
) -> None:
    out = tmp_path / "whole.jsonl"
    with pytest.raises(DataError, match="fewer lines"):
        evaluate_stream(Keywords(), write_lines(tmp_path / "short", *_LINES[:3]), out)
    other = replace(SCHEMA, instruction="Read.")
    with pytest.raises(DataError, match="schema and model"):
        evaluate_stream(Keywords(other), source, out)
    with pytest.raises(DataError, match="schema and model"):
        evaluate_stream(Keywords(), source, out, stamp="another model")
    assert out.read_bytes() == whole


@pytest.mark.parametrize(
    "content",
    [b"my notes\n", b"my notes", b"{}\n", b'["line"]\n', b"\xff\xfe\x00\n", b"\0" * 30, b"\n"],
)
def test_a_file_of_something_else_is_not_touched(
    tmp_path: Path, source: Path, content: bytes
) -> None:
    out = tmp_path / "notes.txt"
    out.write_bytes(content)
    with pytest.raises(DataError, match="another output"):
        evaluate_stream(Keywords(), source, out)
    assert out.read_bytes() == content


def test_starting_over(tmp_path: Path, source: Path, whole: bytes) -> None:
    out = tmp_path / "whole.jsonl"
    counts = evaluate_stream(Keywords(), source, out, resume=False, stamp="new")
    assert counts.resumed == 0
    assert len(read_lines(out)) == len(_LINES)
    assert out.read_bytes() != whole  # the stamp is in every line's hash


_HOLDING = """
import pathlib, sys, threading
from tests.compliance.serving.cases import Keywords
from sparseft.compliance.serving import evaluate_stream

class Holding(Keywords):
    def evaluate(self, transcripts):
        pathlib.Path(sys.argv[3]).touch()
        threading.Event().wait()

evaluate_stream(Holding(), sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize("resume", [True, False])
def test_two_processes_do_not_write_one_file(
    tmp_path: Path, source: Path, whole: bytes, resume: bool
) -> None:
    out, ready = tmp_path / "out.jsonl", tmp_path / "ready"
    out.write_bytes(whole[: whole.index(b"\n") + 1])
    command = [sys.executable, "-c", _HOLDING, str(source), str(out), str(ready)]
    with killed_at_last(command) as process:
        until(ready.exists, 120)
        before = out.read_bytes()
        with pytest.raises(DataError, match="another process"):
            evaluate_stream(Keywords(), source, out, resume=resume)
        assert out.read_bytes() == before
        process.kill()
    evaluate_stream(Keywords(), source, out, resume=resume)
    assert out.read_bytes() == whole
