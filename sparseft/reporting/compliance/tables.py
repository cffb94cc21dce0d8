"""The page's tables: arms, fields, the critical field's confusions, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparseft.compliance.scores.tables import (
    MISSING,
    beside_text,
    interval_text,
    percent,
    summary_rows,
)
from sparseft.reporting.compliance.cases import Arm
from sparseft.reporting.compliance.text import safe
from sparseft.reporting.formats import p_text, points
from sparseft.reporting.marks import mark
from sparseft.reporting.svg import element
from sparseft.reporting.theme import family_of

__all__ = ["arm_table", "confusion_table", "cost_table", "field_rows", "money"]


def arm_table(arms: Sequence[Arm], currency: str) -> str:
    """One row for each arm, the majority last."""
    titles, rows = summary_rows({arm.label: arm.scores for arm in arms})
    by_label = {arm.label: arm for arm in arms}
    further = {
        f"accuracy against {arms[0].label}, points": [
            _against(by_label.get(label)) for label in rows
        ],
        "latency p50 / p95, s": [_latency(by_label.get(label)) for label in rows],
        "cost of an evaluation": [
            money(getattr(by_label.get(label), "cost", None), currency) for label in rows
        ],
    }
    for title, cells in further.items():
        if any(cell != MISSING for cell in cells):
            titles.append(title)
            for row, cell in zip(rows.values(), cells, strict=True):
                row.append(cell)
    body = []
    for label, found in rows.items():
        arm = by_label.get(label)
        kind = ' class="reference"' if arm is arms[0] and len(rows) > 1 else ""
        shown = "".join(map(_cell, found))
        body.append(f'<tr{kind}><th scope="row">{_name(label, arm)}</th>{shown}</tr>')
    return _table(["Arm", *titles], body, "Arms")


def field_rows(scores: Mapping[str, Any]) -> str:
    """One row for each field of an arm."""
    head = ["Field", "kind", "by", "scorer", "accuracy %", "majority %", "lift, points"]
    head += ["macro-F1 %", "beside", "overrides", "mended", "broken"]
    body = []
    for name, field in scores["fields"].items():
        overrides = field["overrides"]
        lift = MISSING if field["lift"] is None else points(field["lift"])
        cells = [field["kind"], field["by"], field["scorer"], interval_text(field["accuracy"])]
        cells += [percent(field["majority"]), lift, percent(field["macro_f1"]), beside_text(field)]
        cells += [
            str(overrides[key]) if overrides["count"] else MISSING
            for key in ("count", "mended", "broken")
        ]
        critical = scores["critical"] is not None and scores["critical"]["field"] == name
        badge = ' <span class="badge">critical</span>' if critical else ""
        body.append(
            f'<tr><th scope="row">{safe(name)}{badge}</th>{"".join(map(_cell, cells))}</tr>'
        )
    return _table(head, body, "Fields")


def confusion_table(critical: Mapping[str, Any]) -> str:
    """Gold in rows, the records in columns, each row with its own recall and interval."""
    confusion = critical["confusion"]
    head = [f"{critical['field']}: gold ↓, record →", *confusion["predicted"], "right in row"]
    body = []
    lines = zip(confusion["gold"], confusion["counts"], confusion["recall"], strict=True)
    for place, (value, counts, recall) in enumerate(lines):
        total, cells = sum(counts), []
        for column, count in enumerate(counts):
            hit = column == place
            # A sign, so that the diagonal is not told by colour alone.
            shown = f"<b>{count} ✓</b>" if hit and count else f"<b>{count}</b>" if count else "·"
            share = (count / total) ** 0.5 if total else 0.0
            cells.append(
                f'<td class="cell {"hit" if hit else "miss"}" style="--w:{share:.2f}">{shown}</td>'
            )
        alarm = ' <span class="badge bad">alarm</span>' if value in critical["alarm"] else ""
        body.append(
            f'<tr><th scope="row">{safe(value)}{alarm}</th>{"".join(cells)}'
            f"{_cell(interval_text(recall))}</tr>"
        )
    return f'<div class="confusion">{_table(head, body, "Confusions of the critical field")}</div>'


def cost_table(own: float, costs: Sequence[Mapping[str, Any]], currency: str) -> str:
    """One's own cost beside the others; `costs` of `compare_costs`."""
    body = [
        f'<tr class="reference"><th scope="row">this system</th>{_cell(money(own, currency))}'
        f"{_cell('1')}{_cell(MISSING)}{_cell('measured here')}</tr>"
    ]
    for each in costs:
        one = each["low"] == each["high"]
        cost = money(each["low"], currency) + (
            "" if one else f" to {money(each['high'], currency)}"
        )
        ratio = MISSING
        if each["low_ratio"] is not None:
            ratio = f"{each['low_ratio']:.3g}" + ("" if one else f" to {each['high_ratio']:.3g}")
        cells = [cost, ratio, each["date"], each["source"]]
        body.append(
            f'<tr><th scope="row">{safe(each["name"])}</th>{"".join(map(_cell, cells))}</tr>'
        )
    head = ["", "an evaluation", "ratio", "stated", "source"]
    return _table(head, body, "Costs of an evaluation")


def money(value: float | None, currency: str) -> str:
    """Two significant digits: "$0.0013"."""
    if value is None:
        return MISSING
    digits = f"{value:.2g}"
    return currency + (f"{float(digits):f}".rstrip("0").rstrip(".") if "e" in digits else digits)


def _against(arm: Arm | None) -> str:
    if arm is None or arm.against_first is None:
        return MISSING
    found = arm.against_first["field_accuracy"]
    return (
        f"{points(found['value'])} [{points(found['low'])}, {points(found['high'])}] "
        f"(p {p_text(found['p'])})"
    )


def _latency(arm: Arm | None) -> str:
    if arm is None or arm.latency is None:
        return MISSING
    return " / ".join(f"{seconds:.2f}" for seconds in arm.latency)


def _name(label: str, arm: Arm | None) -> str:
    if arm is None or not arm.method:
        return safe(label)
    family = family_of(arm.method)
    drawn = element("g", {"class": family}, mark(8, 8, family, 0.85))
    icon = f'<svg class="mini figure" width="16" height="16" aria-hidden="true">{drawn}</svg>'
    return f'<span class="name">{icon}{safe(label)}</span>'


def _cell(content: str) -> str:
    value, sign, spread = content.partition(" [")
    shown = safe(value) + (f' <span class="range">[{safe(spread)}</span>' if sign else "")
    return f"<td{' class=dim' if content == MISSING else ''}>{shown}</td>"


def _table(head: Sequence[str], body: Sequence[str], label: str) -> str:
    heads = "".join(f'<th scope="col">{safe(title)}</th>' for title in head)
    # Focusable, so that the keyboard can scroll it.
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{safe(label)}"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
