"""What a routing run writes: figures of both halves together, turns, curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sparseft.config import RoutingConfig
from sparseft.routing.comparison import Half
from sparseft.routing.judging import Judged
from sparseft.routing.rollout import Step
from sparseft.routing.scores import Measured, RouterFigures, ends_of

__all__ = ["content", "curve_points", "main_metrics", "side_by_side", "turn_record"]


def side_by_side(halves_of: Sequence[Sequence[Judged]]) -> Measured:
    """Both halves side by side, rates in rows."""

    def column(pick: Callable[[Judged], np.ndarray]) -> np.ndarray:
        rows = zip(*halves_of, strict=True)
        return np.stack([np.concatenate([pick(each) for each in row]) for row in rows])

    return Measured(
        column(lambda judged: judged.state),
        column(lambda judged: judged.large),
        column(lambda judged: judged.cost),
    )


def turn_record(
    step: Step, judged: Judged, place: int, router: str, threshold: float
) -> dict[str, Any]:
    """A line of turns.jsonl: where the turn at `place` went, why, and what came of it."""
    context = step.context
    return {
        "dialogue_id": context.dialogue,
        "turn_id": context.number,
        "system": context.system,
        "user": context.user,
        "router": router,
        "score": step.score if np.isfinite(step.score) else None,
        "threshold": threshold if np.isfinite(threshold) else None,
        "model": "large" if step.large else "small",
        "delta": dict(step.prediction.delta),
        "right_turn": bool(judged.turn[place]),
        "right_state": bool(judged.state[place]),
    }


def main_metrics(
    figures: RouterFigures, ends: Mapping[str, Measured], latency: tuple[float, float]
) -> dict[str, float]:
    """The metrics of result.json; what is not defined is left out.

    Args:
        figures: of the router that leads.
        latency: milliseconds of a decision of the saved one, median and 95th percentile.
    """
    known = ends_of(ends)
    values = {
        "jga": figures.quality,
        "jga_small_alone": known.small.quality,
        "jga_large_alone": known.large.quality,
        "jga_oracle": known.oracle,
        "share_large": figures.share,
        "cost_of_large_alone": figures.cost,
        "aiq": figures.aiq,
        "apgr": figures.apgr,
        "cpt50": figures.cpt50,
        "cpt80": figures.cpt80,
        "gap_closed": figures.gap_closed,
        "decision_ms_p50": latency[0],
        "decision_ms_p95": latency[1],
    }
    return {
        name: float(value)
        for name, value in values.items()
        if value is not None and np.isfinite(value)
    }


def content(
    names: tuple[str, str],
    unit: str,
    figures: Sequence[RouterFigures],
    ends: Mapping[str, Measured],
    latency: Mapping[str, tuple[float, float]],
    settings: RoutingConfig,
    router: Mapping[str, Any],
    parts: Sequence[Half],
    unanswered: Mapping[str, int],
) -> dict[str, Any]:
    """Curves and figures as plain data; what is not defined is null.

    Args:
        names: of the small and the large expert.
        unit: of costs.
        latency: milliseconds of a decision by router, median and 95th percentile.
        router: what is said of the saved one.
        unanswered: turns that the small and the large expert leave without an answer alone.
    """
    known = ends_of(ends)
    return {
        "small": names[0],
        "large": names[1],
        "unit": unit,
        "rates": list(settings.rates),
        "budget": settings.budget,
        "metric": "joint goal accuracy, values "
        + ("normalised" if settings.normalise else "as written"),
        "ends": {
            "small": asdict(known.small),
            "large": asdict(known.large),
            "oracle": known.oracle,
        },
        "routers": {each.router: _plain(asdict(each)) for each in figures},
        "latency_ms": {name: list(each) for name, each in latency.items()},
        "pools": [dict(half.pool.provenance) for half in parts],
        "saved": dict(router),
        "unanswered": dict(unanswered),
    }


def curve_points(
    figures: Sequence[RouterFigures], rates: Sequence[float]
) -> list[dict[str, float]]:
    """For each wanted share of large calls what every router came to, as a tracker shows it."""
    return [
        {
            "curve/wanted_share": rate,
            **{
                f"curve/{each.router.replace(' ', '_')}/{name}": getattr(each.points[place], name)
                for each in figures
                for name in ("share", "cost", "quality")
            },
        }
        for place, rate in enumerate(rates)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
