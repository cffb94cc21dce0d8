"""What the command line says of routing runs: one of them, and the table of a sweep."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from sparseft.results import Result

__all__ = ["routed_lines", "routed_rows"]

_COLUMNS: tuple[tuple[str, str], ...] = (
    ("joint goal accuracy", "jga"),
    ("small alone", "jga_small_alone"),
    ("large alone", "jga_large_alone"),
    ("oracle", "jga_oracle"),
    ("large calls", "share_large"),
    ("cost", "cost_of_large_alone"),
    ("AIQ", "aiq"),
)


def routed_lines(result: Result, folder: Path) -> list[str]:
    """A run's figures and where its files lie."""
    metrics, notes = result.metrics, result.notes
    saved = notes["router"]
    times = [metrics[f"decision_ms_{name}"] for name in ("p50", "p95")]
    lines = [
        f"{notes['small']} and {notes['large']} on {result.data['name']}, seed {result.seed}",
        f"  turns     {result.data['rows']['test']:,} of {result.data['dialogues']:,} dialogues, "
        "pools from one half and tested on the other, both ways",
        f"  routed    joint goal accuracy {metrics['jga']:.4f} with {metrics['share_large']:.0%} "
        f"of the turns to the large model, at {metrics['cost_of_large_alone']:.2f} of its cost",
        f"  alone     small {metrics['jga_small_alone']:.4f}, large "
        f"{metrics['jga_large_alone']:.4f}; an oracle {metrics['jga_oracle']:.4f}",
        f"  saved     {saved['router']}, turn accuracy {result.validation:.4f} held out, decides "
        f"in {times[0]:.1f} ms (p95 {times[1]:.1f})"
        + ("" if saved["saved"] else "; has no pool, so nothing is written"),
        f"  page      {folder / 'routing.html'}",
        f"  result    {folder / 'result.json'}, {result.cost['evaluation_seconds']:.0f} s",
    ]
    if saved["saved"]:
        lines.append(f"  router    {folder / 'router'}")
    silent = [f"{side} {count:,}" for side, count in notes["unanswered"].items() if count]
    if silent:
        lines.insert(2, f"  silent    turns without an answer: {', '.join(silent)}")
    return lines


def routed_rows(
    results: Sequence[Result], spread: Callable[[Sequence[float]], str]
) -> list[tuple[str, ...]]:
    """A table's head and its rows: runs that differ in their seed alone are one row.

    Args:
        spread: mean and standard deviation as a text.
    """
    groups: dict[str, list[Result]] = {}
    for result in results:
        settings = json.dumps({**result.config, "seed": None}, sort_keys=True)
        groups.setdefault(settings, []).append(result)
    rows = [("data", "small", "large", "seeds", *(head for head, _ in _COLUMNS), "decision (ms)")]
    for own in groups.values():
        first = own[0]
        times = statistics.median(result.metrics["decision_ms_p50"] for result in own)
        rows.append(
            (
                first.data["name"],
                first.notes["small"],
                first.notes["large"],
                str(len(own)),
                *(_cell(own, name, spread) for _, name in _COLUMNS),
                f"{times:.1f}",
            )
        )
    return rows


def _cell(results: Sequence[Result], name: str, spread: Callable[[Sequence[float]], str]) -> str:
    """Of the runs for which the figure is defined."""
    values = [result.metrics[name] for result in results if name in result.metrics]
    return spread(values) if values else "–"
