"""How long a query takes to be embedded and to be looked up, by the size of the pool.

python experiments/routing/retrieval_time.py        # about two minutes
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparseft import files
from sparseft.config import ModelConfig
from sparseft.results import environment
from sparseft.routing.dialogues import read_multiwoz
from sparseft.routing.index import Index
from sparseft.routing.pairs import gold_grades
from sparseft.routing.retriever import SentenceEncoder, load_encoder

_HERE = Path(__file__).parent
SIZES = (200, 10_000, 100_000)
QUERIES = 200
K = 10
_WARM_UP = 10


def measured(work: Callable[[int], object], count: int) -> dict[str, float]:
    """Milliseconds of single calls: on the clock, and of this thread alone (others' work left out).

    Args:
        work: of the number of the call.
    """
    for number in range(_WARM_UP):
        work(number)
    clock, own = [], []
    for number in range(count):
        began, began_own = time.perf_counter(), time.thread_time()
        work(number)
        clock.append(1000 * (time.perf_counter() - began))
        own.append(1000 * (time.thread_time() - began_own))
    return {
        f"{name}_{tail}_ms": float(np.quantile(values, share))
        for name, values in (("clock", clock), ("thread", own))
        for tail, share in (("p50", 0.5), ("p95", 0.95))
    }


def exact(index: Index, vectors: np.ndarray, queries: np.ndarray) -> bool:
    """Whether the index finds what sorting all cosines in float64 finds, but for near ties."""
    cosines, places = index.nearest(queries, K)
    for query, own, near in zip(queries, places, cosines, strict=True):
        products = vectors.astype(np.float64) @ query.astype(np.float64)
        best = np.sort(products)[::-1][:K]
        if not (np.allclose(near, best, atol=1e-5) and np.allclose(products[own], best, atol=1e-5)):
            return False
    return True


def _search(index: Index, queries: np.ndarray, number: int) -> object:
    return index.nearest(queries[number : number + 1], K)


def _forgetful(encoder: SentenceEncoder, text: str) -> object:
    encoder.forget()
    return encoder.embed([text])


def main() -> None:
    torch.set_num_threads(1)
    texts = list(dict.fromkeys(gold_grades(read_multiwoz("2.1", "test")).texts))
    encoder = load_encoder(
        ModelConfig(name="minilm", source="embedded", id="minilm", max_length=128)
    )
    asked = texts[:QUERIES]
    embedding = measured(lambda number: _forgetful(encoder, asked[number]), QUERIES)
    rows: list[dict[str, Any]] = []
    # Directions of contexts, and further ones near them: the search does not depend on the values.
    rng = np.random.default_rng(0)
    own = encoder.embed(texts[:1200])
    for size in SIZES:
        base = own[QUERIES:][rng.integers(len(own) - QUERIES, size=size)]
        vectors = base + rng.normal(scale=0.02, size=base.shape).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        queries = own[:QUERIES]
        index = Index(vectors)

        rows.append(
            {
                "exemplars": size,
                "exact": exact(index, vectors, queries[:5]),
                **measured(partial(_search, index, queries), QUERIES),
            }
        )
    content = {
        "queries": QUERIES,
        "k": K,
        "threads": 1,
        "embedding": embedding,
        "mean_tokens": float(encoder.encode(asked)["attention_mask"].sum(dim=1).float().mean()),
        "search": rows,
        "environment": environment("cpu", torch.get_num_threads()),
    }
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    files.write_text(_HERE / "results" / "retrieval_time" / "cpu.json", text)
    table = [
        "| | p50 (ms) | p95 (ms) | p50, own thread | p95, own thread |",
        "|---|---|---|---|---|",
        _line(f"embedding, {content['mean_tokens']:.0f} tokens", embedding),
        *(_line(f"search among {row['exemplars']:,}", row) for row in rows),
    ]
    files.write_text(_HERE / "tables" / "retrieval_time.md", "\n".join(table) + "\n")
    print("\n".join(table))


def _line(name: str, row: dict[str, Any]) -> str:
    keys = ("clock_p50_ms", "clock_p95_ms", "thread_p50_ms", "thread_p95_ms")
    return f"| {name} | " + " | ".join(f"{row[key]:.2f}" for key in keys) + " |"


if __name__ == "__main__":
    main()
