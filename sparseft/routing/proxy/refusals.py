"""What a client is told where there is no room, or nobody answered."""

from __future__ import annotations

from collections.abc import Mapping

from sparseft.routing.proxy.answers import REASONS
from sparseft.routing.proxy.forward import NoAnswer
from sparseft.routing.proxy.gate import Full
from sparseft.routing.proxy.problems import ProxyProblem
from sparseft.routing.proxy.upstream import Side

__all__ = ["no_answer", "no_room"]


def no_room(full: Full, inside: int, *, close: bool = False) -> ProxyProblem:
    """A 503.

    Args:
        inside: requests that there are.
        close: whether the connection ends, since the request's body was not read.
    """
    headers = {"Retry-After": str(full.seconds), **({"Connection": "close"} if close else {})}
    return ProxyProblem(
        "overloaded",
        f"expected room for another request, got {inside} under way or waiting; try again later.",
        headers=headers,
    )


def no_answer(
    error: NoAnswer, names: Mapping[Side, str], headers: Mapping[str, str]
) -> ProxyProblem:
    """A 504 where every upstream took too long, else a 502; nothing that an upstream said.

    Args:
        names: of the upstreams, by side.
        headers: of the answer; Retry-After is added where an upstream gave one.
    """
    late = all(failure.reason == "timeout" for _, failure in error.failures)
    said = "; ".join(
        f"{names[side]}: {REASONS[failure.reason]}" for side, failure in error.failures
    )
    waits = [failure.retry_after for _, failure in error.failures if failure.retry_after]
    return ProxyProblem(
        "upstreams_timed_out" if late else "upstreams_failed",
        f"expected an answer of an upstream, got none ({said}); try again later.",
        headers={**headers, **({"Retry-After": str(int(min(waits)) + 1)} if waits else {})},
    )
