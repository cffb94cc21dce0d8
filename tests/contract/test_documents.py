"""What the documents point at exists: files, `make` targets, modules, settings of conf/."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

_ROOT = Path(__file__).resolve().parents[2]
_DOCUMENTS = sorted(
    [
        *_ROOT.glob("*.md"),
        *(_ROOT / "docs").rglob("*.md"),
        *(_ROOT / "experiments").rglob("*.md"),
        *(_ROOT / "kernels").rglob("*.md"),
    ]
)
_each_document = pytest.mark.parametrize(
    "document", _DOCUMENTS, ids=lambda path: str(path.relative_to(_ROOT))
)


@_each_document
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    files = [link.split("#")[0] for link in links if "://" not in link and not link.startswith("#")]
    assert [file for file in files if not (document.parent / file).exists()] == []


@_each_document
def test_make_targets_exist(document: Path) -> None:
    makefile = (_ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    # In a command: at the start of a line of code, or of a quoted phrase.
    named = re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= targets


@_each_document
def test_commands_and_choices_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    modules = set(re.findall(r"python -m (sparseft[\w.]*)", text))
    assert [m for m in modules if importlib.util.find_spec(m.rstrip(".")) is None] == []
    choices = re.findall(
        r"(?<![\w.])\+?(experiment|model|data|method|task)=([a-z][a-z0-9_]+)", text
    )
    missing = [c for c in choices if not (_ROOT / "conf" / c[0] / f"{c[1]}.yaml").exists()]
    assert missing == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"])
def test_the_usual_files_are_there(name: str) -> None:
    assert (_ROOT / name).stat().st_size > 100


def test_the_pages_of_the_navigation_exist() -> None:
    site = yaml.safe_load((_ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = [page if isinstance(page, str) else next(iter(page.values())) for page in site["nav"]]
    assert [page for page in pages if not (_ROOT / "docs" / page).is_file()] == []
