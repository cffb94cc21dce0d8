"""Drawing in SVG: elements, axes, text that does not collide.

Colours are CSS variables (see `theme`), so one drawing serves light and dark pages.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "Box",
    "Figure",
    "LabelSpot",
    "element",
    "escaped",
    "line",
    "number",
    "place_labels",
    "slug",
    "text",
    "text_width",
    "ticks",
]

# Wider than most faces' mean advance, so that labels keep clear of each other in all of them.
_ADVANCE = 0.58


@dataclass(frozen=True)
class Figure:
    """One drawing.

    Attributes:
        name: of its file, without the ending.
        title: what is shown, in a few words.
        alt: what a reader who cannot see it should know.
        caption: how to read it.
        body: the elements inside `<svg>`.
        width: of the drawing, in CSS pixels.
        height: likewise.
        is_map: it shows where a selection lies.
    """

    name: str
    title: str
    alt: str
    caption: str
    body: str
    width: float
    height: float
    is_map: bool = False

    def inline(self) -> str:
        """The `<svg>` element, for a page that defines the theme's variables."""
        return element(
            "svg",
            {
                "viewBox": f"0 0 {number(self.width)} {number(self.height)}",
                "width": self.width,
                "height": self.height,
                "role": "img",
                "aria-label": self.alt,
                "class": "figure",
            },
            f"<title>{html.escape(self.title)}</title>{self.body}",
        )

    def standalone(self, style: str) -> str:
        """A complete SVG file with `style` inside, on a ground of its own."""
        opening, rest = self.inline().split(">", 1)
        ground = '<rect width="100%" height="100%" rx="8" style="fill:var(--card)"/>'
        return (
            f'{opening} xmlns="http://www.w3.org/2000/svg"><style>{style}</style>{ground}{rest}\n'
        )


def number(value: float) -> str:
    """A coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def element(tag: str, attributes: dict[str, str | float | None], content: str = "") -> str:
    """One element; `content` is markup, attribute values are escaped, None leaves one out."""
    written = " ".join(
        f'{key}="{number(value) if isinstance(value, (int, float)) else html.escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{tag} {written}>{content}</{tag}>" if content else f"<{tag} {written}/>"


def escaped(content: str) -> str:
    """Text as markup."""
    return html.escape(content)


def slug(label: str) -> str:
    """A label as part of a file name or an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or "results"


def line(x0: float, y0: float, x1: float, y1: float, kind: str) -> str:
    """A straight line."""
    return element("line", {"x1": x0, "y1": y0, "x2": x1, "y2": y1, "class": kind})


def text(
    x: float,
    y: float,
    content: str,
    kind: str = "",
    anchor: str = "start",
    size: float = 12.5,
    rotate: float | None = None,
) -> str:
    """Escaped text whose baseline starts, is centred or ends at (x, y)."""
    return element(
        "text",
        {
            "x": x,
            "y": y,
            "class": f"t {kind}".strip(),
            "text-anchor": None if anchor == "start" else anchor,
            "font-size": size,
            "transform": None
            if rotate is None
            else f"rotate({number(rotate)} {number(x)} {number(y)})",
        },
        html.escape(content),
    )


