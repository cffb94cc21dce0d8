"""A page that a person can read: each class's constructs with examples, as Markdown or HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

from sparseft.constructs.construct import Construct, Constructs, Example

__all__ = ["html_card", "markdown_card"]

_COLUMNS = ("construct", "score", "q", "in class", "in all", "stability", "example")

_LISTED = 12  # classes; with more the page begins with links to them

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem;
  margin: 2rem auto; padding: 0 1rem; }
h1, h2, td { overflow-wrap: anywhere; }
h2 { margin: 2rem 0 .4rem; }
ul { padding-left: 1.2rem; }
nav { columns: 14rem; margin: 1rem 0; }
nav a { display: block; }
table { border-collapse: collapse; table-layout: fixed; width: 100%; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid #8884;
  vertical-align: top; box-sizing: border-box; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child { width: 24%; }
th.number { width: 5.6rem; }
p, small { color: #777; }
mark { background: #ffd54a; color: #000; border-radius: .2em; padding: 0 .1em; }
@media (max-width: 48rem) {  /* the construct, its score and an example are what fits */
  .number:nth-child(n+3) { display: none; }
  th:first-child { width: 34%; }
  th.number { width: 4.4rem; }
}
"""


def markdown_card(constructs: Constructs, per_label: int = 10) -> str:
    """The card as Markdown; constructs are bold in their examples.

    Args:
        constructs: what to show.
        per_label: the most constructs of a class.
    """
    lines = [f"# Constructs of {_escape_markdown(constructs.data_name or 'a data set')}", ""]
    lines += [f"- {_escape_markdown(fact)}" for fact in _facts(constructs)]
    for label, listed, more in _sections(constructs, per_label):
        lines += ["", f"## {_escape_markdown(label)}", ""]
        if not listed:
            lines.append("No construct.")
            continue
        lines.append("| " + " | ".join(_COLUMNS) + " |")
        lines.append("|---|---:|---:|---:|---:|---:|---|")
        for construct in listed:
            cells = [_escape_markdown(construct.text), *_numbers(construct)]
            cells.append(_example(construct, _escape_markdown, "**", "**"))
            lines.append("| " + " | ".join(cells) + " |")
        if more:
            lines += ["", _more(more)]
    return "\n".join(lines) + "\n"


def html_card(constructs: Constructs, per_label: int = 10) -> str:
    """The card as one HTML file without scripts or network; constructs are marked in examples.

    Args:
        constructs: what to show.
        per_label: the most constructs of a class.
    """
    title = html.escape(f"Constructs of {constructs.data_name or 'a data set'}")
    parts = [
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n<h1>{title}</h1>\n<ul>"
    ]
    parts += [f"<li>{html.escape(fact)}</li>" for fact in _facts(constructs)]
    parts.append("</ul>")
    last = len(_COLUMNS) - 1
    head = "".join(
        f"<th>{name}</th>" if place in (0, last) else f'<th class="number">{name}</th>'
        for place, name in enumerate(_COLUMNS)
    )
    sections = _sections(constructs, per_label)
    if len(sections) > _LISTED:
        links = (
            f'<a href="#class-{n}">{html.escape(label)} <small>{len(listed) + more}</small></a>'
            for n, (label, listed, more) in enumerate(sections)
        )
        parts.append(f"<nav>{''.join(links)}</nav>")
    for number, (label, listed, more) in enumerate(sections):
        parts.append(f'<h2 id="class-{number}">{html.escape(label)}</h2>')
        if not listed:
            parts.append("<p>No construct.</p>")
            continue
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>")
        for construct in listed:
            numbers = "".join(f'<td class="number">{value}</td>' for value in _numbers(construct))
            example = _example(construct, html.escape, "<mark>", "</mark>")
            parts.append(
                f"<tr><td>{html.escape(construct.text)}</td>{numbers}<td>{example}</td></tr>"
            )
        parts.append("</tbody></table>")
        if more:
            parts.append(f"<p>{_more(more)}</p>")
    return "\n".join(parts) + "\n</html>\n"


def _more(count: int) -> str:
    return f"{count:,} more in the file of constructs."


def _shown(value: Any) -> str:
    plain = {True: "yes", False: "no", None: "none"}
    return plain[value] if value is None or isinstance(value, bool) else str(value)


def _facts(constructs: Constructs) -> list[str]:
    counts = ", ".join(f"{name} {value:,}" for name, value in constructs.counts.items())
    settings = ", ".join(
        f"{name.replace('_', ' ')} {_shown(value)}" for name, value in constructs.settings.items()
    )
    facts = [f"{len(constructs):,} constructs of {len(constructs.labels):,} classes"]
    facts += [f"counts: {counts}"] if counts else []
    facts += [f"settings: {settings}"] if settings else []
    facts.append(
        "q: false discovery rate at which it is accepted; in class, in all: texts that hold it; "
        "stability: share of bootstrap resamples in which it is significant"
    )
    if constructs.data_hash:
        facts.append(
            f"data {constructs.data_hash[:12]}, tokenizer {constructs.tokenizer_hash[:12]}"
        )
    return facts


def _sections(constructs: Constructs, per_label: int) -> list[tuple[str, list[Construct], int]]:
    """Each class with its strongest constructs, and how many are not listed."""
    by_label: dict[str, list[Construct]] = {label: [] for label in constructs.labels}
    for construct in constructs:
        by_label[construct.label].append(construct)
    return [
        (label, found[:per_label], max(0, len(found) - per_label))
        for label, found in by_label.items()
    ]


def _numbers(construct: Construct) -> list[str]:
    return [
        f"{construct.score:.2f}" if abs(construct.score) >= 1 else f"{construct.score:.3f}",
        f"{construct.q_value:.0e}",
        f"{construct.support:,}",
        f"{construct.frequency:,}",
        f"{construct.stability:.2f}",
    ]


def _example(construct: Construct, escape: Callable[[str], str], before: str, after: str) -> str:
    return _marked(construct.examples[0], escape, before, after) if construct.examples else ""


def _marked(example: Example, escape: Callable[[str], str], before: str, after: str) -> str:
    parts: list[str] = []
    end = 0
    for start, stop in example.spans:
        parts += [escape(example.text[end:start]), before, escape(example.text[start:stop]), after]
        end = stop
    return "".join([*parts, escape(example.text[end:])])


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", re.sub(r"\s+", " ", text))
