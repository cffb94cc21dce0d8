"""The page of a single run, written beside its result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sparseft import files
from sparseft.reporting.compliance.cases import Arm, Case
from sparseft.reporting.compliance.page import write_compliance_page
from sparseft.reporting.formats import count_text

if TYPE_CHECKING:
    # For its type alone: a page needs no model.
    from sparseft.training.compliance.pipeline import EvaluatedRun

__all__ = ["write_page"]


def write_page(run: EvaluatedRun) -> Path:
    """Write report.html into the run's folder, from its scores.json and its test records.

    Raises:
        SparseftError: scores.json cannot be read, or the page cannot be written.
    """
    config, corpus = run.config, run.corpus
    settings = config.task.compliance
    assert settings is not None
    scores = files.read_json(run.folder / "scores.json")
    method = str(config.method["name"])
    owner = "hybrid" if settings.owner == "hybrid" else "model only"
    cases = [
        Case(example.transcript, record, example.gold)
        for example, record in zip(corpus.test, run.records, strict=True)
    ]
    notes = (
        f"{config.model.name}, {method}, seed {config.seed}",
        f"{corpus.name}: {count_text(len(corpus.train), 'training example')}, "
        f"{count_text(len(corpus.validation), 'validation example')}, "
        f"{count_text(len(corpus.test), 'test example')}",
    )
    return write_compliance_page(
        run.folder / "report.html",
        corpus.schema,
        [
            Arm(
                f"{owner}, {method}",
                scores,
                method,
                latency=(run.metrics["seconds_p50"], run.metrics["seconds_p95"]),
                cost=run.metrics.get("price"),
            )
        ],
        cases=cases,
        title=f"{corpus.schema.title or corpus.schema.name}: {corpus.name}",
        rest="records.jsonl",
        notes=notes,
    )
