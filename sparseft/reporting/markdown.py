"""report.md: the tables, with the drawings as files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sparseft.reporting.findings import METHOD_TEXT, finding, scope
from sparseft.reporting.formats import percent
from sparseft.reporting.summary import Study, Summary
from sparseft.reporting.svg import Figure
from sparseft.reporting.tables import Column, Table, columns, overview, tuning_table

__all__ = ["escape", "markdown_report", "markdown_table", "study_tables"]

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~])")
_EMPHASIS = 1.5  # a token this many times as salient as its text's mean is set in bold


def markdown_report(
    summary: Summary, figures: dict[str, list[Figure]], folder: str, resamples: int
) -> str:
    """The whole page; `folder` is where the drawings lie, relative to it."""
    parts = [f"# {escape(summary.title)}", scope(summary) + "."]
    parts += [f"> {escape(note)}" for note in summary.notes]
    table = overview(summary)
    if table is not None:
        parts += ["## All data sets", markdown_table(table)]
    for study in summary.studies:
        parts += _study(study, figures[study.label], folder)
    parts += ["## How to read this", METHOD_TEXT.format(resamples=resamples)]
    parts += ["Runs took place on:", "\n".join(f"- {escape(e)}" for e in summary.environments)]
    if summary.damaged:
        listed = "\n".join(f"- `{path}`" for path in summary.damaged)
        parts += ["Left out, because damaged:", listed]
    return "\n\n".join(parts) + "\n"


def study_tables(study: Study) -> tuple[Table, Table]:
    """The table of scores and that of costs, the reference's row in bold."""
    listed = columns(study)
    scores = _table(study, [column for column in listed if not column.is_cost])
    return scores, _table(study, [column for column in listed if column.is_cost])


def _table(study: Study, listed: Sequence[Column]) -> Table:
    rows = []
    for entry in study.methods:
        cells = (entry.label, *[column.text(entry) for column in listed])
        rows.append(tuple(f"\0{cell}\0" for cell in cells) if entry.is_reference else cells)
    return Table(("Method", *[column.title for column in listed]), tuple(rows))


def markdown_table(table: Table) -> str:
    """A pipe table; numbers are aligned to the right."""
    lines = [
        "| " + " | ".join(escape(cell) for cell in table.head) + " |",
        "|" + ":---|" + "---:|" * (len(table.head) - 1),
    ]
    for row in table.rows:
        lines.append("| " + " | ".join(escape(cell).replace("\0", "**") for cell in row) + " |")
    return "\n".join(lines)


def escape(content: str) -> str:
    """Text whose signs mean nothing to Markdown, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(content.split(" "))).replace("\n", " ")


def _study(study: Study, figures: Sequence[Figure], folder: str) -> list[str]:
    parts = [
        f"## {escape(study.label)}",
        escape(finding(study)),
        *map(markdown_table, study_tables(study)),
    ]
    parts += [f"> {escape(note)}" for note in study.notes]
    for figure in figures:
        parts.append(f"![{escape(figure.alt)}]({folder}/{figure.name}.svg)")
        parts.append(f"*{escape(figure.caption)}*")
    parts += ["### Learning rates tried", "Mean validation score, %; ✓ was chosen."]
    parts.append(markdown_table(tuning_table(study)))
    parts += _examples(study)
    return parts


def _examples(study: Study) -> list[str]:
    examples = study.examples
    if not examples:
        return []
    lines = []
    for entry in examples:
        tokens = zip(entry["tokens"], entry["saliency"], strict=True)
        written = " ".join(
            f"**{escape(token)}**" if weight >= _EMPHASIS else escape(token)
            for token, weight in tokens
        )
        answer = f"{escape(str(entry['prediction']))}, {percent(entry['probability'])}%"
        wrong = entry["label"] != entry["prediction"]
        truth = f"; it is {escape(str(entry['label']))}" if wrong else ""
        lines.append(f"- {written} → {answer}{truth}")
    return [
        "### What the tokens say",
        f"Bold: at least {_EMPHASIS:g} times as salient as the mean token of the text.",
        "\n".join(lines),
    ]
