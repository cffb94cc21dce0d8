"""The proxy's metrics: what is counted, and under which names."""

from __future__ import annotations

from collections.abc import Callable

from sparseft.compliance.serving.metrics import Metrics
from sparseft.routing.proxy.answers import REASONS
from sparseft.routing.proxy.breaker import Breaker
from sparseft.routing.proxy.forward import OPEN
from sparseft.routing.proxy.problems import KINDS
from sparseft.routing.proxy.relay import ENDS
from sparseft.routing.proxy.upstream import Side

__all__ = ["HOW", "declared", "watch_breaker"]

HOW = ("scored", "forced", "router_failed")
_SIDES = ("small", "large")


def declared(inside: Callable[[], float]) -> Metrics:
    """The metrics of one proxy, all counters at 0.

    Args:
        inside: reads how many requests are under way or wait.
    """
    metrics = Metrics()
    metrics.counter("sparseft_requests_total", "Answered requests.", [])
    kinds = [{"kind": kind} for kind in KINDS]
    metrics.counter("sparseft_errors_total", "Requests that ended with an error.", kinds)
    metrics.histogram("sparseft_request_seconds", "From a request's head to its answer's end.")
    routes = [{"route": side, "how": how} for side in _SIDES for how in HOW]
    metrics.counter("sparseft_routed_total", "Requests by who was wanted, and why.", routes)
    answers = [{"route": side, "fallback": flag} for side in _SIDES for flag in ("0", "1")]
    metrics.counter("sparseft_answered_total", "Requests by who answered.", answers)
    moved = [{"left": side, "reason": reason} for side in _SIDES for reason in (*REASONS, OPEN)]
    metrics.counter(
        "sparseft_fallbacks_total",
        "Moves from one upstream to the other, by why it was left.",
        moved,
    )
    tried = [{"route": side, "outcome": o} for side in _SIDES for o in ("ok", *REASONS)]
    metrics.counter("sparseft_attempts_total", "Calls of upstreams.", tried)
    streams = [{"route": side, "end": end} for side in _SIDES for end in ENDS]
    metrics.counter("sparseft_streams_total", "Streams by how they ended.", streams)
    metrics.histogram("sparseft_overhead_seconds", "From the parsed body to the upstream's call.")
    metrics.histogram("sparseft_queue_seconds", "Waiting for a turn, before the body is parsed.")
    metrics.histogram("sparseft_router_seconds", "Scoring of a batch.")
    metrics.counter("sparseft_router_queries_total", "Queries of all batches.")
    metrics.gauge("sparseft_inside", "Requests under way or waiting.", inside)
    return metrics


def watch_breaker(metrics: Metrics, side: Side, breaker: Breaker) -> None:
    """Add the gauge of an upstream's breaker."""
    metrics.gauge(
        f"sparseft_{side}_circuit_open",
        f"Whether the {side} upstream rests after failures in a row.",
        lambda: breaker.state != "closed",
    )
