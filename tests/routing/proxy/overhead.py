"""How long the proxy takes before an upstream is called: the figures, by command.

    python -m tests.routing.proxy.overhead --router words
    python -m tests.routing.proxy.overhead --router minilm --exemplars 2000 --layers 1

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
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn

from sparseft import files
from sparseft.results import environment
from sparseft.routing.proxy.lines import Lines
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


def measure(
    url: str, texts: Sequence[str], concurrency: int, rate: float | None = None
) -> Overhead:
    """Send one request a text, and read what the answers say.

    Args:
        concurrency: requests at the same time, at most.
        rate: that arrive in a second, at times drawn from a Poisson process; None: the next one as
            soon as one is answered, so that the proxy is always as busy as it can be.
    """
    return asyncio.run(_measured(url, texts, concurrency, rate))


async def _measured(
    url: str, texts: Sequence[str], concurrency: int, rate: float | None
) -> Overhead:
    gaps = np.random.default_rng(0).exponential(1 / rate if rate else 0.0, len(texts))
    turns, found, lost = asyncio.Semaphore(concurrency), [], 0
    async with httpx.AsyncClient(timeout=60, transport=Lines(url, concurrency)) as client:

        async def ask(text: str, after: float) -> httpx.Response:
            await asyncio.sleep(after)
            async with turns:
                return await client.post(f"{url}/v1/chat/completions", json=request(text))

        began = time.perf_counter()
        answers = await asyncio.gather(*map(ask, texts, np.cumsum(gaps).tolist()))
        seconds = time.perf_counter() - began
    for answer in answers:
        if answer.status_code == 200:
            found.append(float(answer.headers["x-sparseft-overhead-ms"]))
        else:
            lost += 1
    p50, p95, p99 = (round(float(v), 2) for v in np.percentile(found, [50, 95, 99]))
    return Overhead(len(found), lost, p50, p95, p99, round(len(texts) / seconds, 1))


def minilm_router(exemplars: int, layers: int | None = None) -> Any:
    """Weighted neighbours among made-up exemplars, embedded by the pretrained MiniLM.

    Args:
        layers: of it, the lowest; None: all six.
    """
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
    return WeightedVote(pool, load_encoder(ModelConfig("minilm", layers=layers)))


def sentences(count: int, seed: int) -> list[str]:
    """Made-up requests of about 15 words."""
    rng = np.random.default_rng(seed)
    words = _WORDS.split()
    return [f"{' '.join(rng.choice(words, 15))} {n}" for n in range(count)]


def serve(app: Any, bound: socket.socket) -> None:
    """Serve until the process is ended."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on")
    uvicorn.Server(config).run(sockets=[bound])


def _bound() -> socket.socket:
    # asyncio switches Nagle's algorithm off only where the protocol is said: 40 ms otherwise.
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.bind(("127.0.0.1", 0))
    found.listen(512)
    return found


def _upstream(name: str, bound: socket.socket) -> None:
    serve(Scripted(name), bound)


def _proxy(
    router: str, exemplars: int, layers: int | None, ports: Sequence[int], bound: socket.socket
) -> None:
    from sparseft.routing.proxy import Upstream, proxy_app

    urls = [f"http://127.0.0.1:{port}/v1" for port in ports]
    small, large = (Upstream(name, url, "m") for name, url in zip(("s", "l"), urls, strict=True))
    chosen = Words() if router == "words" else minilm_router(exemplars, layers)
    serve(proxy_app(chosen, 0.5, small, large), bound)


def main() -> None:
    """The command line: one line of JSON a load."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--router", choices=("words", "minilm"), default="words")
    parser.add_argument("--exemplars", type=int, default=2000)
    parser.add_argument("--layers", type=int, help="of MiniLM; by default all")
    parser.add_argument("--record", type=Path, help="a JSON file for the figures")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rate", type=float, nargs="+", default=[20, 50, 100], metavar="PER_S")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32, 200])
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    sockets = [_bound() for _ in range(3)]
    ports = [each.getsockname()[1] for each in sockets]
    targets = [
        context.Process(target=_upstream, args=(name, bound), daemon=True)
        for name, bound in zip(("s", "l"), sockets, strict=False)
    ]
    arguments = (options.router, options.exemplars, options.layers, ports[:2], sockets[2])
    targets.append(context.Process(target=_proxy, args=arguments, daemon=True))
    for each in targets:
        each.start()
    try:
        url = f"http://127.0.0.1:{ports[2]}"
        httpx.get(f"{url}/healthz", timeout=120, trust_env=False)  # a model is loaded before
        measure(url, sentences(50, seed=2), 4)  # imports, caches, connections
        loads: list[dict[str, Any]] = [{"concurrency": 1000, "rate": r} for r in options.rate]
        loads += [{"concurrency": count} for count in options.concurrency]
        rows = []
        for place, load in enumerate(loads):
            texts = sentences(options.requests, seed=3 + place)
            rows.append({**load, **asdict(measure(url, texts, **load))})
            sys.stdout.write(json.dumps(rows[-1]) + "\n")
            sys.stdout.flush()
        if options.record is not None:
            about = {"router": options.router, "layers": options.layers}
            about |= {"exemplars": options.exemplars, "environment": environment("cpu", 1)}
            files.write_json(options.record, {**about, "loads": rows})
    finally:
        for each in targets:
            each.terminate()


if __name__ == "__main__":
    main()
