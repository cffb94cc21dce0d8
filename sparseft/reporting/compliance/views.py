"""A transcript beside its fields: what was said, what the record says, and why."""

from __future__ import annotations

from collections.abc import Sequence

from sparseft.compliance.fields import Field
from sparseft.compliance.record import FieldValue
from sparseft.compliance.transcript import Evidence
from sparseft.reporting.compliance.cases import Judged
from sparseft.reporting.compliance.text import safe, value_html
from sparseft.reporting.compliance.turns import turns_html
from sparseft.reporting.formats import count_text

__all__ = ["case_index", "case_view", "highlight_rules"]


def highlight_rules(fields: int) -> str:
    """CSS that joins each field's card and its places: either one under the pointer or in focus
    shows the other. It needs no script."""
    parts = []
    for number in range(fields):
        card, spot = f".field.f{number}", f"mark.f{number}"
        parts.append(f".case:has({card}:is(:hover,:focus-within,.pinned)) {spot}")
    shown = ",".join(parts)
    back = ",".join(f".case:has(mark.f{number}:hover) .field.f{number}" for number in range(fields))
    return (
        f"{shown}{{--w:1;outline:2px solid var(--accent);outline-offset:1px}}"
        f"{back}{{border-color:var(--accent);box-shadow:0 0 0 1px var(--accent)}}"
    )


def case_index(cases: Sequence[Judged]) -> str:
    """Links to the cases, each with what is to be seen there."""
    items = "".join(
        f'<li><a href="#case-{number}"><span class="id">{safe(each.case.transcript.id)}</span>'
        f"{_badges(each)}</a></li>"
        for number, each in enumerate(cases)
    )
    return f'<ul class="index">{items}</ul>'


def case_view(judged: Judged, number: int) -> str:
    """One transcript with its fields, as an element that opens and closes."""
    case, anchor = judged.case, f"case-{number}"
    record = case.record
    evidence = {
        field.name: record.fields[field.name].evidence if field.name in record.fields else ()
        for field in judged.schema.fields
    }
    cards = "".join(
        _card(field, column, judged, anchor) for column, field in enumerate(judged.schema.fields)
    )
    notes = "".join(f"<li>{safe(reason)}</li>" for reason in record.review)
    flags = f'<div class="flags"><b>⚑ For review</b><ul>{notes}</ul></div>' if notes else ""
    if record.error:
        flags += f'<div class="flags"><b>✗ No record</b><p>{safe(record.error)}</p></div>'
    turns = turns_html(case.transcript, evidence, anchor)
    fields = f'<ul class="fields">{cards}</ul>' if not record.error else ""
    return (
        f'<details class="case"{" open" if number == 0 else ""}>'
        f'<summary><span class="id">{safe(case.transcript.id)}</span>{_badges(judged)}</summary>'
        f'<div class="sides" id="{anchor}"><div class="side said-side">{turns}</div>'
        f'<div class="side">{flags}{fields}</div></div></details>'
    )


def _badges(judged: Judged) -> str:
    badges = []
    if judged.alarm:
        badges.append(f'<span class="badge bad">✗ {judged.alarm}</span>')
    if judged.case.record.error:
        badges.append('<span class="badge bad">✗ no record</span>')
    elif judged.wrong:
        badges.append(f'<span class="badge bad">✗ {len(judged.wrong)} wrong</span>')
    elif judged.case.gold is not None:
        badges.append('<span class="badge good">✓ all right</span>')
    if judged.case.record.review:
        badges.append('<span class="badge flag">⚑ review</span>')
    return f'<span class="badges">{"".join(badges)}</span>'


def _card(field: Field, column: int, judged: Judged, anchor: str) -> str:
    entry = judged.case.record.fields.get(field.name)
    if entry is None:
        return ""
    right = judged.right.get(field.name)
    state = "" if right is None else " right" if right else " wrong"
    critical = '<span class="badge">critical</span>' if field.name == judged.schema.critical else ""
    source = f'<span class="badge {entry.source.split()[-1]}">{entry.source}</span>'
    name = safe(field.name)
    places = [e for e in entry.evidence if e.turn < len(judged.case.transcript.turns)]
    if places:
        name = (
            f'<button type="button" class="pin" aria-pressed="false" '
            f'title="keep its {count_text(len(places), "place")} marked">{name}</button>'
        )
    why = f'<p class="why">{safe(entry.reason)}</p>' if entry.reason else ""
    return (
        f'<li class="field f{column}{state}"><div class="top"><span class="key">{name}</span>'
        f"{critical}{source}</div>"
        f'<div class="value">{value_html(entry.value)}{_verdict(field, judged)}</div>'
        f"{_model_said(entry)}{_confidence(entry)}"
        f"{why}{_links(places, anchor)}</li>"
    )


def _verdict(field: Field, judged: Judged) -> str:
    """Right, or the gold value: said by sign and word, not by colour alone."""
    right, gold = judged.right.get(field.name), judged.case.gold
    if right is None or gold is None:
        return ""
    if right:
        return '<span class="mark-right" title="right">✓<span class="sr"> right</span></span>'
    return f'<div class="mark-wrong">✗ wrong; gold: {value_html(gold[field.name])}</div>'


def _model_said(entry: FieldValue) -> str:
    if entry.source != "rule override":
        return ""
    return f'<p class="said">the model said {value_html(entry.model_value)}</p>'


def _confidence(entry: FieldValue) -> str:
    if entry.confidence is None:
        return ""
    share = min(max(entry.confidence, 0.0), 1.0)
    # 100% would claim more than a confidence below 1 says.
    shown = f"{100 * min(share, 0.999 if share < 1 else 1.0):.1f}%"
    return (
        f'<p class="sure"><span class="bar" style="--p:{100 * share:.0f}%" aria-hidden="true">'
        f"</span>{shown} confident</p>"
    )


def _links(evidence: Sequence[Evidence], anchor: str) -> str:
    turns = sorted({each.turn for each in evidence})
    if not turns:
        return ""
    links = ", ".join(f'<a href="#{anchor}-t{turn}">{turn + 1}</a>' for turn in turns)
    return f'<p class="places">see turn{"s" if len(turns) > 1 else ""} {links}</p>'
