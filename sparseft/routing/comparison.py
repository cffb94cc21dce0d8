"""Routers compared on dialogues whose answers by both models can be had, cross-fitted both ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparseft.errors import ConfigError
from sparseft.routing.costs import Costs
from sparseft.routing.expert import Expert
from sparseft.routing.judging import Judged, dialogue_pool, judge, only_large, right_turns
from sparseft.routing.pools import Pool
from sparseft.routing.retriever import Embedder
from sparseft.routing.rollout import Step, contexts_of, roll_out
from sparseft.routing.router import Router
from sparseft.routing.routers import (
    AlwaysLarge,
    AlwaysSmall,
    Cascade,
    Chance,
    Classifier,
    MajorityVote,
    Oracle,
    SimilarityRanking,
    Verifier,
    WeightedVote,
)
from sparseft.routing.study import MakeRouter, Split, held_out_scores, thresholds
from sparseft.routing.texts import query_of
from sparseft.routing.turns import Turn

__all__ = [
    "ENDS",
    "ROUTERS",
    "Answers",
    "Half",
    "Metric",
    "compare_half",
    "end_routers",
    "routers_of",
]

ENDS = ("small alone", "large alone", "oracle")

ROUTERS: Mapping[str, Callable[[Embedder, int], MakeRouter]] = {
    "random": lambda encoder, k: lambda pool: Chance(0),
    "knn": lambda encoder, k: lambda pool: MajorityVote(pool, encoder, k),
    "knn_balanced": lambda encoder, k: lambda pool: MajorityVote(pool.balanced(0), encoder, k),
    "weighted_knn": lambda encoder, k: lambda pool: WeightedVote(pool, encoder),
    "classifier": lambda encoder, k: lambda pool: Classifier(pool, encoder, 0.3),
    "routellm_sw": lambda encoder, k: lambda pool: SimilarityRanking(pool, encoder),
    "verifier": lambda encoder, k: lambda pool: Verifier(pool, encoder),
    "cascade": lambda encoder, k: lambda pool: Cascade(),
}
"""By name: from an encoder and the number of neighbours to a router of a pool."""


@dataclass(frozen=True)
class Metric:
    """How answers are compared with gold.

    Attributes:
        normalise: values are brought to one spelling first, see `sparseft.routing.values`.
        separator: of several accepted gold values; None: a value is one value.
    """

    normalise: bool = False
    separator: str | None = None


@dataclass(frozen=True)
class Answers:
    """The two experts and how their answers are judged."""

    small: Expert
    large: Expert
    metric: Metric

    def pool(self, dialogues: Mapping[str, Sequence[Turn]]) -> Pool:
        """The exemplars of held-out dialogues; see `dialogue_pool`."""
        return dialogue_pool(
            dialogues,
            self.small,
            self.large,
            normalise=self.metric.normalise,
            separator=self.metric.separator,
        )

    def right(self, dialogues: Mapping[str, Sequence[Turn]]) -> tuple[np.ndarray, np.ndarray]:
        """Whether the small and the large expert get each turn, as the small one meets it alone."""
        turns = [turn for own in dialogues.values() for turn in own]
        contexts = contexts_of(dialogues, self.small)
        small, large = (
            right_turns(
                turns,
                contexts,
                expert,
                normalise=self.metric.normalise,
                separator=self.metric.separator,
            )
            for expert in (self.small, self.large)
        )
        return small, large

    def scored(self, dialogues: Mapping[str, Sequence[Turn]]) -> bool:
        """Whether the small expert says how sure it is."""
        contexts = contexts_of(dialogues, self.small)
        return any(answer.score is not None for answer in self.small.predict(contexts))

    def judged(
        self,
        dialogues: Mapping[str, Sequence[Turn]],
        router: Router,
        threshold: float,
        costs: Costs,
    ) -> tuple[list[Step], Judged]:
        """Route the dialogues, and what that was worth."""
        steps = roll_out(dialogues, router, threshold, self.small, self.large)
        gold = [turn for own in dialogues.values() for turn in own]
        judged = judge(
            gold,
            steps,
            costs,
            normalise=self.metric.normalise,
            separator=self.metric.separator,
        )
        return steps, judged


@dataclass(frozen=True)
class Half:
    """One half's dialogues under routers of the other half's pool.

    Attributes:
        pool: of the other half.
        thresholds: by router, one a rate.
        held_out: by router the share of right turns on the pool's own dialogues, one a rate, each
            scored by a pool without it: what may choose among routers.
        runs: by router, one a rate, and by end (`ENDS`) one.
        steps: by router, one a rate.
    """

    split: Split
    pool: Pool
    thresholds: Mapping[str, list[float]]
    held_out: Mapping[str, list[float]]
    runs: Mapping[str, list[Judged]]
    steps: Mapping[str, list[list[Step]]]


def routers_of(
    names: Sequence[str], encoder: Embedder, k: int, *, scored: bool
) -> dict[str, MakeRouter]:
    """Routers by name.

    Args:
        names: of `ROUTERS`; empty: all, the cascade only where the small model has scores.
        scored: whether it has.

    Raises:
        ConfigError: an unknown name, or a cascade without scores.
    """
    unknown = [name for name in names if name not in ROUTERS]
    if unknown:
        raise ConfigError(
            f"expected routers among {', '.join(ROUTERS)}, got {unknown[0]!r}; change it."
        )
    if "cascade" in names and not scored:
        raise ConfigError(
            "expected a small model that says how sure it is for the router cascade, got answers "
            "without scores; choose verifier instead."
        )
    wanted = names or [name for name in ROUTERS if scored or name != "cascade"]
    return {name: ROUTERS[name](encoder, k) for name in wanted}


def compare_half(
    split: Split,
    answers: Answers,
    makers: Mapping[str, MakeRouter],
    rates: Sequence[float],
    costs: Callable[[Router, Pool], Costs],
    *,
    seed: int,
) -> Half:
    """Build every router from the pool's half and run it on the other at every rate.

    Args:
        rates: wanted shares of large calls; the pool's own dialogues give the thresholds.
        costs: of a router with its pool.
        seed: of the folds within the pool.

    Raises:
        DataError: the experts' answers give no pool.
    """
    pool = answers.pool(split.pool)
    contexts = contexts_of(split.pool, answers.small)
    asked = answers.small.predict(contexts)
    right = answers.right(split.pool)
    cuts: dict[str, list[float]] = {}
    held_out: dict[str, list[float]] = {}
    runs: dict[str, list[Judged]] = {}
    steps: dict[str, list[list[Step]]] = {}
    for name, make in makers.items():
        router = make(pool)
        said = asked if router.needs_confidence else [None] * len(contexts)
        queries = [query_of(context, own) for context, own in zip(contexts, said, strict=True)]
        scores = held_out_scores(pool, make, queries, seed=seed)
        cuts[name] = thresholds(scores, rates)
        held_out[name] = [
            float(np.where(scores >= cut, right[1], right[0]).mean()) for cut in cuts[name]
        ]
        found = [answers.judged(split.test, router, cut, costs(router, pool)) for cut in cuts[name]]
        steps[name] = [own for own, _ in found]
        runs[name] = [judged for _, judged in found]
    for name, router in end_routers(split.test, answers).items():
        own, judged = answers.judged(split.test, router, 0.5, costs(router, pool))
        steps[name], runs[name] = [own], [judged]
    return Half(split, pool, cuts, held_out, runs, steps)


def end_routers(dialogues: Mapping[str, Sequence[Turn]], answers: Answers) -> dict[str, Router]:
    """Small alone, large alone and the oracle of these dialogues, for a threshold of 0.5."""
    needed = only_large(*answers.right(dialogues))
    queries = [query_of(context) for context in contexts_of(dialogues, answers.small)]
    oracle = Oracle({query.id: bool(up) for query, up in zip(queries, needed, strict=True)})
    return dict(zip(ENDS, (AlwaysSmall(), AlwaysLarge(), oracle), strict=True))
