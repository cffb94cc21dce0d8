"""The figures of `score` as Markdown tables, for a terminal, a README or a log."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sparseft.compliance.transcript import Json

__all__ = [
    "MISSING",
    "beside_text",
    "field_table",
    "interval_text",
    "percent",
    "summary_rows",
    "table",
]

MISSING = "–"
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~])")


def table(arms: Mapping[str, Mapping[str, Json]]) -> str:
    """One row for each arm, such as "model only" or "hybrid"; see `summary_rows`."""
    titles, rows = summary_rows(arms)
    return _markdown(["arm", *titles], [[name, *cells] for name, cells in rows.items()])


def summary_rows(
    arms: Mapping[str, Mapping[str, Json]],
) -> tuple[list[str], dict[str, list[str]]]:
    """Column titles and each arm's cells: percentages, with 95% intervals.

    Where an arm knows the majority and no arm is called so, its row comes last. Columns that no arm
    has a figure for are left out.

    Args:
        arms: results of `score` by name.
    """
    named = {name: _summary_cells(scores) for name, scores in arms.items()}
    known = next((s["majority"] for s in arms.values() if s.get("majority")), None)
    if known is not None and "majority" not in named:
        named["majority"] = _summary_cells(_as_scores(known))
    titles = list(dict.fromkeys(title for row in named.values() for title in row))
    kept = [t for t in titles if any(row[t] != MISSING for row in named.values())]
    return kept, {name: [row[title] for title in kept] for name, row in named.items()}


def field_table(scores: Mapping[str, Json]) -> str:
    """One row for each field of one arm."""
    rows = []
    for name, field in scores["fields"].items():
        overrides = field["overrides"]
        mended = MISSING
        if overrides["count"]:
            mended = f"{overrides['count']} ({overrides['mended']}/{overrides['broken']})"
        rows.append(
            [
                name,
                field["kind"],
                field["by"],
                field["scorer"],
                interval_text(field["accuracy"]),
                percent(field["majority"]),
                percent(field["macro_f1"]),
                beside_text(field),
                mended,
            ]
        )
    head = ["field", "kind", "by", "scorer", "accuracy %", "majority %", "macro-F1 %", "beside"]
    return _markdown([*head, "overrides (mended/broken)"], rows)


def _summary_cells(scores: Mapping[str, Any]) -> dict[str, str]:
    """The cells of one arm by column title."""

    def part(*keys: str, show: Callable[[Any], str] = interval_text) -> str:
        found: Any = scores
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return show(found)

    return {
        "field accuracy %": part("field_accuracy"),
        "lift, points": part("lift", "field_accuracy"),
        "critical recall %": part("critical", "recall"),
        "critical precision %": part("critical", "precision"),
        "macro-F1 %": part("macro_f1"),
        "records exact %": part("record_exact"),
        "reviewed %": part("review", "reviewed"),
        "ECE %": part("calibration", "values", "ece", show=percent),
        "valid raw %": part("validity", "raw", "value", show=percent),
        "valid constrained %": part("validity", "constrained", "value", show=percent),
        "valid %": part("validity", "post_processed", "value", show=percent),
    }


def percent(value: float | None) -> str:
    """0.9012 as "90.1"."""
    return MISSING if value is None else f"{100 * value:.1f}"


def interval_text(found: Mapping[str, Any] | None) -> str:
    """An estimate or proportion as "90.1 [88.0, 92.3]", with counts where it has some."""
    if found is None or found["value"] is None:
        return MISSING
    shown = percent(found["value"])
    if found["low"] is not None:
        shown += f" [{percent(found['low'])}, {percent(found['high'])}]"
    return shown + (f" ({found['count']}/{found['total']})" if "total" in found else "")


def beside_text(field: Mapping[str, Any]) -> str:
    """A field's further figures: "MAE 0.12" or "similarity 93.1"."""
    parts = []
    for key, entry in field["beside"].items():
        if entry["value"] is None:
            continue
        text = f"MAE {entry['value']:.2f}" if key == "mae" else f"{key} {percent(entry['value'])}"
        parts.append(text)
    return ", ".join(parts) or MISSING


def _as_scores(majority: Mapping[str, Any]) -> dict[str, Any]:
    """The majority's plain figures in the form of an arm's."""

    def plain(key: str) -> dict[str, Any] | None:
        value = majority.get(key)
        return None if value is None else {"value": value, "low": None, "high": None}

    return {
        "field_accuracy": plain("field_accuracy"),
        "macro_f1": plain("macro_f1"),
        "record_exact": plain("record_exact"),
        "critical": {
            "recall": plain("critical_recall"),
            "precision": plain("critical_precision"),
        },
    }


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + ":---|" + "---:|" * (len(head) - 1)]
    # Only names are anybody's text; figures keep their brackets readable.
    lines += ["| " + " | ".join([_escaped(row[0]), *row[1:]]) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _escaped(content: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(content.split()))
