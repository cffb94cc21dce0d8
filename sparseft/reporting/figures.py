"""The drawings of a study: score against cost, and the seeds."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from sparseft.reporting.formats import METRIC_NAMES, headline, join_words, percent, percent_spread
from sparseft.reporting.heat_map import heat_map_figures
from sparseft.reporting.marks import mark
from sparseft.reporting.summary import MethodSummary, Study
from sparseft.reporting.svg import (
    Box,
    Figure,
    element,
    escaped,
    line,
    number,
    place_labels,
    slug,
    text,
    text_width,
    ticks,
)
from sparseft.reporting.theme import FAMILIES, family_of

__all__ = ["cost_figure", "seeds_figure", "study_figures"]

_WIDTH = 860.0


def study_figures(study: Study) -> list[Figure]:
    """All drawings of one study that its runs have data for."""
    return [cost_figure(study), seeds_figure(study), *heat_map_figures(study)]


def cost_figure(study: Study) -> Figure:
    """Score against step time, with one standard deviation either way and each point named."""
    relative = all(entry.step_ratio is not None for entry in study.methods)
    metric = METRIC_NAMES[study.metric]
    height, left, right, top, bottom = 540.0, 62.0, 22.0, 16.0, 84.0

    def cost(entry: MethodSummary) -> tuple[float, float]:
        spread = entry.step_ratio if relative else entry.step_ms
        assert spread is not None
        return spread.mean, spread.sd or 0.0

    xs = [cost(entry)[0] for entry in study.methods]
    ends = [x + side * sd for x, sd in map(cost, study.methods) for side in (-1, 1)]
    x_axis = _axis(min(ends), max(*ends, 1.0 if relative else 0.0), 0.05, 8)
    lows = [entry.score.mean - (entry.score.sd or 0.0) for entry in study.methods]
    highs = [entry.score.mean + (entry.score.sd or 0.0) for entry in study.methods]
    y_axis = _axis(100 * min(lows), 100 * max(highs), 0.06, 8)

    def place_x(value: float) -> float:
        return left + x_axis.share(value) * (_WIDTH - left - right)

    def place_y(value: float) -> float:
        return height - bottom - y_axis.share(100 * value) * (height - bottom - top)

    parts: list[str] = []
    for tick in y_axis.ticks:
        y = place_y(tick / 100)
        parts.append(line(left, y, _WIDTH - right, y, "grid"))
        parts.append(text(left - 9, y + 4, f"{tick:g}", "soft", "end"))
    base = height - bottom
    for tick in x_axis.ticks:
        parts.append(line(place_x(tick), base, place_x(tick), base + 5, "axis"))
        parts.append(text(place_x(tick), base + 20, f"{tick:g}", "soft", "middle"))
    parts.append(line(left, base, _WIDTH - right, base, "axis"))
    if relative:
        parts.append(line(place_x(1.0), top, place_x(1.0), base, "grid"))
    x_name = (
        "Step time, relative to full finetuning" if relative else "Step time, milliseconds (median)"
    )
    parts.append(text((left + _WIDTH - right) / 2, base + 42, x_name, "strong", "middle", 13))
    parts.append(
        text(16, (top + base) / 2, f"{metric} on the test rows, %", "strong", "middle", 13, -90)
    )
    spots = [(place_x(x), place_y(e.score.mean)) for x, e in zip(xs, study.methods, strict=True)]
    front, bars = _front(spots)
    parts.append(front)
    for entry, (x, y) in zip(study.methods, spots, strict=True):
        kind = _family(entry)
        sd_x, sd_y = cost(entry)[1], entry.score.sd or 0.0
        half_x, half_y = place_x(sd_x) - place_x(0.0), place_y(0.0) - place_y(sd_y)
        parts.append(
            element(
                "g",
                {"class": kind},
                line(x - half_x, y, x + half_x, y, "bar")
                + line(x, y - half_y, x, y + half_y, "bar"),
            )
        )
        bars += [
            Box(x - half_x, y - 1, x + half_x, y + 1),
            Box(x - 1, y - half_y, x + 1, y + half_y),
        ]
    bounds = Box(left + 4, top, _WIDTH - 4, base - 4)
    labels = [entry.label for entry in study.methods]
    names: list[str] = []
    for entry, (x, y), spot in zip(
        study.methods, spots, place_labels(spots, labels, bounds, bars=bars), strict=True
    ):
        kind = _family(entry)
        drawn = mark(x, y, kind)
        detail = f"{entry.label}: {percent_spread(entry.score)}%, cost {cost(entry)[0]:.2f}"
        leader = ""
        if spot.is_far:
            leader = line(x, y, *spot.leader, "leader")
        weight = "strong" if entry.is_reference else ""
        at_left = spot.box.right < x
        label = text(
            spot.box.right if at_left else spot.box.left,
            spot.box.bottom - 3,
            entry.label,
            f"name halo {weight}",
            "end" if at_left else "start",
        )
        parts.append(element("g", {"class": kind}, leader))
        names.append(
            element("g", {"class": kind}, f"<title>{escaped(detail)}</title>{drawn}{label}")
        )
    parts += names
    parts.append(_legend(study, left, height - 14))
    best = study.methods[0]
    told = [headline(best)] + [
        headline(e) for e in (study.reference, study.full) if e is not None and e is not best
    ]
    return Figure(
        name=f"{slug(study.label)}-cost",
        title=f"{study.label}: {metric.lower()} against step time",
        alt=(
            f"{metric} against step time of {len(labels)} methods on {study.label}: "
            f"{'; '.join(told)}."
        ),
        caption=(
            f"{metric} on the test rows against the median time of one training step. Bars: one "
            "standard deviation over seeds. The dotted line joins the methods that no other beats "
            "on both axes; up and to the left is better."
        ),
        body="".join(parts),
        width=_WIDTH,
        height=height,
    )


def seeds_figure(study: Study) -> Figure:
    """One row per method: every seed, the mean, and one standard deviation either way."""
    metric = METRIC_NAMES[study.metric]
    row, top = 27.0, 34.0
    left = 26 + max(text_width(entry.label, 13) for entry in study.methods)
    left, right = min(left, 320.0), 108.0
    values = [list(entry.scores(study.metric).values()) for entry in study.methods]
    flat = [v for found in values for v in found]
    flat += [e.score.mean + s * (e.score.sd or 0.0) for e in study.methods for s in (-1, 1)]
    axis = _axis(100 * min(flat), 100 * max(flat), 0.03, 8)
    height = top + row * len(values) + 16

    def place(value: float) -> float:
        return left + axis.share(100 * value) * (_WIDTH - left - right)

    bottom = top + row * len(values)
    parts = [
        element(
            "rect", {"x": 0, "y": top + row * i, "width": _WIDTH, "height": row, "class": "zebra"}
        )
        for i in range(0, len(values), 2)
    ]
    for tick in axis.ticks:
        x = place(tick / 100)
        parts.append(line(x, top, x, bottom, "grid"))
        parts.append(text(x, top - 10, f"{tick:g}", "soft", "middle"))
    parts.append(text(_WIDTH - 10, top - 10, "mean ± sd", "soft", "end"))
    if study.reference is not None:
        x = place(study.reference.score.mean)
        parts.append(line(x, top, x, bottom, "rule"))
    for index, entry in enumerate(study.methods):
        y = top + row * (index + 0.5)
        drawn = ""
        mean, sd = entry.score.mean, entry.score.sd
        if sd is not None:
            drawn += element(
                "rect",
                {
                    "x": place(mean - sd),
                    "y": y - 8,
                    "width": max(place(mean + sd) - place(mean - sd), 1.0),
                    "height": 16,
                    "rx": 3,
                    "class": "band",
                },
            )
        for seed, value in entry.scores(study.metric).items():
            drawn += element(
                "circle",
                {"cx": place(value), "cy": y, "r": 4.4, "class": "dot"},
                f"<title>seed {seed}: {percent(value)}%</title>",
            )
        drawn += line(place(mean), y - 9, place(mean), y + 9, "mean")
        weight = "strong" if entry.is_reference else ""
        drawn += text(
            left - 12, y + 4.5, _cut(entry.label, left - 18, 13), f"name {weight}", "end", 13
        )
        drawn += text(_WIDTH - 10, y + 4.5, percent_spread(entry.score), weight, "end", 13)
        parts.append(element("g", {"class": _family(entry)}, drawn))
    told = join_words([f"{e.label} {percent_spread(e.score)}%" for e in study.methods])
    return Figure(
        name=f"{slug(study.label)}-seeds",
        title=f"{study.label}: {metric.lower()} of every seed",
        alt=f"{metric} of every seed on {study.label}, mean and standard deviation: {told}.",
        caption=(
            f"{metric} of every seed, in percent: a dot is one run, the bar the mean, the band one "
            "standard deviation. The dashed line marks the reference method's mean."
        ),
        body="".join(parts),
        width=_WIDTH,
        height=height,
    )


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    ticks: list[float]

    def share(self, value: float) -> float:
        """Where `value` lies: 0 at the start, 1 at the end."""
        return (value - self.low) / (self.high - self.low)


def _axis(low: float, high: float, margin: float, about: int) -> _Axis:
    """A little more than the data's range, with the round numbers inside it."""
    room = (
        max(margin * (high - low), 0.05 * abs(high), 1e-6) if high == low else margin * (high - low)
    )
    low, high = low - room, high + room
    return _Axis(low, high, [tick for tick in ticks(low, high, about) if low <= tick <= high])


