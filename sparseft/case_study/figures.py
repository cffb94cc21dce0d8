"""The drawings of a case study: where units lie, and what ablating them does."""

from __future__ import annotations

import math

import numpy as np

from sparseft.case_study.placement import Placement
from sparseft.case_study.study import CaseStudy
from sparseft.case_study.wording import points_or_missing
from sparseft.reporting.formats import count_text, points
from sparseft.reporting.svg import (
    Figure,
    element,
    escaped,
    line,
    slug,
    text,
    text_width,
    ticks,
)

__all__ = ["CASE_FIGURE_STYLE", "case_figures"]

CASE_FIGURE_STYLE = """
.figure .rise{fill:var(--f-adapter)}
.figure .own{fill:none;stroke:var(--ink);stroke-width:1.6}
.figure .range{stroke:var(--soft);stroke-width:9;stroke-linecap:round;opacity:.32}
.figure .middle{stroke:var(--soft);stroke-width:2.4;stroke-linecap:round}
"""

_LONGEST = 24  # characters of a class's name in a drawing


def case_figures(study: CaseStudy, label: str) -> list[Figure]:
    """The map of units, and where classes were ablated the intervals and the matrix."""
    drawn = [_placement(study.placement, label)]
    if study.effects:
        drawn += [_intervals(study, label), _matrix(study, label)]
    return drawn


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _placement(placement: Placement, label: str) -> Figure:
    layers, kinds = placement.layers, placement.kinds
    left, top, width, height = 92.0, 40.0, 236.0, 46.0
    share, ratio = placement.share, placement.ratio
    most = float(np.nanmax(share)) or 1.0
    parts = []
    for column, kind in enumerate(kinds):
        x = left + width * (column + 0.5)
        parts.append(text(x, top - 14, kind, "strong", "middle", 13))
    for row, layer in enumerate(layers):
        # The last layer on top: signals rise, and so does the page.
        y = top + height * (len(layers) - 1 - row)
        name = "embeddings" if layer < 0 else f"layer {layer}"
        parts.append(text(left - 10, y + height / 2 + 4, name, "soft", "end", 12))
        for column in range(len(kinds)):
            x = left + width * column
            parts.append(_placed(placement, row, column, x, y, width, height, most))
    total = int(placement.selected.sum())
    best = np.unravel_index(int(np.nanargmax(np.where(np.isnan(ratio), -1, ratio))), ratio.shape)
    return Figure(
        name=f"{slug(label)}-units",
        title=f"{label}: where the selected units lie",
        alt=(
            f"Selected units by layer and kind: {count_text(total, 'unit')} in all. Most above a "
            f"random selection: {kinds[best[1]]} units of layer {layers[best[0]]}, "
            f"{ratio[best]:.1f} times the expected count."
        ),
        caption=(
            "Selected units of all units by layer and kind, the share, and the ratio to a random "
            "selection of as many weights with its expected range. Stronger colour: a larger share."
        ),
        body="".join(parts),
        width=left + width * len(kinds) + 10,
        height=top + height * len(layers) + 10,
        is_map=True,
    )


def _placed(
    placement: Placement,
    row: int,
    column: int,
    x: float,
    y: float,
    width: float,
    height: float,
    most: float,
) -> str:
    cell = row, column
    units, selected = int(placement.units[cell]), int(placement.selected[cell])
    box: dict[str, str | float | None] = {
        "x": x + 1.5,
        "y": y + 1.5,
        "width": width - 3,
        "height": height - 3,
        "rx": 4,
    }
    middle = x + width / 2
    if not units:
        return element("rect", {**box, "class": "frame"})
    if placement.expected[cell] == 0:
        tip = "<title>below the layers that could be chosen</title>"
        dot = text(middle, y + height / 2 + 4, "·", "soft", "middle")
        return element("g", {}, tip + element("rect", {**box, "class": "empty"}) + dot)
    strength = math.sqrt(selected / units / most)
    shown = element("rect", {**box, "class": "empty"})
    if selected:
        shown += element("rect", {**box, "class": "cell", "fill-opacity": 0.06 + 0.8 * strength})
    ink = _ink(0.86 * strength)
    low, high = int(placement.low[cell]), int(placement.high[cell])
    sign = "▲ " if selected > high else "▼ " if selected < low else ""
    first = f"{selected:,} of {units:,} · {100 * selected / units:.1f}%"
    chance = f"{low:,}" if low == high else f"{low:,}–{high:,}"
    ratio = float(placement.ratio[cell])
    times = f"{ratio:.1f}" if ratio >= 0.05 or not selected else "<0.1"
    second = f"{sign}{times}× random ({chance})"
    lines = text(middle, y + height / 2 - 3, first, f"{ink} strong", "middle", 12.5)
    lines += text(middle, y + height / 2 + 14, second, ink, "middle", 11.5)
    return element("g", {}, shown + lines)