def text_width(content: str, size: float = 12.5) -> float:
    """About how wide a line of text is, rather too wide than too narrow."""
    return _ADVANCE * size * len(content)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from at most `low` to at least `high`."""
    span = max(high - low, 1e-9)
    raw = span / max(about, 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(s * magnitude for s in (1, 2, 2.5, 5, 10) if s * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


class Box(NamedTuple):
    """A rectangle by its corners."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The common area."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return width * height if width > 0 and height > 0 else 0.0

    def grown(self, by: float) -> Box:
        """The same, larger on all sides."""
        return Box(self.left - by, self.top - by, self.right + by, self.bottom + by)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of the rectangle that is closest to (x, y)."""
        return min(max(x, self.left), self.right), min(max(y, self.top), self.bottom)


@dataclass(frozen=True)
class LabelSpot:
    """Where a label went: its box, and the end of its leader line on the box."""

    box: Box
    leader: tuple[float, float]
    distance: float

    @property
    def is_far(self) -> bool:
        """Whether it takes a leader line to see which point is meant."""
        return self.distance > 14


def place_labels(
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    bounds: Box,
    size: float = 12.5,
    bars: Sequence[Box] = (),
) -> list[LabelSpot]:
    """Put each label near its point, clear of other labels, points and error bars.

    Tries ever larger circles around each point, then lets each label move again in view of all the
    others until none wants to. Deterministic.

    Args:
        points: one (x, y) for each label.
        labels: the texts.
        bounds: no label leaves it.
        size: of the font.
        bars: thin boxes that labels should rather not cover.
    """
    marks = [Box(x, y, x, y).grown(7) for x, y in points]
    chosen: list[LabelSpot | None] = [None] * len(points)
    candidates = []
    for index, ((x, y), label) in enumerate(zip(points, labels, strict=True)):
        options = _candidates(x, y, label, size, bounds)
        costs = [_own_cost(index, spot, points, marks, bars) for spot in options]
        # Cheapest first: what already costs more than the best so far need not be looked at.
        candidates.append(sorted(zip(costs, options, strict=True), key=lambda pair: pair[0]))

    def among_others(index: int, spot: LabelSpot) -> float:
        total, roomy = 0.0, spot.box.grown(2)
        for other, placed in enumerate(chosen):
            if other == index or placed is None:
                continue
            total += 40.0 * roomy.overlap(placed.box)
            if spot.is_far and _crosses(*points[index], *spot.leader, placed.box.grown(1)):
                total += 120.0
            if placed.is_far and _crosses(*points[other], *placed.leader, roomy):
                total += 120.0
        return total

    def best(index: int) -> LabelSpot:
        least, found = math.inf, candidates[index][0][1]
        for own, spot in candidates[index]:
            if own >= least:
                break
            total = own + among_others(index, spot)
            if total < least:
                least, found = total, spot
        return found

    def closeness(index: int) -> float:
        distances = (math.dist(points[index], other) for other in points)
        return sum(1 / distance for distance in distances if distance > 0)

    crowded = sorted(range(len(points)), key=lambda index: (-closeness(index), index))
    for _ in range(8):
        before = list(chosen)
        for index in crowded:
            chosen[index] = best(index)
        if chosen == before:
            break
    return [spot for spot in chosen if spot is not None]


def _own_cost(
    index: int,
    spot: LabelSpot,
    points: Sequence[tuple[float, float]],
    marks: Sequence[Box],
    bars: Sequence[Box],
) -> float:
    """What a spot costs whatever the other labels do."""
    x, y = points[index]
    total, roomy = spot.distance * 0.6, spot.box.grown(2)
    if spot.box.left < x:
        total += 2.0  # where it is a tie, to the right reads best
    for other, mark in enumerate(marks):
        total += 30.0 * roomy.overlap(mark) * (0.5 if other == index else 1.0)
        if other != index and spot.is_far and _crosses(x, y, *spot.leader, mark):
            total += 60.0
    return total + sum(0.6 * spot.box.overlap(bar) for bar in bars)


def _candidates(x: float, y: float, label: str, size: float, bounds: Box) -> list[LabelSpot]:
    width, height = text_width(label, size), size * 1.15
    found = []
    for radius in (10, 16, 24, 34, 46, 60, 78, 100, 130):
        for turn in range(24):
            angle = 2 * math.pi * turn / 24
            nearest_x, nearest_y = x + radius * math.cos(angle), y + radius * math.sin(angle)
            # The box lies beyond the circle: to its right where the angle points right, and so on.
            left = nearest_x - width * (0.5 - 0.5 * _eased(math.cos(angle)))
            top = nearest_y - height * (0.5 - 0.5 * _eased(math.sin(angle)))
            box = Box(left, top, left + width, top + height)
            inside = (
                box.left >= bounds.left
                and box.right <= bounds.right
                and box.top >= bounds.top
                and box.bottom <= bounds.bottom
            )
            if inside:
                leader = box.nearest(x, y)
                found.append(LabelSpot(box, leader, math.dist((x, y), leader)))
    if not found:  # a label wider than the plot: centred over its point
        box = Box(x - width / 2, y - height - 10, x + width / 2, y - 10)
        found.append(LabelSpot(box, box.nearest(x, y), 10.0))
    return found


def _eased(value: float) -> float:
    return max(-1.0, min(1.0, 1.6 * value))


def _crosses(x0: float, y0: float, x1: float, y1: float, box: Box) -> bool:
    """Whether the segment passes through the box (sampled: leaders are short)."""
    return any(
        box.left < x0 + (x1 - x0) * t < box.right and box.top < y0 + (y1 - y0) * t < box.bottom
        for t in (i / 12 for i in range(1, 13))
    )
