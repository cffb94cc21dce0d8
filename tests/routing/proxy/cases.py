"""A router without a model, and a proxy with two scripted upstreams, for these tests."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from sparseft.routing import Query
from sparseft.routing.proxy import Limits, Upstream, proxy_app
from tests.routing.proxy import scripted

KEY = "sk-sentinel-9f8e7d6c5b4a"
VARIABLE = "SPARSEFT_TEST_KEY"


class Words:
    """Wants the large model where the text has the word "hard"; fails where it has "boom".

    Args:
        seconds: a batch takes.
        gate: an event that every batch after the first, the warm-up, waits for.
    """

    name = "words"
    needs_confidence = False

    def __init__(self, seconds: float = 0.0, gate: threading.Event | None = None) -> None:
        self.seconds = seconds
        self.gate = gate
        self.batches: list[list[str]] = []
        self.threads: set[str] = set()

    def scores(self, queries: Sequence[Query]) -> np.ndarray:
        self.batches.append([query.text for query in queries])
        self.threads.add(threading.current_thread().name)
        if self.gate is not None and len(self.batches) > 1:
            assert self.gate.wait(30)
        time.sleep(self.seconds)
        if any("boom" in query.text for query in queries):
            raise ValueError("cannot read it")
        return np.array([np.nan if "nan" in q.text else float("hard" in q.text) for q in queries])


@dataclass
class Pair:
    """A running proxy with its upstreams."""

    proxy: scripted.Served
    small: scripted.Upstream
    large: scripted.Upstream
    router: Any

    def ask(self, text: str = "an easy one", model: str = "auto", **fields: Any) -> httpx.Response:
        """One request."""
        return self.proxy.client.post("/v1/chat/completions", json=request(text, model, **fields))

    def count(self, name: str, **labels: str) -> float:
        """A metric."""
        inside = ",".join(f'{label}="{labels[label]}"' for label in sorted(labels))
        return self.proxy.metric(f"sparseft_{name}{{{inside}}}" if labels else f"sparseft_{name}")

    def fallbacks(self, left: str, reason: str) -> float:
        """How many requests left an upstream for a reason."""
        return self.count("fallbacks_total", left=left, reason=reason)


def request(text: str = "an easy one", model: str = "auto", **fields: Any) -> dict[str, Any]:
    """A request's body."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def text_of(response: httpx.Response) -> str:
    """Who answered, as scripted upstreams say their own name."""
    return str(response.json()["choices"][0]["message"]["content"])


@contextlib.contextmanager
def routed(
    small: scripted.Upstream | str = "ok",
    large: scripted.Upstream | str = "ok",
    *,
    router: Any = None,
    settings: dict[str, Any] | None = None,
    of_small: dict[str, Any] | None = None,
    **limits: Any,
) -> Iterator[Pair]:
    """A proxy between two upstreams; a text is the mode of all answers.

    Args:
        settings: of both upstreams.
        of_small: further settings of the small one.
    """
    router = router or Words()
    given = {"small": small, "large": large}
    apps = {
        side: scripted.Upstream(side, app) if isinstance(app, str) else app
        for side, app in given.items()
    }
    with scripted.serving(*apps.values()) as served:
        upstreams = {}
        for side, each in zip(apps, served, strict=True):
            own = {"base_url": f"http://127.0.0.1:{each.port}/v1", **(settings or {})}
            own.update((of_small or {}) if side == "small" else {})
            upstreams[side] = Upstream(name=f"{side}-one", model=f"{side}-model", **own)
        app = proxy_app(router, 0.5, **upstreams, limits=Limits(**limits))
        with scripted.serving(app) as (proxy,):
            yield Pair(proxy, apps["small"], apps["large"], router)
