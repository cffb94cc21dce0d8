"""Routers' curves drawn: quality against the share of large calls, and against cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from sparseft.reporting.formats import percent
from sparseft.reporting.marks import mark
from sparseft.reporting.svg import Figure, element, line, number, text, ticks
from sparseft.routing.scores import Ends, Point, RouterFigures

__all__ = ["curve_figures", "family_of_router"]

_WIDTH, _HEIGHT = 560.0, 430.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 22.0, 16.0, 112.0
# The family whose colour and mark a router takes, and what the legend calls it.
_FAMILIES = {
    "sparse": ("chosen by the pool", ("chosen by the pool",)),
    "adapter": ("nearest neighbours", ("knn", "knn_balanced", "weighted_knn")),
    "layers": ("classifier, RouteLLM", ("classifier", "routellm_sw")),
    "light": ("sees the answer", ("cascade", "verifier")),
    "probe": ("random", ("random",)),
}


def family_of_router(router: str) -> str:
    """The family, and so the colour and mark, of a router's name."""
    return next((name for name, (_, own) in _FAMILIES.items() if router in own), "probe")


def curve_figures(figures: Sequence[RouterFigures], ends: Ends) -> list[Figure]:
    """Both drawings.

    Args:
        figures: the routers, the leading one first.
        ends: small alone, large alone, the oracle.
    """
    large = ends.large.cost

    def share(point: Point) -> float:
        return point.share

    def cost(point: Point) -> float:
        return point.cost / large

    return [
        _figure(
            "quality-share", "Quality against the share of large calls", figures, ends, share,
            "turns to the large model, %", (0.0, 1.0),
        ),
        _figure(
            "quality-cost", "Quality against cost", figures, ends, cost,
            "cost of a turn, % of the large model alone",
            (0.0, max(1.0, *(cost(point) for each in figures for point in each.points))),
        ),
    ]  # fmt: skip


def _figure(
    name: str,
    title: str,
    figures: Sequence[RouterFigures],
    ends: Ends,
    place: Callable[[Point], float],
    x_name: str,
    x_range: tuple[float, float],
) -> Figure:
    heights = [point.quality for each in figures for point in each.points]
    known = [ends.small.quality, ends.large.quality, *([ends.oracle] if ends.oracle else [])]
    low, high = min(*heights, *known), max(*heights, *known)
    room = max(0.01, 0.06 * (high - low))
    y_range = (max(0.0, low - room), min(1.0, high + room))

    def x(value: float) -> float:
        first, last = x_range
        return _LEFT + (value - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        first, last = y_range
        return _HEIGHT - _BOTTOM - (value - first) / (last - first) * (_HEIGHT - _BOTTOM - _TOP)

    parts = _axes(x, y, x_range, y_range, x_name)
    if ends.oracle:
        level = y(ends.oracle)
        parts.append(line(_LEFT, level, _WIDTH - _RIGHT, level, "front"))
        parts.append(text(_LEFT + 6, level - 5, "oracle", "soft"))
    # The leading curve last, so that it lies on top.
    for each in reversed(figures):
        parts.append(_curve(each, figures[0].router, x, y, place))
    for label, end in (("small alone", ends.small), ("large alone", ends.large)):
        at = x(place(end)), y(end.quality)
        tip = f"<title>{label}: {percent(end.quality)}%</title>"
        parts.append(element("g", {"class": "full"}, tip + mark(*at, "full", 1.0)))
    parts.append(_legend(figures))
    return Figure(
        name=name,
        title=title,
        alt=f"{title}: joint goal accuracy of {len(figures)} routers between the small model's "
        f"{percent(ends.small.quality)}% and the large model's {percent(ends.large.quality)}%.",
        caption=_caption(figures),
        body="".join(parts),
        width=_WIDTH,
        height=_HEIGHT,
    )


def _caption(figures: Sequence[RouterFigures]) -> str:
    parts = [
        "Joint goal accuracy at each wanted share of large calls, from none (left) to all.",
        "Squares: the small (left) and the large model alone; dotted above: an oracle that knows "
        "which turns only the large model gets right.",
    ]
    if any(each.router == "random" for each in figures):
        parts.append("Random sends turns to the large model by chance.")
    known = [each for each in figures[1:] if not math.isnan(each.aiq)]
    if known:
        best = max(known, key=lambda each: each.aiq)
        parts.append(f"The largest AIQ has {best.router.replace('_', ' ')}.")
    return " ".join(parts)


def _axes(
    x: Callable[[float], float],
    y: Callable[[float], float],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x_name: str,
) -> list[str]:
    base, parts = _HEIGHT - _BOTTOM, []
    for tick in _ticks(y_range):
        parts.append(line(_LEFT, y(tick), _WIDTH - _RIGHT, y(tick), "grid"))
        parts.append(text(_LEFT - 8, y(tick) + 4, f"{100 * tick:g}", "soft", "end"))
    for tick in _ticks(x_range):
        parts.append(line(x(tick), base, x(tick), base + 5, "axis"))
        parts.append(text(x(tick), base + 19, f"{100 * tick:g}", "soft", "middle"))
    parts.append(line(_LEFT, base, _WIDTH - _RIGHT, base, "axis"))
    parts.append(text((_LEFT + _WIDTH - _RIGHT) / 2, base + 40, x_name, "strong", "middle", 13))
    middle = (_TOP + base) / 2
    parts.append(text(14, middle, "joint goal accuracy, %", "strong", "middle", 13, -90))
    return parts


def _ticks(limits: tuple[float, float]) -> list[float]:
    low, high = 100 * limits[0], 100 * limits[1]
    return [t / 100 for t in ticks(low, high, 7) if low - 1e-9 <= t <= high + 1e-9]


def _curve(
    each: RouterFigures,
    leading: str,
    x: Callable[[float], float],
    y: Callable[[float], float],
    place: Callable[[Point], float],
) -> str:
    family = family_of_router(each.router)
    points = sorted(each.points, key=lambda point: (place(point), point.quality))
    path = "M" + "L".join(f"{number(x(place(p)))} {number(y(p.quality))}" for p in points)
    width = 3 if each.router == leading else 1.6
    style = f"fill:none;stroke:var(--c);stroke-width:{width};stroke-linejoin:round"
    dashes = "3 4" if family == "probe" else None
    drawn = element("path", {"d": path, "style": style, "stroke-dasharray": dashes})
    for point in points:
        tip = (
            f"<title>{each.router.replace('_', ' ')}: {percent(point.quality)}%, "
            f"{percent(point.share)}% of the turns to the large model</title>"
        )
        drawn += element("g", {}, tip + mark(x(place(point)), y(point.quality), family, 0.5))
    return element("g", {"class": family}, drawn)


def _legend(figures: Sequence[RouterFigures]) -> str:
    used = {family_of_router(each.router) for each in figures}
    entries = [(family, called) for family, (called, _) in _FAMILIES.items() if family in used]
    parts, x, y = [], _LEFT, _HEIGHT - 40
    for family, called in [*entries, ("full", "either model alone")]:
        if x > _WIDTH - 150:
            x, y = _LEFT, y + 22
        sign = mark(x + 15, y - 4, family, 0.6)
        if family != "full":
            sign = line(x, y - 4, x + 30, y - 4, "mean") + sign
        parts.append(element("g", {"class": family}, sign + text(x + 37, y, called, "soft")))
        x += 170
    return "".join(parts)