def _family(entry: MethodSummary) -> str:
    return family_of(entry.method, entry.is_reference)


def _cut(label: str, width: float, size: float) -> str:
    room = int(width / text_width("x", size))
    return label if len(label) <= room else label[: room - 1] + "…"


def _legend(study: Study, left: float, y: float) -> str:
    present = [name for name in FAMILIES if any(_family(e) == name for e in study.methods)]
    parts, x = [], left + 6
    for name in present:
        title = FAMILIES[name][2]
        parts.append(
            element(
                "g",
                {"class": name},
                mark(x, y - 4, name, 0.85) + text(x + 11, y, title, "soft", "start", 12),
            )
        )
        x += 11 + text_width(title, 12) * 0.92 + 26
    return "".join(parts)


def _front(points: list[tuple[float, float]]) -> tuple[str, list[Box]]:
    """The step line over points that no other beats on both axes (y grows downward), its boxes."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not kept or y < kept[-1][1]:
            kept.append((x, y))
    if len(kept) < 2:
        return "", []
    drawn, boxes = f"M{number(kept[0][0])} {number(kept[0][1])}", []
    for (x0, y0), (x, y) in itertools.pairwise(kept):
        drawn += f"H{number(x)}V{number(y)}"
        boxes += [Box(x0, y0 - 1, x, y0 + 1), Box(x - 1, y, x + 1, y0)]
    return element("path", {"d": drawn, "class": "front"}), boxes