def _ink(strength: float) -> str:
    """The class of text that is readable on a cell of that opacity."""
    return "on" if strength > 0.8 else "mid" if strength > 0.6 else ""


def _intervals(study: CaseStudy, label: str) -> Figure:
    names = [
        f"{_short(study.label_names[effect.label])} ({effect.rows:,})" for effect in study.effects
    ]
    left = 24 + max(text_width(name, 12.5) for name in names)
    right, top, row, width = 30.0, 16.0, 34.0, 860.0
    base = top + row * len(names)
    values = [0.0]
    for effect in study.effects:
        values += [100 * v for v in (effect.own, effect.others, *effect.random_own.tolist())]
    marks = ticks(min(v for v in values if not math.isnan(v)), max(np.nanmax(values), 1.0), 7)

    def place(value: float) -> float:
        return left + (100 * value - marks[0]) / (marks[-1] - marks[0]) * (width - left - right)

    parts = []
    for tick in marks:
        x = place(tick / 100)
        parts.append(line(x, top, x, base, "axis" if tick == 0 else "grid"))
        parts.append(text(x, base + 20, _signed(tick), "soft", "middle", 12))
    for number, (effect, name) in enumerate(zip(study.effects, names, strict=True)):
        y = top + row * (number + 0.5)
        parts.append(text(left - 12, y + 4, name, "", "end"))
        random = effect.random_own
        tip = (
            f"{study.label_names[effect.label]}: own units {points(effect.own)}, other classes "
            f"{points_or_missing(effect.others)}, random units {points(float(random.mean()))}"
        )
        drawn = line(place(random.min()), y, place(random.max()), y, "range")
        middle = place(float(random.mean()))
        drawn += line(middle, y - 8, middle, y + 8, "middle")
        if not math.isnan(effect.others):
            drawn += _circle(place(effect.others), y, 5.5, "hollow")
        drawn += _circle(place(effect.own), y, 6.5, "mark")
        parts.append(element("g", {"class": "sparse"}, f"<title>{escaped(tip)}</title>{drawn}"))
    axis = "Change of recall, points"
    parts.append(text((left + width - right) / 2, base + 42, axis, "strong", "middle", 13))
    parts.append(_legend(base + 70))
    beyond = sum(effect.beyond_chance for effect in study.effects)
    worst = min(study.effects, key=lambda effect: effect.own)
    return Figure(
        name=f"{slug(label)}-ablation",
        title=f"{label}: ablated units of a class against random ones",
        alt=(
            f"Change of recall when each class's most sensitive units are ablated: below every "
            f"random draw in {beyond} of {len(names)} classes; the largest loss is "
            f"{points(worst.own)} points for {study.label_names[worst.label]}."
        ),
        caption=(
            "Change of recall when the units that a class is most sensitive to get the base "
            "model's values back, and when as many random selected units do (from the lowest to "
            "the highest draw, with the mean). In brackets: scored test rows of the class."
        ),
        body="".join(parts),
        width=width,
        height=base + 84,
    )


def _signed(tick: float) -> str:
    sign = "" if tick == 0 else "+" if tick > 0 else "−"
    return f"{sign}{abs(tick):g}"


