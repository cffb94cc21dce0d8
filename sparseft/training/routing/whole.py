"""Routers of all dialogues: which one is saved, and how long each takes to decide."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sparseft.config import ModelConfig, RoutingConfig
from sparseft.routing.comparison import Answers
from sparseft.routing.retriever import SentenceEncoder
from sparseft.routing.rollout import contexts_of
from sparseft.routing.saved import save_router
from sparseft.routing.study import MakeRouter, held_out_scores, thresholds
from sparseft.routing.texts import query_of
from sparseft.routing.turns import Turn

__all__ = ["Whole"]

_TIMED = 40  # queries whose decision is timed, one at a time
_OPTIONS: Mapping[str, Callable[[RoutingConfig], dict[str, Any]]] = {
    "knn": lambda settings: {"k": settings.neighbours},
    "classifier": lambda settings: {"strength": 0.3},
}


class Whole:
    """Routers whose pool is all dialogues: for use, not for scores.

    Args:
        answers: of both experts.
        dialogues: all of them.
        makers: routers by name.
        seed: of the folds, and of the queries that are timed.
    """

    def __init__(
        self,
        answers: Answers,
        dialogues: Mapping[str, Sequence[Turn]],
        makers: Mapping[str, MakeRouter],
        seed: int,
    ) -> None:
        self._answers, self._makers, self._seed = answers, makers, seed
        self._pool = answers.pool(dialogues)
        self._right = answers.right(dialogues)
        # All turns as the small expert meets them alone, with its answers.
        contexts = contexts_of(dialogues, answers.small)
        asked = answers.small.predict(contexts)
        self._queries = [query_of(c, own) for c, own in zip(contexts, asked, strict=True)]

    def save(self, folder: Path, model: ModelConfig, settings: RoutingConfig) -> dict[str, Any]:
        """Write the router that is best at the budget on dialogues held out; what is said of it.

        Without a finite threshold (nothing or all goes up) none is written, and an older one is
        removed.
        """
        found: list[tuple[float, str, float]] = []
        for name, make in self._makers.items():
            asked = self._queries
            if not make(self._pool).needs_confidence:
                asked = [replace(query, confidence=None, answer=None) for query in asked]
            scores = held_out_scores(self._pool, make, asked, seed=self._seed)
            cut = thresholds(scores, [settings.budget])[0]
            right = np.where(scores >= cut, self._right[1], self._right[0])
            found.append((float(right.mean()), name, cut))
        score, name, cut = max(found, key=lambda each: each[0])
        facts = {
            "router": name,
            "wanted_share": settings.budget,
            "held_out_turn_accuracy": round(score, 4),
            "experts": [self._answers.small.name, self._answers.large.name],
            "saved": False,
        }
        kind = "knn" if name == "knn_balanced" else name
        if np.isfinite(cut):
            pool = self._pool.balanced(0) if name == "knn_balanced" else self._pool
            options = _OPTIONS.get(kind, lambda _: {})(settings)
            save_router(folder, kind, pool, model, cut, options, facts, settings.retriever)
            facts["saved"] = True
        else:
            shutil.rmtree(folder, ignore_errors=True)
        return facts

    def latency(self, encoder: SentenceEncoder) -> dict[str, tuple[float, float]]:
        """Milliseconds of a decision by router, median and 95th percentile, one at a time.

        What the small model takes is not counted where a router asks for its answer.
        """
        drawn = np.random.default_rng(self._seed).permutation(len(self._queries))[:_TIMED]
        found = {}
        for name, make in self._makers.items():
            router = make(self._pool)
            times = []
            for place in drawn.tolist():
                encoder.forget()
                started = time.perf_counter()
                router.scores([self._queries[place]])
                times.append(1e3 * (time.perf_counter() - started))
            found[name] = (float(np.median(times)), float(np.quantile(times, 0.95)))
        return found
