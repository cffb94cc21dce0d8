"""Where in the network a selection lies: layers × modules."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparseft.reporting.formats import count_text, join_words
from sparseft.reporting.summary import MethodSummary, Study
from sparseft.reporting.svg import Figure, element, escaped, slug, text, text_width

__all__ = ["heat_map_figures"]


def heat_map_figures(study: Study) -> list[Figure]:
    """For each method with a selection: the trained share of each layer's modules.

    All maps of a study share one colour scale; the reference's comes first. Methods whose maps are
    equal, as those of a selection and its controls are, share one drawing.
    """
    maps = [(entry, found) for entry in study.methods if (found := entry.heat_map) is not None]
    maps.sort(key=lambda pair: not pair[0].is_reference)
    most = max((max(_known(found)) for _, found in maps if _known(found)), default=0.0)
    groups: list[tuple[list[MethodSummary], dict[str, Any]]] = []
    for entry, found in maps:
        for members, shared in groups:
            if _equal(shared, found):
                members.append(entry)
                break
        else:
            groups.append(([entry], found))
    return [_heat_map(study, members, found, most or 1.0) for members, found in groups]


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    shares = np.asarray(one["share"]), np.asarray(other["share"])
    return one["modules"] == other["modules"] and np.array_equal(*shares, equal_nan=True)


def _known(found: dict[str, Any]) -> list[float]:
    return [v for layer in found["share"] for v in layer if not math.isnan(v)]


def _heat_map(
    study: Study, members: list[MethodSummary], found: dict[str, Any], most: float
) -> Figure:
    names, seeds = join_words([entry.label for entry in members]), len(members[0].runs)
    modules, share = [str(m) for m in found["modules"]], found["share"]
    layers = len(share)
    heads = _headings(modules)
    widest = max(text_width(part, 11.5) for lines in heads for part in lines)
    cell_w, cell_h = max(62.0, widest + 8), 28.0 if layers <= 16 else 20.0
    left, top = 66.0, 16.0 + 14.0 * max(map(len, heads))
    bar_w = 84.0
    width = left + cell_w * len(modules) + 16 + bar_w + 46
    height = top + cell_h * layers + 34
    parts = []
    for column, lines in enumerate(heads):
        x = left + cell_w * (column + 0.5)
        for place, part in enumerate(reversed(lines)):
            parts.append(text(x, top - 10 - 14 * place, part, "", "middle", 11.5))
    bar_x = left + cell_w * len(modules) + 16
    parts.append(
        text(bar_x, top + cell_h * layers + 20, "mean of the layer", "soft", "start", 11.5)
    )
    means = [_mean(values) for values in share]
    for layer in range(layers):
        # The last layer on top: signals rise, and so does the page.
        y = top + cell_h * (layers - 1 - layer)
        parts.append(text(left - 10, y + cell_h / 2 + 4, f"layer {layer}", "soft", "end", 12))
        for column, value in enumerate(share[layer]):
            parts.append(
                _cell(
                    left + cell_w * column, y, cell_w, cell_h, value, most, modules[column], layer
                )
            )
        bar = means[layer] / most * bar_w
        parts.append(
            element(
                "rect",
                {
                    "x": bar_x,
                    "y": y + cell_h * 0.25,
                    "width": max(bar, 0.5),
                    "height": cell_h * 0.5,
                    "rx": 2,
                    "class": "cell",
                },
            )
        )
        parts.append(
            text(bar_x + bar + 6, y + cell_h / 2 + 4, _share(means[layer]), "soft", "start", 11.5)
        )
    busiest = max(range(layers), key=lambda layer: means[layer])
    return Figure(
        name=f"{slug(study.label)}-selection-{slug(members[0].label)}",
        title=f"{study.label}: where {members[0].label} trains",
        alt=(
            f"Share of each layer's and module's weights that {names} selected on "
            f"{study.label}: most in layer {busiest} of {layers} ({_share(means[busiest])}), "
            f"lowest selected layer {next((i for i, m in enumerate(means) if m > 0), 'none')}."
        ),
        caption=(
            f"{names}: percent of each weight matrix that is trained, by layer and module, "
            f"mean over {count_text(seeds, 'seed')}."
        ),
        body="".join(parts),
        width=width,
        height=height,
        is_map=True,
    )


def _cell(
    x: float,
    y: float,
    width: float,
    height: float,
    value: float,
    most: float,
    module: str,
    layer: int,
) -> str:
    box: dict[str, str | float | None] = {
        "x": x + 1,
        "y": y + 1,
        "width": width - 2,
        "height": height - 2,
        "rx": 3,
    }
    if math.isnan(value):
        return element("rect", {**box, "class": "frame"})
    # The square root keeps small shares apart from none.
    strength = math.sqrt(max(value, 0.0) / most)
    shown = element("rect", {**box, "class": "empty"})
    if value > 0:
        shown += element("rect", {**box, "class": "cell", "fill-opacity": 0.08 + 0.92 * strength})
    ink = "soft" if value == 0 else "on" if strength > 0.8 else "mid" if strength > 0.6 else ""
    label = text(
        x + width / 2, y + height / 2 + 4, _share(value) if value else "·", ink, "middle", 11.5
    )
    tip = f"<title>layer {layer}, {escaped(module)}: {_share(value)}</title>"
    return element("g", {}, tip + shown + label)


def _mean(values: list[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else 0.0


def _share(value: float) -> str:
    share = 100 * value
    return (
        f"{share:.0f}%"
        if share >= 10 or share == 0
        else f"{share:.1f}%"
        if share >= 0.05
        else "<0.1%"
    )


def _headings(modules: list[str]) -> list[list[str]]:
    """Module names as short lines, without what says nothing, as long as they stay distinct."""

    def lines(name: str) -> list[str]:
        parts = [part for part in name.split(".") if part not in ("self", "dense")]
        return [part.removeprefix("self_").replace("_", " ") for part in parts or [name]]

    short = [lines(module) for module in modules]
    distinct = len({tuple(found) for found in short}) == len(modules)
    return short if distinct else [module.split(".") for module in modules]
