"""The command line of mine: data and model by name, the three files, errors of one line."""

from __future__ import annotations

import csv
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sparseft.constructs import Constructs, fingerprint
from sparseft.mine import main
from tests.constructs.helpers import planted
from tests.tiny import save_tiny_model, tiny_tokenizer

NAMES = ("pair", "single", "none")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mine")
    save_tiny_model(folder / "model")
    for seed, (split, rows) in enumerate((("train", 60), ("test", 18))):
        texts, labels = planted(rows, seed)
        with (folder / f"{split}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["text", "label"])
            writer.writerows((t, NAMES[n]) for t, n in zip(texts, labels, strict=True))
    return folder


def words(task: Path, *changes: str) -> list[str]:
    data = ["name=words", f"root={task}", "train=train.csv", "test=test.csv"]
    model = ["path", f"id={task / 'model'}", "max_length=32"]
    return ["--data", "files", *data, *changes, "--model", *model]


class Marks(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.found = False, set[str]()

    def handle_starttag(self, tag: str, _: object) -> None:
        self.inside = tag == "mark"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found.add(data)
        self.inside = False


def test_it_mines_the_training_rows_and_writes_three_files(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a" / "cards"
    assert main([*words(task), "--set", "q=0.01", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"constructs.json", "card.md", "card.html"}
    assert all(str(out / name) in printed for name in ("constructs.json", "card.md", "card.html"))
    found = Constructs.load(out / "constructs.json")
    # A sixth of the rows went to validation; neither they nor the test rows are mined.
    assert found.counts["texts"] == 60 - 9 and f"{len(found)} constructs of" in printed
    assert found.settings["q"] == 0.01 and found.settings["max_length"] == 32
    assert found.tokenizer_hash == fingerprint(tiny_tokenizer())
    assert "word1 word2" in {construct.text for construct in found}
    assert "**word1 word2**" in (out / "card.md").read_text()
    marks = Marks()
    marks.feed((out / "card.html").read_text())
    assert "word1 word2" in marks.found


def test_keys_change_the_rows_and_the_seed_draws_them(task: Path, tmp_path: Path) -> None:
    hashes = set()
    for seed in ("0", "1", "1"):
        out = tmp_path / seed
        assert main([*words(task, "shots=5"), "--seed", seed, "--out", str(out)]) == 0
        found = Constructs.load(out / "constructs.json")
        assert found.counts["texts"] == 15
        hashes.add(found.data_hash)
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nothing"], "choose from: abcd, acl_arc, banking77"),
        (["--data", "intent", "--model", "path"], "expected a value for model.id"),
        (["--data", "trec", "rows"], "expected KEY=VALUE"),
        (["--data", "trec", "rows=many"], "expected data.rows"),
        (["--data", "trec", "row=5"], "data.row"),
        (["--data", "trec", "rows=[1"], "expected a value of YAML"),
        (["--data", "trec", "--model", "nothing"], "choose from: bert_base"),
        (["--data", "trec", "--set", "q=2"], "constructs.q"),
        (["--data", "trec", "--seed", "-1"], "seed"),
        (["--data", "files", "name=x", "root=/nowhere", "train=a.csv", "test=a.csv"], "/nowhere"),
        (["--data", "intent", "--per-label", "0"], "1 construct a class"),
        (["--data", "intent", "--model", "path", "id=/nowhere"], "/nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: expected") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([*words(task), "--out", str(tmp_path / "file" / "out")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
