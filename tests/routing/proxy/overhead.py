"""How long the proxy takes before an upstream is called: the figures, by command.

    python -m tests.routing.proxy.overhead --router words
    python -m tests.routing.proxy.overhead --router minilm --exemplars 2000

Upstreams, proxy and client are processes of their own; the proxy's own header is read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import numpy as np
import uvicorn

from tests.routing.proxy.cases import Words, request
from tests.routing.proxy.scripted import Upstream as Scripted

_WORDS = (
    "i need a cheap hotel in the north with free parking for two people and three nights from "
    "monday also train to cambridge leaving after nine restaurant serving italian food booked"
)


@dataclass(frozen=True)
class Overhead:
    """Milliseconds from the parsed body to the upstream's call, over all requests.

    Attributes:
        requests: answered.
        lost: not answered with 200.
        p50, p95, p99: quantiles.
        per_second: requests.
    """

    requests: int
    lost: int
    p50: float
    p95: float
    p99: float
    per_second: float


def measure(url: str, texts: Sequence[str], concurrency: int) -> Overhead:
    """Send one request a text, so many at the same time, and read what the answers say."""
    return asyncio.run(_measured(url, texts, concurrency))


async def _measured(url: str, texts: Sequence[str], concurrency: int) -> Overhead:
    turns, found, lost = asyncio.Semaphore(concurrency), [], 0
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as client:

        async def ask(text: str) -> httpx.Response:
            async with turns:
                return await client.post(f"{url}/v1/chat/completions", json=request(text))

        began = time.perf_counter()
        answers = await asyncio.gather(*map(ask, texts))
        seconds = time.perf_counter() - began
    for answer in answers:
        if answer.status_code == 200:
            found.append(float(answer.headers["x-sparseft-overhead-ms"]))
        else:
            lost += 1
    p50, p95, p99 = (round(float(v), 2) for v in np.percentile(found, [50, 95, 99]))
    return Overhead(len(found), lost, p50, p95, p99, round(len(texts) / seconds, 1))


def minilm_router(exemplars: int) -> Any:
    """Weighted neighbours among made-up exemplars, embedded by the pretrained MiniLM."""
    import torch

    from sparseft.config import ModelConfig
    from sparseft.routing.pools import Exemplar, Pool
    from sparseft.routing.retriever import load_encoder
    from sparseft.routing.routers.neighbours import WeightedVote
    from sparseft.routing.texts import query_of
    from sparseft.routing.turns import Context

    torch.set_num_threads(1)
    texts = sentences(exemplars, seed=1)
    queries = [query_of(Context(f"d{n}", 0, "", text, {})) for n, text in enumerate(texts)]
    pool = Pool(tuple(Exemplar(query, n % 2 == 0) for n, query in enumerate(queries)))
    return WeightedVote(pool, load_encoder(ModelConfig()))


def sentences(count: int, seed: int) -> list[str]:
    """Made-up requests of about 15 words."""
    rng = np.random.default_rng(seed)
    words = _WORDS.split()
    return [f"{' '.join(rng.choice(words, 15))} {n}" for n in range(count)]


def serve(app: Any, bound: socket.socket) -> None:
    """Serve until the process is ended."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on")
    uvicorn.Server(config).run(sockets=[bound])


def _upstream(name: str, bound: socket.socket) -> None:
    serve(Scripted(name), bound)


def _proxy(router: str, exemplars: int, ports: Sequence[int], bound: socket.socket) -> None:
    from sparseft.routing.proxy import Upstream, proxy_app

    urls = [f"http://127.0.0.1:{port}/v1" for port in ports]
    small, large = (Upstream(name, url, "m") for name, url in zip(("s", "l"), urls, strict=True))
    chosen = Words() if router == "words" else minilm_router(exemplars)
    serve(proxy_app(chosen, 0.5, small, large), bound)


def main() -> None:
    """The command line: one line of JSON a concurrency."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--router", choices=("words", "minilm"), default="words")
    parser.add_argument("--exemplars", type=int, default=2000)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32, 200])
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    sockets = [socket.create_server(("127.0.0.1", 0), backlog=512) for _ in range(3)]
    ports = [each.getsockname()[1] for each in sockets]
    targets = [
        context.Process(target=_upstream, args=(name, bound), daemon=True)
        for name, bound in zip(("s", "l"), sockets, strict=False)
    ]
    arguments = (options.router, options.exemplars, ports[:2], sockets[2])
    targets.append(context.Process(target=_proxy, args=arguments, daemon=True))
    for each in targets:
        each.start()
    try:
        url = f"http://127.0.0.1:{ports[2]}"
        measure(url, sentences(50, seed=2), 4)  # imports, caches, connections
        for place, concurrency in enumerate(options.concurrency):
            texts = sentences(options.requests, seed=3 + place)
            found = asdict(measure(url, texts, concurrency))
            sys.stdout.write(json.dumps({"concurrency": concurrency, **found}) + "\n")
            sys.stdout.flush()
    finally:
        for each in targets:
            each.terminate()


if __name__ == "__main__":
    main()
