"""case.html: one file with everything inside, without scripts, for light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sparseft.case_study.examples import CaseText
from sparseft.case_study.figures import CASE_FIGURE_STYLE
from sparseft.case_study.settings import CaseSettings
from sparseft.case_study.study import CaseStudy
from sparseft.case_study.wording import (
    WORDS_TEXT,
    effects_table,
    finding,
    how_to_read,
    labels_of,
    place_of,
    scope,
    shown_text,
)
from sparseft.case_study.words import SalientWord, WeightedText
from sparseft.constructs import Construct
from sparseft.reporting.formats import count_text, percent
from sparseft.reporting.style import PAGE_STYLE
from sparseft.reporting.svg import Figure, escaped, slug
from sparseft.reporting.tables import Table
from sparseft.reporting.theme import FIGURE_STYLE, palette_css

__all__ = ["html_page"]

# Nothing is fetched, and no text of the data can become a script.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_FULL_WEIGHT = 4.0  # times the mean token: the strongest highlight, and the longest bar

_STYLE = """
td.words,th.words{text-align:left;white-space:normal;min-width:19em}
td.words mark{--w:.45;margin:0}
tbody th.group{color:var(--accent);font-weight:650;padding-top:16px;position:static}
tbody tr.group:nth-child(n)>*{background:var(--card)}
tbody th.construct{padding-left:22px;white-space:normal}
.classes{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(270px,100%),1fr));gap:14px;
 padding:0;margin:12px 0 0;list-style:none}
.classes>li{background:var(--card);border:1px solid var(--line);border-radius:10px;
 padding:12px 16px 14px}
.classes h4{margin:0 0 8px;font-size:1rem;overflow-wrap:anywhere}
.classes ol{list-style:none;margin:0;padding:0;font-size:.9rem}
.classes ol li{display:grid;grid-template-columns:minmax(0,1fr) 86px 5.6em;gap:9px;
 align-items:center;padding:2px 0}
