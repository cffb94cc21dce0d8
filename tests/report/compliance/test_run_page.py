"""The page of a run, from what the run leaves in its folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sparseft import files
from sparseft.compliance.corpus import Corpus
from sparseft.compliance.scores import score
from sparseft.errors import ResultError
from sparseft.reporting.compliance.run_page import write_page
from tests.report.compliance.demo import SCHEMA, build


def _run(folder: Path) -> Any:
    examples, records = build(12)
    corpus = Corpus("desk", SCHEMA, tuple(examples[:6]), tuple(examples[6:8]), tuple(examples[8:]))
    config = SimpleNamespace(
        method={"name": "sparse"},
        model=SimpleNamespace(name="smollm2"),
        seed=3,
        task=SimpleNamespace(compliance=SimpleNamespace(owner="hybrid")),
    )
    metrics = {"seconds_p50": 0.1234, "seconds_p95": 0.25, "price": 0.0125}
    return SimpleNamespace(
        config=config, corpus=corpus, records=records[8:], folder=folder, metrics=metrics
    )


def test_a_run_gets_its_page(tmp_path: Path) -> None:
    run = _run(tmp_path)
    scores = score(
        run.corpus.test, run.records, SCHEMA, train=run.corpus.train, seed=3, resamples=50
    )
    files.write_json(tmp_path / "scores.json", scores)
    path = write_page(run)
    content = path.read_text(encoding="utf-8")
    assert path == tmp_path / "report.html"
    for text in ("Returns desk: desk", "smollm2, sparse, seed 3", "6 training examples"):
        assert text in content
    assert "hybrid, sparse" in content and "majority" in content and "call-011" in content


def test_without_scores_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"scores\.json"):
        write_page(_run(tmp_path))
    assert not (tmp_path / "report.html").exists()
