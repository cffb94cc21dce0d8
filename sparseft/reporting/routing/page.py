"""One page of a routing run, with everything inside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparseft import files
from sparseft.reporting.compliance.text import safe
from sparseft.reporting.formats import MISSING, percent, points
from sparseft.reporting.routing.curves import curve_figures
from sparseft.reporting.style import PAGE_STYLE
from sparseft.reporting.svg import Figure
from sparseft.reporting.theme import FIGURE_STYLE, palette_css
from sparseft.routing.scores import Ends, RouterFigures, ends_of

if TYPE_CHECKING:
    # For its type alone: a page needs no model.
    from sparseft.training.routing import RoutedRun

__all__ = ["routing_page", "write_routing_page"]

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
_SHOWN = 24  # turns
_LONG = (0, 3)  # columns of turns that are running text
_PROSE = ' style="white-space:normal;text-align:left;min-width:17em"'


def write_routing_page(run: RoutedRun) -> list[Path]:
    """Write routing.html and the drawings as SVG files into the run's folder; the page first.

    Raises:
        SparseftError: the folder cannot be written.
    """
    ends = ends_of(run.ends)
    figures = curve_figures(run.figures, ends)
    style = palette_css() + FIGURE_STYLE
    drawings = [
        files.write_text(run.folder / f"{figure.name}.svg", figure.standalone(style))
        for figure in figures
    ]
    page = files.write_text(run.folder / "routing.html", routing_page(run, ends, figures))
    return [page, *drawings]


def routing_page(run: RoutedRun, ends: Ends, figures: Sequence[Figure]) -> str:
    """The whole page. All texts are escaped: names and dialogues can hold anything."""
    style = palette_css() + PAGE_STYLE + FIGURE_STYLE
    heading = f"{safe(run.names[0])} and {safe(run.names[1])}"
    body = "".join(
        [
            _header(run, heading),
            _summary(run, ends),
            '<section id="curves"><h2>Curves</h2>',
            *(_figure(figure) for figure in figures),
            "</section>",
            _turns(run.turns),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{heading} · routing report</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _header(run: RoutedRun, heading: str) -> str:
    links = (("routers", "Routers"), ("curves", "Curves"), ("turns", "Turns"))
    nav = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in links)
    config = run.config
    scope = f"{config.data.name}, {len(run.turns)} turns, retriever {config.model.name}"
    if config.model.layers is not None:
        scope += f" ({config.model.layers} of its layers)"
    return (
        '<header><div class="wrap"><p class="over">Routing report</p>'
        f'<h1>{heading}</h1><p class="scope">{safe(scope)}, seed {config.seed}</p>'
        f'<nav aria-label="Sections">{nav}</nav></div></header>\n<main class="wrap">\n'
    )


def _summary(run: RoutedRun, ends: Ends) -> str:
    lead = run.figures[0]
    oracle = "" if ends.oracle is None else f"; an oracle would reach {percent(ends.oracle)}%"
    low, high = lead.above_interval
    finding = (
        f"With {percent(lead.share)}% of the turns to {safe(run.names[1])}, the router that the "
        f"pool chooses reaches a joint goal accuracy of {percent(lead.quality)}% at "
        f"{percent(lead.cost)}% of the large model's cost: {_points(lead.above_large)} points "
        f"against the large model alone ({_points(low)} to {_points(high)}). Alone, the small "
        f"model reaches {percent(ends.small.quality)}% and the large one "
        f"{percent(ends.large.quality)}%{oracle}."
    )
    heads = (
        "router", "AIQ", "APGR", "CPT50", "CPT80", "large calls", "accuracy", "− large alone",
        "cost", "gap closed", "p50, p95 (ms)",
    )  # fmt: skip
    rows = "".join(_row(each, run.latency) for each in run.figures)
    head = "".join(f"<th>{safe(name)}</th>" for name in heads)
    return (
        f'<section id="routers"><h2>Routers</h2><p class="finding">{finding}</p>'
        f'<p class="hint">{_how_to_read(run)}</p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Routers"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div></section>\n"
    )


def _how_to_read(run: RoutedRun) -> str:
    counted = "operations" if run.unit == "flops" else "money"
    spelling = "in one spelling" if run.settings.normalise else "as written"
    sentences = (
        "AIQ: mean height of the best curve over cost between the two models (RouterBench).",
        "APGR and CPT: of the gap between them, over the share of large calls (RouteLLM).",
        "A dash: not defined, as where the large model is not dearer (AIQ) or not better.",
        "The columns from large calls on are at the threshold for a share of "
        f"{percent(run.settings.budget)}%, found on the pool's own dialogues.",
        "Intervals are 95%, bootstrap by dialogue.",
        f"Cost is that of the large model alone, in {counted}.",
        "Gap closed: of the way from the better model alone to the oracle.",
        "p50, p95: of one decision, without the small model's answer where a router looks at it.",
        f"Values are compared {spelling}.",
    )
    return " ".join(sentences)


def _row(each: RouterFigures, latency: Mapping[str, tuple[float, float]]) -> str:
    low, high = each.aiq_interval
    below, top = each.above_interval
    times = latency.get(each.router)
    cells = (
        MISSING if math.isnan(each.aiq) else f"{percent(each.aiq)} ({_range(low, high)})",
        _number(each.apgr),
        _number(each.cpt50),
        _number(each.cpt80),
        f"{percent(each.share)}%",
        f"{percent(each.quality)}%",
        f"{_points(each.above_large)} ({_points(below)} to {_points(top)})",
        f"{each.cost:.2f}",
        _number(each.gap_closed),
        "–" if times is None else f"{times[0]:.1f}, {times[1]:.1f}",
    )
    name = f'<th scope="row">{safe(each.router.replace("_", " "))}</th>'
    return f"<tr>{name}{''.join(f'<td>{safe(cell)}</td>' for cell in cells)}</tr>"


def _figure(figure: Figure) -> str:
    return (
        f'<figure class="small"><div class="plot">{figure.inline()}</div>'
        f"<figcaption>{safe(figure.caption)}</figcaption></figure>"
    )


def _turns(turns: Sequence[Mapping[str, Any]]) -> str:
    """Wrong ones first, then as they come."""
    shown = sorted(turns, key=lambda turn: bool(turn["right_turn"]))[: _SHOWN // 2]
    shown += [turn for turn in turns if turn["right_turn"]][: _SHOWN - len(shown)]
    rows = []
    for turn in shown:
        said = f"{turn['system']} — {turn['user']}" if turn["system"] else turn["user"]
        delta = ", ".join(f"{slot} {value}" for slot, value in turn["delta"].items()) or "nothing"
        score = "–" if turn["score"] is None else f"{turn['score']:.3f}"
        cells = (said, turn["model"], score, delta, "right" if turn["right_turn"] else "wrong")
        name = f'<th scope="row">{safe(turn["dialogue_id"])}/{turn["turn_id"]}</th>'
        tds = "".join(
            f"<td{_PROSE if place in _LONG else ''}>{safe(str(cell))}</td>"
            for place, cell in enumerate(cells)
        )
        rows.append(f"<tr>{name}{tds}</tr>")
    names = ("said", "model", "score", "change", "the turn is")
    head = "<th>turn</th>" + "".join(
        f"<th{_PROSE if place in _LONG else ''}>{name}</th>" for place, name in enumerate(names)
    )
    return (
        f'<section id="turns"><h2>Turns</h2><p class="hint">{len(shown)} of {len(turns)}; '
        "turns.jsonl has all.</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Turns"><table><thead><tr>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>\n"
    )


def _range(low: float, high: float) -> str:
    return MISSING if math.isnan(low) else f"{percent(low)}–{percent(high)}"


def _points(value: float) -> str:
    return MISSING if math.isnan(value) else points(value)


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.2f}".replace("-", "−")
