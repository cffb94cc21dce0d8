"""What a request's answer says about how it was routed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sparseft.routing.proxy.forward import Choice
from sparseft.routing.proxy.upstream import Side

__all__ = ["Trace"]


@dataclass
class Trace:
    """One request, filled in as it goes on.

    Attributes:
        parsed: when its body was, in seconds of `time.perf_counter`.
        choice: who was wanted.
        overhead: seconds from then to the first upstream's call.
    """

    parsed: float = field(default_factory=time.perf_counter)
    choice: Choice | None = None
    overhead: float | None = None

    def headers(self, answered: Side | None) -> dict[str, str]:
        """As far as it is known; `answered` is None where nobody did."""
        if self.choice is None:
            return {}
        moved = answered != self.choice.side
        found = {
            "x-sparseft-route": answered or self.choice.side,
            "x-sparseft-fallback": str(int(moved)),
        }
        if self.choice.score is not None:
            found["x-sparseft-score"] = f"{self.choice.score:.6g}"
        if self.overhead is not None:
            found["x-sparseft-overhead-ms"] = f"{1000 * self.overhead:.3f}"
        return found
