"""Calibration drawn: reliability, and risk against coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparseft.reporting.formats import percent
from sparseft.reporting.marks import mark
from sparseft.reporting.svg import Figure, element, line, number, text, ticks

__all__ = ["calibration_figures"]

_WIDTH, _HEIGHT = 440.0, 400.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 16.0, 14.0, 84.0
# What is drawn: key in the scores, its name, the family whose colour and mark it takes.
_SERIES = (("values", "all values", "sparse"), ("critical", "critical field", "adapter"))
_DASHES = {"values": "", "critical": "7 4"}


def calibration_figures(scores: Mapping[str, Any]) -> list[Figure]:
    """The drawings of an arm whose values have confidences; none without."""
    found = {
        key: scores["calibration"][key]
        for key, _, _ in _SERIES
        if scores["calibration"].get(key) is not None
    }
    return [_reliability(found), _risk_coverage(found)] if found else []


class _Plane:
    """Axes from low to high in both directions, in percent."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x_range, self.y_range = x, y

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)

    def axes(self, x_name: str, y_name: str) -> list[str]:
        base, parts = _HEIGHT - _BOTTOM, []
        for tick in _ticks(self.y_range):
            y = self.y(tick)
            parts.append(line(_LEFT, y, _WIDTH - _RIGHT, y, "grid"))
            parts.append(text(_LEFT - 8, y + 4, f"{100 * tick:g}", "soft", "end"))
        for tick in _ticks(self.x_range):
            parts.append(line(self.x(tick), base, self.x(tick), base + 5, "axis"))
            parts.append(text(self.x(tick), base + 19, f"{100 * tick:g}", "soft", "middle"))
        parts.append(line(_LEFT, base, _WIDTH - _RIGHT, base, "axis"))
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        parts.append(text(middle, base + 40, x_name, "strong", "middle", 13))
        parts.append(text(14, (_TOP + base) / 2, y_name, "strong", "middle", 13, -90))
        return parts


def _ticks(limits: tuple[float, float]) -> list[float]:
    low, high = limits
    return [
        round(tick / 100, 6)
        for tick in ticks(100 * low, 100 * high, 5)
        if 100 * low - 1e-9 <= tick <= 100 * high + 1e-9
    ]


def _legend(keys: Sequence[str]) -> str:
    parts, x, y = [], _LEFT, _HEIGHT - 16
    for key, name, family in _SERIES:
        if key in keys:
            sign = line(x, y - 4, x + 38, y - 4, "mean") if not _DASHES[key] else _dashed(x, y)
            drawn = sign + mark(x + 19, y - 4, family, 0.75) + text(x + 46, y, name, "soft")
            parts.append(element("g", {"class": family}, drawn))
            x += 150
    return "".join(parts)


def _dashed(x: float, y: float) -> str:
    return element(
        "line",
        {"x1": x, "y1": y - 4, "x2": x + 38, "y2": y - 4, "class": "mean",
         "stroke-dasharray": _DASHES["critical"]},
    )  # fmt: skip


def _reliability(found: Mapping[str, Any]) -> Figure:
    bins = [each for entry in found.values() for each in entry["bins"]]
    low = min(min(b["confidence"] for b in bins), min(b["low"] for b in bins))
    low = min(0.9, max(0.0, int(20 * low) / 20))
    plane = _Plane((low, 1.0), (low, 1.0))
    parts = plane.axes("confidence, %", "right, %")
    ends = (plane.x(low), plane.y(low), plane.x(1.0), plane.y(1.0))
    parts.append(line(*ends, "front"))
    for key, name, family in _SERIES:
        if key not in found:
            continue
        drawn = ""
        for each in found[key]["bins"]:
            x, y = plane.x(each["confidence"]), plane.y(each["accuracy"])
            drawn += line(x, plane.y(max(each["low"], low)), x, plane.y(each["high"]), "bar")
            tip = (
                f"<title>{name}: {each['count']} values, {percent(each['confidence'])}% "
                f"confident, {percent(each['accuracy'])}% right</title>"
            )
            drawn += element("g", {}, tip + mark(x, y, family, 0.75))
        parts.append(element("g", {"class": family}, drawn))
    parts.append(_legend(list(found)))
    told = "ECE: " + ", ".join(
        f"{name} {percent(found[key]['ece'])}%" for key, name, _ in _SERIES if key in found
    )
    return Figure(
        name="reliability",
        title="How often a confidence is right",
        alt=f"Share of right values against confidence. {told}.",
        caption=(
            f"Share of right values against their mean confidence, in bins of about equal mass; "
            f"bars are 95% Wilson intervals, the dotted line is perfect calibration. {told}."
        ),
        body="".join(parts),
        width=_WIDTH,
        height=_HEIGHT,
    )


def _risk_coverage(found: Mapping[str, Any]) -> Figure:
    top = max(risk for entry in found.values() for _, risk in entry["risk_coverage"])
    plane = _Plane((0.0, 1.0), (0.0, max(0.02, min(1.0, 1.1 * top))))
    parts = plane.axes("kept without review, %", "wrong among the kept, %")
    for key, _, family in _SERIES:
        if key not in found:
            continue
        curve = found[key]["risk_coverage"]
        path = "M" + "L".join(f"{number(plane.x(c))} {number(plane.y(r))}" for c, r in curve)
        # A style, since fill is set nowhere for lines that are paths.
        style = "fill:none;stroke:var(--c);stroke-width:2.2;stroke-linejoin:round"
        drawn = element(
            "path", {"d": path, "style": style, "stroke-dasharray": _DASHES[key] or None}
        )
        last = mark(plane.x(curve[-1][0]), plane.y(curve[-1][1]), family, 0.75)
        parts.append(element("g", {"class": family}, drawn + last))
    parts.append(_legend(list(found)))
    told = "Area under the curve: " + ", ".join(
        f"{name} {percent(found[key]['aurc'])}% (at best {percent(found[key]['aurc_best'])}%)"
        for key, name, _ in _SERIES
        if key in found
    )
    return Figure(
        name="risk-coverage",
        title="What reviewing the least confident values would gain",
        alt=f"Share of wrong values among the most confident ones, by how many are kept. {told}.",
        caption=(
            f"Keep only the most confident values: the share of wrong ones among them. {told}."
        ),
        body="".join(parts),
        width=_WIDTH,
        height=_HEIGHT,
    )
