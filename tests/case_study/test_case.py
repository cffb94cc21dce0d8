"""The command: one page that stands alone, its twin, its record; one clear line on errors."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
from pathlib import Path

import pytest

from sparseft.case import main
from sparseft.constructs import Construct, Constructs
from sparseft.files import write_json
from tests.case_study.helpers import change_json, write_run
from tests.training.helpers import LABELS

_SMALL = ["--device", "cpu", "--draws", "2", "--class-rows", "6", "--least-texts", "1"]


class _Page(html.parser.HTMLParser):
    """Checks that elements close in order, and collects what would be fetched or run."""

    _VOID = frozenset({"meta", "rect", "line", "circle", "path", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.headings: list[str] = []
        self.labelled = self.drawings = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.fetched += [str(found[key]) for key in ("src", "href", "data") if key in found]
        if tag == "script":
            self.fetched.append(tag)
        if tag == "svg":
            self.drawings += 1
            self.labelled += bool(found.get("aria-label")) and found.get("role") == "img"
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag, attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def written(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    assert main([str(run), "--out", str(out), *_SMALL]) == 0
    return out


def test_the_page_stands_alone_and_is_well_formed(written: Path) -> None:
    content = (written / "case.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(content)
    assert page.open == []
    assert page.fetched == []
    assert page.drawings == page.labelled == 3
    assert page.headings == ["h1", "h2", *["h3"] * 5, "h2", "h2"]
    assert "default-src 'none'" in content and "prefers-color-scheme:dark" in content
    assert all(label in content for label in LABELS)
    assert "{" not in re.sub(r"<style>.*?</style>", "", content, flags=re.DOTALL)


def test_the_twin_names_drawings_that_exist(written: Path) -> None:
    content = (written / "case.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\((figures/[^)]+)\)", content)
    assert sorted(linked) == sorted(f"figures/{p.name}" for p in (written / "figures").iterdir())
    assert len(linked) == 3
    for line in content.splitlines():
        if line.startswith("|"):  # every row of a table has the cells of its head
            assert len(re.findall(r"(?<!\\)\|", line)) >= 3
    for drawing in linked:
        assert (written / drawing).read_text(encoding="utf-8").startswith("<svg")


def test_the_record_holds_the_numbers(written: Path, run: Path) -> None:
    (record,) = json.loads((written / "case.json").read_text(encoding="utf-8"))
    assert record["labels"] == list(LABELS) and record["run"] == run.name
    assert record["settings"]["draws"] == 2
    assert [entry["units_of"] for entry in record["ablations"]] == list(LABELS)
    assert all(len(entry["random"]["own"]) == 2 for entry in record["ablations"])
    selection = json.loads((run / "delta" / "selection.json").read_text(encoding="utf-8"))
    units = sum(len(choice["scores"]) for choice in selection["choices"])
    assert sum(map(sum, record["placement"]["selected"])) == units
    assert 1 <= len(record["texts"]) <= 3
    assert set(record["words"]) == set(LABELS) and all(record["words"].values())


def test_the_same_command_writes_the_same_bytes(run: Path, written: Path, tmp_path: Path) -> None:
    assert main([str(run), "--out", str(tmp_path), *_SMALL]) == 0
    for name in ("case.html", "case.md", "case.json"):
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes()


def test_two_runs_of_one_data_set_are_told_apart(run: Path, tmp_path: Path) -> None:
    other = write_run(run.parent, "other")
    out = tmp_path / "both"
    sizes = [*_SMALL, "--classes", "2", "--test-rows", "9"]
    assert main([str(run), str(other), "--out", str(out), *sizes]) == 0
    content = (out / "case.html").read_text(encoding="utf-8")
    assert content.count('<section class="study"') == 2
    ids = re.findall(r'<section class="study" id="([^"]+)"', content)
    assert len(set(ids)) == 2 and all(f'href="#{name}"' in content for name in ids)
    assert len(list((out / "figures").iterdir())) == 6
    assert "2 of 3 classes are shown" in content


def test_text_of_the_data_cannot_become_markup(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    nasty = "word1 <script>alert(1)</script> & | `x` word2"
    train = tmp_path / "train.csv"
    rows = [f'"{nasty}",{LABELS[i % 3]}' for i in range(9)]
    train.write_text("text,label\n" + "\n".join(rows) + "\n")
    (tmp_path / "test.csv").write_text(f'text,label\n"{nasty} word3",alpha\n"word7 {nasty}",beta\n')
    facts = json.loads((run / "delta" / "config.json").read_text())["extra"]
    change_json(run / "delta" / "config.json", extra={**facts, "data": {}})
    assert main([str(run), "--out", str(tmp_path / "page"), *_SMALL]) == 0
    content = (tmp_path / "page" / "case.html").read_text(encoding="utf-8")
    assert "<script" not in content and "&lt;" in content
    page = _Page()
    page.feed(content)
    assert page.open == []


def test_constructs_that_the_run_mined_itself_are_shown(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Construct((5,), None, "of the run itself", LABELS[1], 9.0, 0.0, 3, 4, 1.0)
    counts = {"texts": 42, "candidates": 7}
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    Constructs((kept,), LABELS, counts=counts).save(copied / "constructs.json")
    assert main([str(copied), *_SMALL]) == 0
    assert "of the run itself" in (copied / "case_study" / "case.html").read_text(encoding="utf-8")
    capsys.readouterr()
    Constructs((kept,), ("beta", "delta"), counts=counts).save(copied / "constructs.json")
    assert "constructs.json" in _error(capsys, copied, *_SMALL)


# --- one clear line


def _error(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "expected" in lines[0] and "got" in lines[0]
    return lines[0]


def test_no_run_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "config.json" in _error(capsys, tmp_path / "nowhere")


def test_a_run_of_another_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path)
    (run / "delta").rename(run / "elsewhere")
    change_json(run / "config.json", method={"name": "lora", "lr": 1e-3})
    message = _error(capsys, run)
    assert "'lora'" in message and "method=sparse" in message
    assert not (run / "case_study").exists()


def test_the_delta_in_place_of_its_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "folder that holds it" in _error(capsys, run / "delta")


def test_a_missing_data_root(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = _error(capsys, run, "--data-root", tmp_path / "gone")
    assert "data.root" in message and "gone" in message


def test_data_moved_elsewhere_are_found_again(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    there = tmp_path / "there"
    there.mkdir()
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.csv").rename(there / f"{split}.csv")
    out = tmp_path / "page"
    assert main([str(run), "--out", str(out), "--data-root", str(there), *_SMALL]) == 0


def test_data_that_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path)
    test = tmp_path / "test.csv"
    test.write_text(test.read_text().replace("word1", "word2"))
    assert "trained on" in _error(capsys, run)


def test_a_delta_of_another_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path)
    change_json(run / "delta" / "config.json", base_hash="0" * 64)
    assert "base model" in _error(capsys, run)
    assert not (run / "case_study").exists()


def test_a_damaged_delta(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path)
    tensors = run / "delta" / "delta.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-8])
    assert "truncated" in _error(capsys, run)


def test_settings_of_another_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path)
    change_json(run / "config.json", unheard_of=1)
    assert "unheard_of" in _error(capsys, run)
    write_json(run / "config.json", [])
    _error(capsys, run)


def test_several_runs_need_a_folder(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--out" in _error(capsys, run, run.parent / "other")
    assert "twice" in _error(capsys, run, run, "--out", run.parent / "x")


@pytest.mark.parametrize(
    ("option", "value"), [("--share", "1"), ("--share", "0"), ("--draws", "0"), ("--seed", "-1")]
)
def test_sizes_out_of_range(
    run: Path, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert option[2:] in _error(capsys, run, option, value)
