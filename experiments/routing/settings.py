"""Which pairs of recorded models are compared, with which routers, at which rates."""

from __future__ import annotations

from dataclasses import dataclass

from sparseft.routing.experts.building import RECORDED_COSTS

__all__ = ["COSTS", "PAIRS", "RATES", "SEEDS", "K", "Pair"]


@dataclass(frozen=True)
class Pair:
    """A small and a large system of the recorded predictions.

    Attributes:
        prompt: same, where both were prompted alike; else what differs.
    """

    name: str
    small: str
    large: str
    prompt: str = "same"


PAIRS = (
    Pair("bm25", "llama3-8b.bm25-dialogctx.plain", "llama3-70b.bm25-dialogctx.plain"),
    Pair("sbert", "llama3-8b.sbert-slots.plain", "llama3-70b.sbert-slots.plain"),
    Pair("random-plain", "llama3-8b.random.plain", "llama3-70b.random.plain"),
    Pair("random-python", "llama3-8b.random.python", "llama3-70b.random.python"),
    Pair("ftsbert-gpt", "llama3-8b.ftsbert-topk.python", "gpt-3.5.ftsbert-topk.python"),
    Pair(
        "tuned-5p",
        "llama3-8b.ft-retriever-5p.plain",
        "llama3-70b.bm25-dialogctx.plain",
        "small: exemplars by a finetuned retriever; large: by BM25",
    ),
    Pair(
        "tuned-full",
        "llama3-8b.ft-retriever-full.plain",
        "llama3-70b.bm25-dialog.plain",
        "small: exemplars of all of train by a finetuned retriever; large: of 5% by BM25",
    ),
)
RATES = tuple(k / 10 for k in range(11))  # wanted shares of large calls
SEEDS = (0, 1)  # of the halves
K = 10

COSTS = RECORDED_COSTS
