"""report.html: one file with everything inside, for light and dark, for screen and print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sparseft.reporting.findings import METHOD_TEXT, finding, scope
from sparseft.reporting.formats import METRIC_NAMES, MISSING, percent
from sparseft.reporting.marks import mark
from sparseft.reporting.statistics import Comparison
from sparseft.reporting.style import PAGE_SCRIPT, PAGE_STYLE
from sparseft.reporting.summary import MethodSummary, Study, Summary
from sparseft.reporting.svg import Figure, element, escaped, slug
from sparseft.reporting.tables import Column, Table, columns, overview, tuning_table
from sparseft.reporting.theme import FIGURE_STYLE, family_of, palette_css

__all__ = ["html_report"]

# Nothing is fetched, and no text of the data can become a script from elsewhere.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_TOLD_APART = 0.05
_FULL_WEIGHT = 4.0  # times the mean token: the strongest highlight


def html_report(summary: Summary, figures: dict[str, list[Figure]], resamples: int) -> str:
    """The whole page."""
    title = escaped(f"{summary.title} · sparseft report")
    table = overview(summary)
    body = "".join(
        [
            _header(summary),
            "" if table is None else _overview(summary, table),
            *(_study(study, figures[study.label]) for study in summary.studies),
            _footer(summary, resamples),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n"
        f"<style>{palette_css()}{PAGE_STYLE}{FIGURE_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n<script>{PAGE_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _header(summary: Summary) -> str:
    links = "".join(
        f'<a href="#{slug(study.label)}">{escaped(study.label)}</a>' for study in summary.studies
    )
    nav = f'<nav aria-label="Data sets">{links}</nav>' if len(summary.studies) > 1 else ""
    return (
        '<header><div class="wrap"><p class="over">Sparse finetuning report</p>'
        f"<h1>{escaped(summary.title)}</h1>"
        f'<p class="scope">{escaped(scope(summary))}</p>{_notes(summary.notes)}{nav}'
        '</div></header>\n<main class="wrap">\n'
    )


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{escaped(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def _scrolling(table: str, label: str) -> str:
    # Focusable, so that the keyboard can scroll it.
    opening = f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(label)}">'
    return f"{opening}{table}</div>"


def _plain_table(table: Table, label: str, first: Sequence[str] = ()) -> str:
    head = "".join(f'<th scope="col">{escaped(cell)}</th>' for cell in table.head)
    rows = []
    for number, row in enumerate(table.rows):
        name = first[number] if first else escaped(row[0])
        cells = "".join(f"<td>{_with_quiet_sd(cell)}</td>" for cell in row[1:])
        rows.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    return _scrolling(
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>", label
    )


def _with_quiet_sd(cell: str) -> str:
    mean, sign, sd = escaped(cell).partition(" ± ")
    return f'{mean} <span class="sd">± {sd}</span>' if sign else mean


def _overview(summary: Summary, table: Table) -> str:
    entries = {e.label: e for study in summary.studies for e in study.methods}
    names = [_name(entries[row[0]]) for row in table.rows]
    return (
        f'<section><h2>All data sets</h2><p class="hint">Mean over seeds ± standard deviation, on '
        "the test rows. The mean of the last column weighs each data set the same.</p>"
        f"{_plain_table(table, 'Scores on all data sets', names)}</section>\n"
    )


def _study(study: Study, figures: Sequence[Figure]) -> str:
    rows = "" if study.test_rows is None else f" · {study.test_rows:,} test rows"
    seeds = {run.result.seed for entry in study.methods for run in entry.runs}
    plots = [figure for figure in figures if not figure.is_map]
    maps = [figure for figure in figures if figure.is_map]
    listed = columns(study)
    parts = [
        f'<section class="study" id="{slug(study.label)}"><h2>{escaped(study.label)}</h2>',
        f'<p class="meta">{escaped(study.model)} · {METRIC_NAMES[study.metric].lower()}{rows} · '
        f"seeds {escaped(_ranges(seeds))}</p>",
        f'<p class="finding">{escaped(finding(study))}</p>',
        _sortable(study, [column for column in listed if not column.is_cost], "score"),
        _notes(study.notes),
        *(_figure(figure) for figure in plots),
        "<h3>What it costs</h3>",
        _sortable(study, [column for column in listed if column.is_cost], "cost"),
    ]
    if maps:
        parts.append("<h3>Where the selection lies</h3>")
        parts.append('<div class="maps">')
        parts += [_figure(figure, "small") for figure in maps]
        parts.append("</div>")
    parts.append(_examples(study))
    tuning = _plain_table(tuning_table(study), f"Learning rates tried on {study.label}")
    parts.append(
        "<details><summary>Learning rates tried</summary>"
        '<p class="hint">Mean validation score in percent, at the learning rate that each scale '
        f"comes to. ✓ was chosen.</p>{tuning}</details>"
    )
    return "".join(parts) + "</section>\n"


def _ranges(seeds: set[int]) -> str:
    """Whole numbers with runs of them joined: "0–4, 7"."""
    groups: list[list[int]] = []
    for seed in sorted(seeds):
        if groups and seed == groups[-1][-1] + 1:
            groups[-1].append(seed)
        else:
            groups.append([seed])
    return ", ".join(str(g[0]) if len(g) == 1 else f"{g[0]}–{g[-1]}" for g in groups)


def _figure(figure: Figure, kind: str = "") -> str:
    title = figure.title.partition(": ")[2] or figure.title
    heading = "" if kind else f"<h3>{escaped(title[:1].upper() + title[1:])}</h3>"
    return (
        f'{heading}<figure class="{kind}"><div class="plot">{figure.inline()}</div>'
        f"<figcaption>{escaped(figure.caption)}</figcaption></figure>"
    )


def _name(entry: MethodSummary) -> str:
    family = family_of(entry.method, entry.is_reference)
    drawn = element("g", {"class": family}, mark(8, 8, family, 0.85))
    icon = f'<svg class="mini figure" width="16" height="16" aria-hidden="true">{drawn}</svg>'
    return f'<span class="name">{icon}{escaped(entry.label)}</span>'


def _sortable(study: Study, listed: Sequence[Column], what: str) -> str:
    """A table whose headings sort it: at first by score, as the methods are."""
    head = ['<th scope="col"><button type="button">Method</button></th>']
    for column in listed:
        wide = ' class="interval-head"' if column.key == "difference" else ""
        order = ' aria-sort="descending"' if column.key == "score" else ""
        head.append(
            f'<th scope="col"{wide}{order} title="{escaped(column.hint)}">'
            f'<button type="button">{escaped(column.title)}</button></th>'
        )
    found = [entry.comparison for entry in study.methods if entry.comparison is not None]
    axis = (min([0.0, *(c.low for c in found)]), max([0.0, *(c.high for c in found)]))
    best = max(entry.score.mean for entry in study.methods)
    rows = []
    for entry in study.methods:
        cells = "".join(_cell(entry, column, axis, best) for column in listed)
        kind = ' class="reference"' if entry.is_reference else ""
        rows.append(
            f'<tr{kind}><th scope="row" data-value="{escaped(entry.label)}">{_name(entry)}</th>'
            f"{cells}</tr>"
        )
    table = (
        f'<table class="sortable"><thead><tr>{"".join(head)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    return _scrolling(table, f"Methods on {study.label}: {what}")


def _cell(entry: MethodSummary, column: Column, axis: tuple[float, float], best: float) -> str:
    value, content = column.value(entry), column.text(entry)
    shown = _with_quiet_sd(content)
    kind = ""
    if content == "reference":
        kind = ' class="interval dim"'
    elif content == MISSING:
        kind = ' class="dim"'
    elif column.key == "score" and entry.score.mean == best:
        kind = ' class="best"'
    elif column.key == "difference" and entry.comparison is not None:
        kind = ' class="interval"'
        shown = f"<span>{shown}</span>{_forest(entry.comparison, axis)}"
    elif column.key == "p" and entry.comparison is not None:
        told = entry.comparison.p_holm < _TOLD_APART
        shown = f'<span class="{"told-text" if told else "dim"}">{shown}</span>'
    data = "" if value is None else f' data-value="{value:.10g}"'
    return f"<td{kind}{data}>{shown}</td>"


def _forest(found: Comparison, axis: tuple[float, float]) -> str:
    """The interval as a drawing, all rows of a table on one axis that holds 0."""
    width, height, low, high = 136.0, 18.0, *axis
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return 5 + (value - low) / span * (width - 10)

    kind = ""
    if found.p_holm < _TOLD_APART:
        kind = "told better" if found.difference > 0 else "told worse"
    drawn = element(
        "line",
        {"x1": place(0.0), "y1": 0, "x2": place(0.0), "y2": height, "class": "zero"},
    )
    y = height / 2
    drawn += element(
        "g",
        {"class": kind},
        element(
            "line",
            {"x1": place(found.low), "y1": y, "x2": place(found.high), "y2": y, "class": "span"},
        )
        + element("circle", {"cx": place(found.difference), "cy": y, "r": 3.6}),
    )
    return element(
        "svg", {"class": "forest", "width": width, "height": height, "aria-hidden": "true"}, drawn
    )


def _examples(study: Study) -> str:
    items = "".join(f"<li>{_example(entry)}</li>" for entry in study.examples)
    if not items:
        return ""
    return (
        "<h3>What the tokens say</h3>"
        '<p class="hint">Test texts with the saliency of each word under the predicted label: '
        f'none<span class="ramp" aria-hidden="true"></span>{_FULL_WEIGHT:g} times the mean token. '
        f'A word’s exact weight is in its tooltip.</p><ul class="examples">{items}</ul>'
    )


def _example(entry: dict[str, Any]) -> str:
    right = entry["label"] == entry["prediction"]
    truth = "" if right else f" · it is <strong>{escaped(str(entry['label']))}</strong>"
    verdict = "✓ correct" if right else "✗ mistaken"
    return (
        f'<p class="text">{_highlighted(entry)}</p>'
        f'<p class="verdict {"right" if right else "wrong"}">{verdict}: '
        f"<b>{escaped(str(entry['prediction']))}</b>, {percent(entry['probability'])}%{truth}</p>"
    )


def _highlighted(entry: dict[str, Any]) -> str:
    """The text with its words marked; words that are not found in it in order are appended."""
    text, place, parts = str(entry["text"]), 0, []
    for token, weight in zip(entry["tokens"], entry["saliency"], strict=True):
        start = text.find(str(token), place)
        if start < 0:
            parts.append(" ")
        else:
            parts.append(escaped(text[place:start]))
            place = start + len(str(token))
        # The square root keeps words of middling weight visible.
        strength = math.sqrt(min(max(float(weight), 0.0) / _FULL_WEIGHT, 1.0))
        parts.append(
            f'<mark style="--w:{strength:.2f}" title="{float(weight):.2f} × the mean token">'
            f"{escaped(str(token))}</mark>"
        )
    return "".join(parts) + escaped(text[place:])


def _footer(summary: Summary, resamples: int) -> str:
    places = "".join(f"<li>{escaped(place)}</li>" for place in summary.environments)
    damaged = "".join(f"<li><code>{escaped(path)}</code></li>" for path in summary.damaged)
    left_out = f"<h2>Left out, because damaged</h2><ul>{damaged}</ul>" if damaged else ""
    return (
        '</main>\n<footer><div class="wrap"><h2>How to read this</h2>'
        f"<p>{escaped(METHOD_TEXT.format(resamples=resamples))}</p>"
        "<p>Green and red intervals are told apart from the reference after correction "
        f"(p &lt; {_TOLD_APART:g}); grey ones are not.</p>"
        f"<h2>Where the runs took place</h2><ul>{places}</ul>{left_out}</div></footer>"
    )
