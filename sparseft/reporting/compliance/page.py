"""One page of an evaluation: arms, fields, alarms, calibration, and transcripts to look at."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparseft import files
from sparseft.compliance.schema import Schema
from sparseft.compliance.transcript import Json
from sparseft.errors import ConfigError
from sparseft.reporting.compliance.cases import Arm, Case, Judged, chosen_cases
from sparseft.reporting.compliance.figures import calibration_figures
from sparseft.reporting.compliance.sentences import GUIDE, finding, review_text, scope
from sparseft.reporting.compliance.style import COMPLIANCE_SCRIPT, COMPLIANCE_STYLE
from sparseft.reporting.compliance.tables import (
    arm_table,
    confusion_table,
    cost_table,
    field_rows,
)
from sparseft.reporting.compliance.text import safe
from sparseft.reporting.compliance.views import case_index, case_view, highlight_rules
from sparseft.reporting.style import PAGE_STYLE
from sparseft.reporting.theme import FIGURE_STYLE, palette_css

__all__ = ["Costs", "compliance_page", "write_compliance_page"]

# Nothing is fetched and nothing leaves; a transcript that became markup could still load nothing.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
_LIMIT = 24


@dataclass(frozen=True)
class Costs:
    """What an evaluation costs here, and elsewhere.

    Attributes:
        own: of `sparseft.compliance.scores.cost_per_evaluation`.
        others: of `compare_costs`.
        basis: what `own` was computed from, in words.
        currency: written before an amount.
    """

    own: float
    others: Sequence[Mapping[str, Json]] = ()
    basis: str = ""
    currency: str = "$"


def compliance_page(
    schema: Schema,
    arms: Sequence[Arm],
    cases: Sequence[Case] = (),
    *,
    title: str = "",
    limit: int = _LIMIT,
    costs: Costs | None = None,
    rest: str = "",
    notes: Sequence[str] = (),
) -> str:
    """The whole page, with everything inside it.

    Tables of fields, confusions and drawings are of the first arm, and so should the cases be.
    All texts are escaped: names, values and transcripts can hold anything.

    Args:
        arms: at least one, with different labels.
        cases: transcripts with their records; the page shows at most `limit`, those with missed
            alarms, errors and flags before the others.
        rest: the file that has all records, if there is one, to name it on the page.
        notes: further remarks, such as settings.

    Raises:
        ConfigError: no arms, a label twice, or a limit below 0.
        DataError: a case's record is another transcript's.
    """
    labels = [arm.label for arm in arms]
    if not arms or len(set(labels)) != len(labels):
        raise ConfigError(f"expected arms with different labels, got {labels}; name each once.")
    if limit < 0:
        raise ConfigError(f"expected a limit of 0 or more, got {limit}; raise it.")
    shown = chosen_cases(schema, cases, limit)
    heading = safe(title or schema.title or schema.name)
    body = "".join(
        [
            _header(heading, arms, notes),
            _summary(arms, costs),
            _fields(arms[0]),
            _critical(arms[0].scores),
            _calibration(arms[0].scores),
            _costs(costs),
            _transcripts(shown, len(cases), rest),
            _footer(arms[0]),
        ]
    )
    style = palette_css() + PAGE_STYLE + FIGURE_STYLE + COMPLIANCE_STYLE
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{heading} · compliance report</title>\n"
        f"<style>{style}{highlight_rules(len(schema.fields))}</style>\n</head>\n"
        f"<body>\n{body}\n<script>{COMPLIANCE_SCRIPT}</script>\n</body>\n</html>\n"
    )


def write_compliance_page(
    path: str | os.PathLike[str], schema: Schema, arms: Sequence[Arm], **options: Any
) -> Path:
    """Write `compliance_page(schema, arms, **options)` to a file.

    Raises:
        SparseftError: what `compliance_page` raises, or the file cannot be written.
    """
    return files.write_text(path, compliance_page(schema, arms, **options))


def _header(heading: str, arms: Sequence[Arm], notes: Sequence[str]) -> str:
    items = "".join(f"<li>{safe(note)}</li>" for note in notes)
    remarks = f'<ul class="notes">{items}</ul>' if items else ""
    links = (("fields", "Fields"), ("critical", "Alarms"), ("transcripts", "Transcripts"))
    nav = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in links)
    return (
        '<header><div class="wrap"><p class="over">Compliance report</p>'
        f'<h1>{heading}</h1><p class="scope">{safe(scope(arms))}</p>{remarks}'
        f'<nav aria-label="Sections">{nav}</nav></div></header>\n<main class="wrap">\n'
    )


def _summary(arms: Sequence[Arm], costs: Costs | None) -> str:
    currency = "$" if costs is None else costs.currency
    return (
        f'<section><h2>Summary</h2><p class="finding">{safe(finding(arms[0]))}</p>'
        f"{arm_table(arms, currency)}</section>\n"
    )


def _fields(arm: Arm) -> str:
    return (
        f'<section id="fields"><h2>Fields</h2><p class="hint">{safe(arm.label)}. An override is a '
        "model's value that a rule replaced: mended where it was wrong and is right now, broken "
        f"where it was right.</p>{field_rows(arm.scores)}</section>\n"
    )


def _critical(scores: Mapping[str, Any]) -> str:
    if scores["critical"] is None:
        text = '<p class="hint">The schema names no critical field.</p>'
        return f'<section id="critical"><h2>Alarms</h2>{text}</section>\n'
    return (
        f'<section id="critical"><h2>Alarms</h2><p class="hint">{safe(review_text(scores))}</p>'
        f"{confusion_table(scores['critical'])}</section>\n"
    )


def _calibration(scores: Mapping[str, Any]) -> str:
    drawn = "".join(
        f'<figure class="small"><div class="plot">{figure.inline()}</div>'
        f"<figcaption>{safe(figure.caption)}</figcaption></figure>"
        for figure in calibration_figures(scores)
    )
    if not drawn:
        return ""
    return f'<section><h2>Confidence</h2><div class="maps">{drawn}</div></section>\n'


def _costs(costs: Costs | None) -> str:
    if costs is None:
        return ""
    basis = f'<p class="hint">{safe(costs.basis)}</p>' if costs.basis else ""
    table = cost_table(costs.own, costs.others, costs.currency)
    return f"<section><h2>Costs</h2>{basis}{table}</section>\n"


def _transcripts(shown: Sequence[Judged], total: int, rest: str) -> str:
    if not shown:
        return '<section id="transcripts"><h2>Transcripts</h2><p>None are shown.</p></section>\n'
    where = f" All records are in {rest}." if rest else ""
    views = "".join(case_view(each, number) for number, each in enumerate(shown))
    return (
        '<section id="transcripts"><h2>Transcripts</h2>'
        f'<p class="hint">{len(shown)} of {total}: missed and false alarms first, then other '
        "errors, flagged ones, and some that are right. Point at a field to see where its value "
        f"stands, choose its name to keep that marked.{safe(where)}</p>"
        f"{case_index(shown)}{views}</section>\n"
    )


def _footer(arm: Arm) -> str:
    resamples = f"{arm.scores['resamples']:,}"
    items = "".join(
        f"<dt>{safe(term)}</dt><dd>{safe(meaning.format(resamples=resamples))}</dd>"
        for term, meaning in GUIDE
    )
    return (
        '</main>\n<footer><div class="wrap"><h2>How to read this</h2>'
        f"<dl>{items}</dl></div></footer>"
    )
