"""The command line: what it writes, what it refuses, and that the page needs nothing else."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sparseft.config import RunConfig
from sparseft.report import main
from sparseft.training import execute
from tests.report.results_factory import EXAMPLES, METHODS, write_results
from tests.training.helpers import task_mapping, write_task

_VOID = {"meta", "br", "img"}


class _Page(HTMLParser):
    """Checks that elements are closed in order, and keeps what links to elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.counts: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [v or "" for k, v in attrs if k in ("href", "src", "srcset", "action")]
        if tag == "svg" and values.get("role") == "img":
            assert values.get("aria-label")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _parsed(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_results(folder)
    write_results(folder, "banking77", rows=150, shift=-0.06)
    assert main([str(folder), "--resamples", "300"]) == 0
    return folder / "report"


def test_all_files_are_there(written: Path) -> None:
    names = sorted(path.name for path in written.rglob("*") if path.is_file())
    assert {"report.md", "report.html", "summary.csv", "trec-cost.svg"} <= set(names)
    assert sum(name.endswith(".svg") for name in names) == 2 * (2 + 4)


def test_the_page_stands_alone_and_is_sound(written: Path) -> None:
    page = _parsed(written / "report.html")
    assert page.links == ["#banking77", "#trec"]
    assert page.ids == ["banking77", "trec"]
    content = (written / "report.html").read_text(encoding="utf-8")
    assert "http" not in re.sub(r'http-equiv="[^"]*"', "", content)
    assert "@import" not in content and "url(" not in content
    assert "prefers-color-scheme:dark" in content
    assert page.counts["table"] == 1 + 2 * 3
    assert page.counts["mark"] == 2 * sum(len(entry["tokens"]) for entry in EXAMPLES)


def test_texts_of_the_data_are_never_markup(written: Path) -> None:
    page = _parsed(written / "report.html")
    assert page.counts["b"] == 2 * len(EXAMPLES)  # the predictions, and nothing else
    text = "".join(page.text)
    assert "<b>today</b>" in text
    markdown = (written / "report.md").read_text(encoding="utf-8")
    assert "<b>" not in markdown.replace("\\<b", "")


def test_markdown_tables_have_equal_columns_and_their_drawings(written: Path) -> None:
    markdown = (written / "report.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE)
    assert len(blocks) == 1 + 2 * 3
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    assert len(blocks[1].splitlines()) == 2 + len(METHODS)
    for link in re.findall(r"\]\((figures/[^)]+)\)", markdown):
        assert (written / link).is_file()
    assert "**sparse**" in blocks[1] and "±" in blocks[1] and "reference" in blocks[1]


def test_the_csv_holds_unrounded_numbers_of_every_method(written: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((written / "summary.csv").read_text())))
    assert len(rows) == 2 * len(METHODS)
    row = next(r for r in rows if r["data"] == "trec" and r["method"] == "lora")
    assert row["seeds"] == "3" and row["learning_rates_tried"] == "3"
    assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])
    assert float(row["p"]) <= float(row["p_holm"])
    reference = next(r for r in rows if r["data"] == "trec" and r["method"] == "sparse")
    assert reference["reference"] == "1" and reference["p"] == ""


def test_the_report_is_the_same_every_time(written: Path, tmp_path: Path) -> None:
    assert main([str(written.parent), "--out", str(tmp_path), "--resamples", "300"]) == 0
    for path in written.rglob("*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(written)).read_bytes() == path.read_bytes()


def test_a_damaged_record_stops_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path / "runs", methods=METHODS[:5], lr_scales=(1.0,))
    damaged = tmp_path / "runs" / "trec" / "lora" / "1-1"
    write_results(tmp_path / "runs", "cr", methods=METHODS[:5], lr_scales=(1.0,))
    damaged = next((tmp_path / "runs" / "cr").rglob("result.json"))
    damaged.write_text(damaged.read_text()[:200])
    out = tmp_path / "out"
    assert main([str(tmp_path / "runs"), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert str(damaged) in error and error.count("\n") == 1
    assert not out.exists()
    arguments = [str(tmp_path / "runs"), "--out", str(out), "--resamples", "100"]
    assert main([*arguments, "--skip-damaged"]) == 0
    relative = str(damaged.relative_to(tmp_path / "runs"))
    assert "1 damaged record left out" in (out / "report.md").read_text()
    assert relative in (out / "report.md").read_text()
    assert relative in (out / "report.html").read_text()


def test_a_file_in_the_way_of_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path / "runs", methods=METHODS[:1], lr_scales=(1.0,))
    (tmp_path / "out").write_text("a file")
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--resamples", "9"]) == 2
    assert "choose a writable folder" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "a file"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference", "magic"], "'magic'"),
        (["--resamples", "0"], "--resamples"),
        (["--wandb"], "WANDB_API_KEY"),
    ],
)
def test_user_errors_are_one_line_and_write_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    write_results(tmp_path, methods=METHODS[:1], lr_scales=(1.0,))
    assert main([str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: expected") and message in error and error.count("\n") == 1
    assert not (tmp_path / "report").exists()


def test_one_run_is_enough_for_a_report(tmp_path: Path) -> None:
    write_results(tmp_path, methods=METHODS[:1], seeds=(0,), lr_scales=(1.0,))
    assert main([str(tmp_path), "--title", "One & only"]) == 0
    page = _parsed(tmp_path / "report" / "report.html")
    assert "One & only" in "".join(page.text)


def test_runs_of_the_library_itself_can_be_reported(tmp_path: Path) -> None:
    task = write_task(tmp_path / "task")
    for method in ("sparse", "full"):
        for seed in (0, 1):
            mapping = {**task_mapping(task, tmp_path / "runs", method), "seed": seed}
            execute(RunConfig.from_mapping(mapping))
    assert main([str(tmp_path / "runs"), "--resamples", "100"]) == 0
    markdown = (tmp_path / "runs" / "report" / "report.md").read_text(encoding="utf-8")
    assert "## words" in markdown and "| **sparse** |" in markdown
    assert "words-selection-sparse.svg" in markdown
