"""case.md: the page's twin for readers of a repository, with the drawings as files beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sparseft.case_study.examples import CaseText
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
from sparseft.case_study.words import WeightedText
from sparseft.constructs import Construct
from sparseft.reporting.formats import percent
from sparseft.reporting.markdown import escape, markdown_table
from sparseft.reporting.svg import Figure
from sparseft.reporting.tables import Table

__all__ = ["markdown_page"]

_EMPHASIS = 1.5  # a word this many times as salient as the mean token is set in bold


def markdown_page(
    studies: Sequence[CaseStudy],
    figures: Mapping[str, Sequence[Figure]],
    settings: CaseSettings,
    title: str,
    folder: str,
) -> str:
    """The whole page; `folder` is where the drawings lie, relative to it."""
    parts = [f"# {escape(title)}"]
    for study, label in zip(studies, labels_of(studies), strict=True):
        parts += _section(study, label, figures[label], settings, folder)
    parts += ["## How to read this", *map(escape, how_to_read(settings))]
    places = dict.fromkeys(place_of(study) for study in studies)
    parts += ["Made with:", "\n".join(f"- {escape(place)}" for place in places)]
    return "\n\n".join(parts) + "\n"


def _section(
    study: CaseStudy,
    label: str,
    figures: Sequence[Figure],
    settings: CaseSettings,
    folder: str,
) -> list[str]:
    shown = shown_text(study)
    parts = [f"## {escape(label)}", escape(scope(study)), escape(finding(study, settings))]
    parts += [escape(shown)] if shown else []
    parts += ["### Constructs", markdown_table(_constructs(study, settings))]
    parts += ["### The most salient words of each class", WORDS_TEXT]
    parts += [markdown_table(_words(study)), "### Three test texts"]
    parts.append(f"Bold: at least {_EMPHASIS:g} times as salient as the mean token of the text.")
    parts += ["\n".join(map(_text, study.texts)) or "No test text was scored."]
    for heading, is_map in (("Where the selected units lie", True), ("Ablations", False)):
        drawn = [figure for figure in figures if figure.is_map == is_map]
        parts += [f"### {heading}"] if drawn else []
        for figure in drawn:
            parts.append(f"![{escape(figure.alt)}]({folder}/{figure.name}.svg)")
            parts.append(f"*{escape(figure.caption)}*")
    if study.effects:
        parts.append("Changes in points; random units: mean [lowest, highest draw].")
        parts.append(markdown_table(effects_table(study)))
    return parts


def _constructs(study: CaseStudy, settings: CaseSettings) -> Table:
    rows = []
    for number in study.shown:
        name = study.label_names[number]
        for entry in study.constructs.of_label(name)[: settings.constructs]:
            rows.append(
                (
                    name,
                    entry.text,
                    f"{entry.score:.1f}",
                    f"{entry.support:,} of {entry.frequency:,}",
                    f"{entry.stability:.2f}",
                    _example(entry),
                )
            )
    head = ("Class", "Construct", "Score", "Texts of the class", "Stability", "Example")
    return Table(head, tuple(rows))


def _example(entry: Construct) -> str:
    if not entry.examples:
        return ""
    first, end, parts = entry.examples[0], 0, []
    for start, stop in first.spans:
        # NUL becomes ** in a table, once the text around it is escaped.
        parts += [first.text[end:start], f"\0{first.text[start:stop]}\0"]
        end = stop
    return "".join([*parts, first.text[end:]])


def _words(study: CaseStudy) -> Table:
    rows = []
    for number, words in zip(study.shown, study.words, strict=True):
        listed = ", ".join(f"{w.word} {w.weight:.1f}× ({w.texts})" for w in words)
        rows.append((study.label_names[number], listed or "too few texts"))
    return Table(("Class", "Words, weight (texts)"), tuple(rows))


def _text(entry: CaseText) -> str:
    line = f"- {entry.kind}: {_bold(entry.for_predicted)} → {escape(entry.predicted)}, "
    line += f"{percent(entry.probability)}%"
    if entry.for_gold is None:
        return line
    return (
        f"{line}; it is {escape(entry.gold)}, {percent(entry.gold_probability)}%. For that label: "
        f"{_bold(entry.for_gold)}"
    )


def _bold(entry: WeightedText) -> str:
    return " ".join(
        f"**{escape(word)}**" if weight >= _EMPHASIS else escape(word)
        for word, weight in zip(entry.words, entry.weights, strict=True)
    )