.classes .w{overflow-wrap:anywhere}
.bar{height:9px;border-radius:3px;background:var(--sunk);overflow:hidden}
.bar i{display:block;height:100%;width:calc(var(--w)*100%);background:var(--accent)}
.classes .n{color:var(--soft);font-variant-numeric:tabular-nums;text-align:right;white-space:nowrap}
.kind{font-size:.78rem;letter-spacing:.07em;text-transform:uppercase;color:var(--soft);margin:0}
.for{color:var(--soft);font-size:.89rem;margin:8px 0 0}
footer p{margin:.6em 0}
"""


def html_page(
    studies: Sequence[CaseStudy],
    figures: Mapping[str, Sequence[Figure]],
    settings: CaseSettings,
    title: str,
) -> str:
    """The whole page.

    Args:
        studies: one section each.
        figures: by the study's label, of `labels_of`.
        settings: that the studies were made with.
        title: of the page.
    """
    labels = labels_of(studies)
    sections = "".join(
        _section(study, label, figures[label], settings)
        for study, label in zip(studies, labels, strict=True)
    )
    style = f"{palette_css()}{PAGE_STYLE}{FIGURE_STYLE}{CASE_FIGURE_STYLE}{_STYLE}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escaped(title)} · sparseft case study</title>\n<style>{style}</style>\n"
        f"</head>\n<body>\n{_header(labels, title)}{sections}"
        f"{_footer(studies, settings)}\n</body>\n</html>\n"
    )


def _header(labels: Sequence[str], title: str) -> str:
    links = "".join(f'<a href="#{slug(label)}">{escaped(label)}</a>' for label in labels)
    nav = f'<nav aria-label="Data sets">{links}</nav>' if len(labels) > 1 else ""
    return (
        '<header><div class="wrap"><p class="over">Sparse finetuning case study</p>'
        f"<h1>{escaped(title)}</h1>"
        '<p class="scope">What the data says, what the model listens to, which units carry it.</p>'
        f'{nav}</div></header>\n<main class="wrap">\n'
    )


def _section(
    study: CaseStudy, label: str, figures: Sequence[Figure], settings: CaseSettings
) -> str:
    shown = shown_text(study)
    maps = [figure for figure in figures if figure.is_map]
    effects = [figure for figure in figures if not figure.is_map]
    parts = [
        f'<section class="study" id="{slug(label)}"><h2>{escaped(label)}</h2>',
        f'<p class="meta">{escaped(scope(study))}</p>',
        f'<p class="finding">{escaped(finding(study, settings))}</p>',
        f'<p class="hint">{escaped(shown)}</p>' if shown else "",
        "<h3>Constructs: what the training texts say of the classes</h3>",
        _constructs(study, settings),
        "<h3>The most salient words of each class</h3>",
        f'<p class="hint">{escaped(WORDS_TEXT)}</p>',
        _words(study),
        "<h3>Three test texts</h3>",
        _texts(study),
        "<h3>Where the selected units lie</h3>",
        *map(_figure, maps),
        "<h3>What ablating a class’s units does</h3>",
        *map(_figure, effects),
    ]
    if study.effects:
        parts.append(
            "<details><summary>The same in numbers</summary>"
            '<p class="hint">Changes in points; random units: mean [lowest, highest draw].</p>'
            f"{_plain_table(effects_table(study), f'Ablations on {label}')}</details>"
        )
    else:
        parts.append('<p class="hint">No class was ablated.</p>')
    return "".join(parts) + "</section>\n"


def _figure(figure: Figure) -> str:
    return (
        f'<figure><div class="plot" role="group" tabindex="0" aria-label="{escaped(figure.title)}">'
        f"{figure.inline()}</div><figcaption>{escaped(figure.caption)}</figcaption></figure>"
    )


def _scrolling(table: str, label: str) -> str:
    # Focusable, so that the keyboard can scroll it.
    opening = f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(label)}">'
    return f"{opening}{table}</div>"


def _plain_table(table: Table, label: str) -> str:
    head = "".join(f'<th scope="col">{escaped(cell)}</th>' for cell in table.head)
    rows = "".join(
        f'<tr><th scope="row">{escaped(row[0])}</th>'
        + "".join(f"<td>{escaped(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    return _scrolling(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>", label)


# --- constructs


def _constructs(study: CaseStudy, settings: CaseSettings) -> str:
    head = (
        '<tr><th scope="col">Construct</th><th scope="col">Score</th>'
        '<th scope="col">Texts of the class</th><th scope="col">Stability</th>'
        '<th scope="col" class="words">Example</th></tr>'
    )
    bodies = []
    for number in study.shown:
        name = study.label_names[number]
        found = study.constructs.of_label(name)
        more = len(found) - settings.constructs
        count = "none" if not found else f"{len(found):,}" + (" in all" if more > 0 else "")
        rows = "".join(_construct(entry) for entry in found[: settings.constructs])
        bodies.append(
            f'<tbody><tr class="group"><th scope="rowgroup" colspan="5" class="group">'
            f'{escaped(name)} <span class="sd">{count}</span></th></tr>{rows}</tbody>'
        )
    table = f"<table><thead>{head}</thead>{''.join(bodies)}</table>"
    counts = study.constructs.counts
    note = (
        f"{len(study.constructs):,} constructs of {count_text(counts['texts'], 'training text')}, "
        f"out of {counts['candidates']:,} candidates; the strongest of each class."
    )
    return f'<p class="hint">{note}</p>{_scrolling(table, "Constructs")}'


def _construct(entry: Construct) -> str:
    example = ""
    if entry.examples:
        first, end = entry.examples[0], 0
        for start, stop in first.spans:
            inside = escaped(first.text[start:stop])
            example += f"{escaped(first.text[end:start])}<mark>{inside}</mark>"
            end = stop
        example += escaped(first.text[end:])
    return (
        f'<tr><th scope="row" class="construct">{escaped(entry.text)}</th>'
        f"<td>{entry.score:.1f}</td><td>{entry.support:,} of {entry.frequency:,}</td>"
        f'<td>{entry.stability:.2f}</td><td class="words">{example}</td></tr>'
    )


# --- words and texts


def _words(study: CaseStudy) -> str:
    cards = []
    for number, words in zip(study.shown, study.words, strict=True):
        listed = "".join(map(_word, words))
        content = f"<ol>{listed}</ol>" if words else '<p class="hint">Too few texts.</p>'
        cards.append(f"<li><h4>{escaped(study.label_names[number])}</h4>{content}</li>")
    return f'<ul class="classes">{"".join(cards)}</ul>'


def _word(entry: SalientWord) -> str:
    tip = "in no text of another class"
    if entry.elsewhere is not None:
        tip = f"{entry.elsewhere:.1f} in texts of other classes"
    width = min(entry.weight / _FULL_WEIGHT, 1.0)
    return (
        f'<li title="{tip}"><span class="w">{escaped(entry.word)}</span>'
        f'<span class="bar" aria-hidden="true"><i style="--w:{width:.2f}"></i></span>'
        f'<span class="n">{entry.weight:.1f}× · {entry.texts:,}</span></li>'
    )


def _texts(study: CaseStudy) -> str:
    if not study.texts:
        return '<p class="hint">No test text was scored.</p>'
    items = "".join(f"<li>{_text(entry)}</li>" for entry in study.texts)
    wrong = any(entry.kind == "wrong" for entry in study.texts)
    none = "" if wrong else " None of the scored test rows is predicted wrongly."
    return (
        '<p class="hint">The surest and the least sure of the right predictions and the surest of '
        "the wrong ones. Saliency of each word under the predicted label: none"
        f'<span class="ramp" aria-hidden="true"></span>{_FULL_WEIGHT:g} times the mean token.'
        f'{none}</p><ul class="examples">{items}</ul>'
    )


def _text(entry: CaseText) -> str:
    wrong = entry.kind == "wrong"
    verdict = (
        f'<p class="verdict {"wrong" if wrong else "right"}">{"✗ predicted" if wrong else "✓"} '
        f"<b>{escaped(entry.predicted)}</b>, {percent(entry.probability)}%"
    )
    if wrong:
        verdict += (
            f" · it is <strong>{escaped(entry.gold)}</strong>, {percent(entry.gold_probability)}%"
        )
    parts = [
        f'<p class="kind">{escaped(entry.kind)}</p>',
        f'<p class="text">{_highlighted(entry.for_predicted)}</p>{verdict}</p>',
    ]
    if entry.for_gold is not None:
        parts.append(f'<p class="for">Saliency for {escaped(entry.gold)} instead:</p>')
        parts.append(f'<p class="text">{_highlighted(entry.for_gold)}</p>')
    return "".join(parts)


def _highlighted(entry: WeightedText) -> str:
    """The text with its words marked, every word found in it in order."""
    place, parts = 0, []
    for word, weight in zip(entry.words, entry.weights, strict=True):
        start = entry.text.index(word, place)
        parts.append(escaped(entry.text[place:start]))
        place = start + len(word)
        # The square root keeps words of middling weight visible.
        strength = math.sqrt(min(max(weight, 0.0) / _FULL_WEIGHT, 1.0))
        parts.append(
            f'<mark style="--w:{strength:.2f}" title="{weight:.2f} × the mean token">'
            f"{escaped(word)}</mark>"
        )
    return "".join(parts) + escaped(entry.text[place:])


def _footer(studies: Sequence[CaseStudy], settings: CaseSettings) -> str:
    paragraphs = "".join(f"<p>{escaped(part)}</p>" for part in how_to_read(settings))
    places = dict.fromkeys(place_of(study) for study in studies)
    listed = "".join(f"<li>{escaped(place)}</li>" for place in places)
    return (
        f'</main>\n<footer><div class="wrap"><h2>How to read this</h2>{paragraphs}'
        f"<h2>What it was made with</h2><ul>{listed}</ul></div></footer>"
    )
