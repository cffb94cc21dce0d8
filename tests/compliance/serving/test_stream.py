"""Batches: each line of the input gets one of the output, whatever it holds."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sparseft.compliance import Record, Transcript
from sparseft.compliance.serving import Counts, evaluate_stream
from sparseft.errors import ConfigError, DataError, SparseftError
from tests.compliance.serving.cases import SCHEMA, Keywords, read_lines, write_lines

_GOOD = [{"id": f"c{n}", "text": f"hello {'word ' * n}"} for n in range(7)]


def test_lines_are_answered_in_order_and_counted(tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "in.jsonl",
        {"id": "a", "turns": [{"speaker": "customer", "text": "hello forbidden odd"}]},
        b"{broken",
        b"",
        {"id": "a", "text": "the same id again"},
        {"text": "no id"},
        {"id": "void", "turns": []},
        {"id": "blank", "text": " \n "},
        b'{"id": "bytes", "text": "\xff"}',
        {"id": "other", "words": 3},
        {"id": "x", "text": "refuse"},
    )
    out = tmp_path / "sub" / "out.jsonl"
    evaluator = Keywords()
    counts = evaluate_stream(evaluator, source, out, batch_size=3)
    lines = read_lines(out)
    places = [(line["line"], line["id"]) for line in lines]
    assert places == [
        (1, "a"), (2, ""), (4, "a"), (5, "line-5"), (6, "void"), (7, "blank"), (8, ""), (9, ""),
        (10, "x"),
    ]  # fmt: skip
    assert [line["line"] for line in lines if "error" in line] == [2, 6, 7, 8, 9, 10]
    assert lines[0]["values"] == {"words": 4, "greeted": True, "verdict": "violation"}
    assert lines[0]["provenance"]["words"] == {"source": "model"}
    assert all(line["error"].startswith("expected") for line in lines[4:8])
    counted = replace(counts, seconds=0.0)
    assert counted == Counts(evaluated=3, bad=5, failed=1, reviewed=1, alarms=1)
    assert counts.seconds > 0
    # A batch is three lines, whatever they hold.
    assert evaluator.batches == [["a", "a"], ["line-5"], ["x"]]


def test_a_very_long_transcript_goes_through(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", {"id": "long", "text": "word " * 100_000})
    evaluate_stream(Keywords(), source, tmp_path / "out.jsonl")
    assert read_lines(tmp_path / "out.jsonl")[0]["values"]["words"] == 100_000


def test_an_empty_input_gives_an_empty_output(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl")
    assert evaluate_stream(Keywords(), source, tmp_path / "out.jsonl").evaluated == 0
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_the_batch_size_changes_nothing_of_the_output(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", *_GOOD, b"no", {"text": "boom"})
    outputs = []
    for size in (1, 2, 100):
        evaluate_stream(Keywords(), source, tmp_path / f"{size}", batch_size=size)
        outputs.append((tmp_path / f"{size}").read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]


def test_lines_are_there_as_soon_as_their_batch_is_done(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", *_GOOD)
    out, seen = tmp_path / "out.jsonl", []
    evaluate_stream(
        Keywords(),
        source,
        out,
        batch_size=3,
        progress=lambda counts: seen.append((counts.evaluated, len(read_lines(out)))),
    )
    assert seen == [(3, 3), (6, 6), (7, 7)]


def test_one_failing_transcript_spares_its_batch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = {"id": "bad", "text": "boom my secret"}
    source = write_lines(tmp_path / "in.jsonl", *_GOOD[:3], secret, *_GOOD[3:])
    evaluator = Keywords()
    counts = evaluate_stream(evaluator, source, tmp_path / "out.jsonl", batch_size=4)
    lines = read_lines(tmp_path / "out.jsonl")
    assert [line["id"] for line in lines if "error" in line] == ["bad"]
    assert "RuntimeError" in lines[3]["error"]
    assert (counts.evaluated, counts.failed) == (7, 1)
    assert evaluator.batches[0] == ["c0", "c1", "c2", "bad"]
    assert evaluator.batches[1:5] == [["c0"], ["c1"], ["c2"], ["bad"]]
    assert "RuntimeError" in caplog.text and "secret" not in caplog.text


class _Wrong(Keywords):
    """Gives too few records for two or more, and a confidence that is no number for `nan`."""

    def evaluate(self, transcripts: Sequence[Transcript]) -> list[Record]:
        records = super().evaluate(transcripts)
        if len(records) > 1:
            return records[1:]
        entry = replace(records[0].fields["words"], confidence=math.nan)
        if transcripts[0].id == "nan":
            return [replace(records[0], fields={**records[0].fields, "words": entry})]
        return records


def test_records_that_are_missing_or_no_json_are_failures(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", _GOOD[0], {"id": "nan", "text": "x"}, _GOOD[1])
    counts = evaluate_stream(_Wrong(), source, tmp_path / "out.jsonl")
    lines = read_lines(tmp_path / "out.jsonl")
    assert [line["id"] for line in lines if "error" in line] == ["nan"]
    assert (counts.evaluated, counts.failed) == (2, 1)


def test_an_evaluator_that_fails_on_everything_is_stopped_and_tried_again_later(
    tmp_path: Path,
) -> None:
    source = write_lines(
        tmp_path / "in.jsonl",
        *_GOOD,
        *({"id": f"b{n}", "text": "boom"} for n in range(5)),
        b"no",
        {"id": "end", "text": "fine"},
    )
    out = tmp_path / "out.jsonl"
    with pytest.raises(SparseftError, match=r"5 transcripts in a row, up to line 12.*boom"):
        evaluate_stream(Keywords(), source, out, batch_size=2, max_failures=5)
    assert [line["id"] for line in read_lines(out)] == [f"c{n}" for n in range(7)]
    counts = evaluate_stream(Keywords(), source, out, batch_size=2, max_failures=6)
    assert (counts.resumed, counts.failed, counts.bad, counts.evaluated) == (7, 5, 1, 1)
    assert [line["line"] for line in read_lines(out)] == list(range(1, 15))


def test_settings_and_files_that_cannot_be(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", *_GOOD)
    before = source.read_bytes()
    with pytest.raises(ConfigError, match="batch size"):
        evaluate_stream(Keywords(), source, tmp_path / "out", batch_size=0)
    with pytest.raises(ConfigError, match="twice"):
        evaluate_stream(Keywords(), source, tmp_path / ".." / tmp_path.name / "in.jsonl")
    with pytest.raises(DataError, match="check the path"):
        evaluate_stream(Keywords(), tmp_path / "none.jsonl", tmp_path / "out")
    with pytest.raises(SparseftError, match="expected to write"):
        evaluate_stream(Keywords(), source, source / "out.jsonl")
    with pytest.raises(DataError, match="expected to read"):
        evaluate_stream(Keywords(), tmp_path, tmp_path / "out")
    assert source.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", *_GOOD)
    with pytest.raises(SparseftError, match="No space left"):
        evaluate_stream(Keywords(), source, "/dev/full")


_PIPED = """
from tests.compliance.serving.cases import Keywords
from sparseft.compliance.serving import evaluate_stream
evaluate_stream(Keywords(), "-", "-", batch_size=2)
"""


def test_standard_input_and_output(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", *_GOOD, b"no")
    with source.open("rb") as stream:
        done = subprocess.run(
            [sys.executable, "-c", _PIPED], stdin=stream, capture_output=True, timeout=120
        )
    assert done.returncode == 0, done.stderr.decode()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["id"] for line in lines] == [*(f"c{n}" for n in range(7)), ""]
    evaluate_stream(Keywords(), source, tmp_path / "out.jsonl")
    assert done.stdout == (tmp_path / "out.jsonl").read_bytes()


def test_values_follow_the_schema(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", *_GOOD)
    evaluate_stream(Keywords(), source, tmp_path / "out.jsonl")
    for line in read_lines(tmp_path / "out.jsonl"):
        assert line["schema"] == SCHEMA.name
        assert SCHEMA.canonical(line["values"]) == line["values"]