def _circle(x: float, y: float, radius: float, kind: str) -> str:
    return element("circle", {"cx": x, "cy": y, "r": radius, "class": kind})


def _legend(y: float) -> str:
    entries = (
        ("the class itself", lambda x: _circle(x + 8, y, 6.5, "mark")),
        ("the other classes", lambda x: _circle(x + 8, y, 5.5, "hollow")),
        (
            "the class, random units",
            lambda x: line(x, y, x + 22, y, "range") + line(x + 11, y - 8, x + 11, y + 8, "middle"),
        ),
    )
    parts, x = [], 24.0
    for name, draw in entries:
        parts.append(element("g", {"class": "sparse"}, draw(x)))
        parts.append(text(x + 30, y + 4, name, "soft"))
        x += 52 + text_width(name)
    return "".join(parts)


def _matrix(study: CaseStudy, label: str) -> Figure:
    rows = [effect.label for effect in study.effects]
    columns = list(study.shown)
    row_names = [_short(study.label_names[c]) for c in rows]
    column_names = [_short(study.label_names[c]) for c in columns]
    width, height, gap = 66.0, 32.0, 16.0
    left = 24 + max(text_width(name) for name in [*row_names, "units of"])
    steep = max(text_width(name, 12) for name in column_names) > width - 6
    longest = max(text_width(name, 12) for name in [*column_names, "others"])
    top = 44 + (0.64 * longest if steep else 12)
    values = np.array([[*effect.change[columns], effect.others] for effect in study.effects])
    most = float(np.nanmax(np.abs(values))) or 1.0
    xs = [left + width * i for i in range(len(columns))] + [left + width * len(columns) + gap]
    parts = [text(left, 18, "change of the recall of", "soft", "start", 12)]
    parts.append(text(left - 12, top - 8, "units of", "soft", "end", 12))
    for x, name in zip(xs, [*column_names, "others"], strict=True):
        if steep:
            parts.append(text(x + width / 2, top - 10, name, "", "start", 12, -38))
        else:
            parts.append(text(x + width / 2, top - 10, name, "", "middle", 12))
    for number, (effect, name) in enumerate(zip(study.effects, row_names, strict=True)):
        y = top + height * number
        parts.append(text(left - 12, y + height / 2 + 4, name, "", "end"))
        for place, x in enumerate(xs):
            value = float(values[number, place])
            own = place < len(columns) and columns[place] == effect.label
            parts.append(_changed(value, most, own, x, y, width, height))
    own_values = [effect.own for effect in study.effects]
    spill = [effect.others for effect in study.effects]
    overhang = 0.79 * longest if steep else 0.0
    return Figure(
        name=f"{slug(label)}-matrix",
        title=f"{label}: what each class's units do to every class",
        alt=(
            f"Change of each class's recall when the units of one class are ablated: the class "
            f"itself {points(float(np.mean(own_values)))} points on average, the others together "
            f"{points_or_missing(float(np.mean(spill)))}."
        ),
        caption=(
            "Change of recall in points: the row's units are ablated, the column's class is "
            "scored. Framed: the class itself. “others”: all rows of all other classes together."
        ),
        body="".join(parts),
        width=xs[-1] + width + max(14.0, overhang - width / 2),
        height=top + height * len(rows) + 12,
    )


def _changed(
    value: float, most: float, own: bool, x: float, y: float, width: float, height: float
) -> str:
    box: dict[str, str | float | None] = {
        "x": x + 1.5,
        "y": y + 1.5,
        "width": width - 3,
        "height": height - 3,
        "rx": 3,
    }
    shown = element("rect", {**box, "class": "empty"})
    ink = "soft"
    if not math.isnan(value) and value != 0:
        opacity = 0.08 + 0.9 * math.sqrt(abs(value) / most)
        kind = "cell" if value < 0 else "rise"
        shown += element("rect", {**box, "class": kind, "fill-opacity": opacity})
        ink = _ink(opacity)
    if own:
        shown += element("rect", {**box, "class": "own"})
    written = points_or_missing(value)
    return shown + text(x + width / 2, y + height / 2 + 4, written, ink, "middle", 12)
