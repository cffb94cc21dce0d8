"""The command line of predict: what goes in, what comes out, what a bad line does."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sparseft.predict import main
from sparseft.reporting.predictor import load
from tests.report.delta_folder import LABELS, save_delta


@pytest.fixture(scope="module")
def delta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_delta(tmp_path_factory.mktemp("delta"))


def _records(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


class _Stdin:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)

    def isatty(self) -> bool:
        return False


def test_texts_as_arguments(delta: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(delta), "word1 word2 word3 word4", "word9", "--tokens", "2"]) == 0
    out, err = capsys.readouterr()
    records = _records(out)
    expected = load(delta, "cpu").predict(["word1 word2 word3 word4", "word9"], saliency=True)
    for record, found in zip(records, expected, strict=True):
        assert record["prediction"] == found.labels[0]
        assert record["probability"] == pytest.approx(found.probabilities[0], abs=1e-6)
    assert [entry["token"] for entry in records[0]["tokens"]] == [
        word for word, _ in expected[0].salient(2)
    ]
    assert records[0]["text"] == "word1 word2 word3 word4"
    assert "2 texts in" in err and "a second" in err


def test_a_terminal_gets_a_table(
    delta: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main([str(delta), "word1 word2 " * 20, ""]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["prediction", "probability", "text", "salient"]
    assert first.split()[0] in LABELS and "…" in first
    assert second.split() == ["–", "–"]


def test_json_lines_keep_their_other_keys_and_their_order(
    delta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": n, "text": f"word{n} " * (1 + n % 5), "label": "gold"} for n in range(23)]
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    target = tmp_path / "out" / "answers.jsonl"
    arguments = [str(delta), "--file", str(source), "--out", str(target)]
    assert main([*arguments, "--batch-size", "4", "--tokens", "0"]) == 0
    records = _records(target.read_text(encoding="utf-8"))
    assert [(r["id"], r["label"]) for r in records] == [(n, "gold") for n in range(23)]
    assert all(r["prediction"] in LABELS and "tokens" not in r for r in records)
    assert capsys.readouterr().out == ""


def test_bad_lines_are_named_and_the_others_go_on(
    delta: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [b'{"text": "word1"}', b'{"text": 5}', b"{oops", b'["text"]', b'{"text": "\xff"}']
    lines += [b'{"text": ""}', '{"text": "wörd2"}'.encode()]
    monkeypatch.setattr(sys, "stdin", _Stdin(b"\n".join(lines)))
    assert main([str(delta)]) == 1
    out, err = capsys.readouterr()
    records = _records(out)
    assert [record["text"] for record in records] == ["word1", "", "wörd2"]
    assert records[1]["prediction"] is None and records[1]["probability"] is None
    problems = [line for line in err.splitlines() if line.startswith("line ")]
    assert [problem.split(":")[0] for problem in problems] == [f"line {n}" for n in (2, 3, 4, 5)]
    assert "3 texts in" in err and "4 left out" in err


def test_plain_lines_from_stdin_may_be_empty(
    delta: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", _Stdin(b"\xef\xbb\xbfword1 word2\r\n\nword3\n"))
    assert main([str(delta), "--file", "-"]) == 0
    records = _records(capsys.readouterr().out)
    assert [record["text"] for record in records] == ["word1 word2", "", "word3"]
    assert [record["prediction"] is None for record in records] == [False, True, False]
    monkeypatch.setattr(sys, "stdin", _Stdin(b""))
    assert main([str(delta)]) == 0
    assert capsys.readouterr().out == ""


def test_the_format_can_be_forced(
    delta: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", _Stdin(b'{"text": "word1"}\n'))
    assert main([str(delta), "--format", "text"]) == 0
    assert _records(capsys.readouterr().out)[0]["text"] == '{"text": "word1"}'


def test_several_labels_come_as_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(save_delta(tmp_path, multi_label=True)), "word1 word2"]) == 0
    (record,) = _records(capsys.readouterr().out)
    assert isinstance(record["prediction"], list)
    assert len(record["prediction"]) == len(record["probability"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["text", "--file", "texts.txt"], "both"),
        (["--file", "missing.txt"], "missing.txt"),
        (["text", "--batch-size", "0"], "--batch-size"),
        (["text", "--device", "nonsense"], "nonsense"),
    ],
)
def test_user_errors_are_one_line(
    arguments: list[str], message: str, delta: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(delta), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: expected") and message in err and err.count("\n") == 1


def test_a_folder_without_a_delta_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "word1"]) == 2
    assert capsys.readouterr().err.startswith("error: expected")


def test_no_text_on_a_terminal_is_an_error(
    delta: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert main([str(delta)]) == 2
    assert "expected texts, got none" in capsys.readouterr().err


def test_a_reader_that_stops_early_is_no_error(delta: Path, tmp_path: Path) -> None:
    source = tmp_path / "many.txt"
    source.write_text("word1 word2\n" * 3000)
    root = Path(__file__).resolve().parents[1]
    command = f"{sys.executable} -m sparseft.predict {delta} --file {source} --tokens 0 | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "kernels")])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
