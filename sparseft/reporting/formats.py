"""Figures as a reader wants them: the same rounding in Markdown, HTML and drawings."""

from __future__ import annotations

from sparseft.reporting.statistics import Comparison
from sparseft.reporting.summary import MethodSummary, Spread

__all__ = [
    "METRIC_NAMES",
    "MISSING",
    "bytes_text",
    "count_text",
    "difference_text",
    "headline",
    "join_words",
    "p_text",
    "percent",
    "percent_spread",
    "points",
    "ratio_spread",
    "seconds_text",
    "share_text",
]

METRIC_NAMES = {"accuracy": "Accuracy", "macro_f1": "Macro-F1", "micro_f1": "Micro-F1"}
MISSING = "–"


def percent(value: float) -> str:
    """0.9012 as "90.1"."""
    return f"{100 * value:.1f}"


def percent_spread(value: Spread | None) -> str:
    """ "90.1 ± 0.4", or "90.1" for one seed."""
    if value is None:
        return MISSING
    return percent(value.mean) + ("" if value.sd is None else f" ± {percent(value.sd)}")


def points(value: float) -> str:
    """A difference in percentage points, always with its sign: "−0.4", "+1.0", "0.0"."""
    rounded = f"{abs(100 * value):.1f}"
    sign = "" if float(rounded) == 0 else "+" if value > 0 else "−"
    return sign + rounded


def difference_text(found: Comparison | None) -> str:
    """ "−0.4 [−1.2, +0.5]"."""
    if found is None:
        return MISSING
    return f"{points(found.difference)} [{points(found.low)}, {points(found.high)}]"


def p_text(p: float | None) -> str:
    """Two digits, and "<0.001" below that."""
    if p is None:
        return MISSING
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def ratio_spread(value: Spread | None) -> str:
    """ "0.62 ± 0.02"."""
    if value is None:
        return MISSING
    return f"{value.mean:.2f}" + ("" if value.sd is None else f" ± {value.sd:.2f}")


def seconds_text(value: float | None) -> str:
    """Seconds with about two digits: "0.4", "38", "1240"."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def bytes_text(value: float | None) -> str:
    """Bytes in the largest fitting decimal unit."""
    if value is None:
        return MISSING
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5 or unit == "GB":
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable: GB takes every size")


def share_text(value: float | None) -> str:
    """A share as a percentage with two significant digits: "0.043%", "5.1%", "100%"."""
    if value is None:
        return MISSING
    if value >= 0.0995:
        return f"{100 * value:.0f}%"
    return f"{100 * value:.2g}%" if value >= 1e-6 else ("0%" if value == 0 else "<0.0001%")


def count_text(count: int, singular: str, plural: str = "") -> str:
    """ "1 run", "2 runs"."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def join_words(words: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def headline(entry: MethodSummary) -> str:
    """A method with its score, for alternative texts."""
    ratio = "" if entry.step_ratio is None else f" at {entry.step_ratio.mean:.2f} of the step time"
    return f"{entry.label} {percent(entry.score.mean)}%{ratio}"
