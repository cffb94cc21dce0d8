"""Cross-fitted comparison of routers on dialogues whose answers by both models can be had.

Pools come from one half of the dialogues and are tested on the other, both ways, so every turn is
tested once and no pool ever holds a turn of a dialogue it is tested on. Thresholds are quantiles
of the scores that each pool dialogue gets from a pool without it, so the test half plays no part
in them.

Legend: F folds within a pool, N queries of a pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sparseft.errors import ConfigError, DataError
from sparseft.routing.pools import Pool
from sparseft.routing.router import Query, Router
from sparseft.routing.turns import Turn

__all__ = ["MakeRouter", "Split", "halves", "held_out_scores", "thresholds"]

MakeRouter = Callable[[Pool], Router]
_FOLDS = 5


@dataclass(frozen=True)
class Split:
    """Dialogues for pools, and those that are tested."""

    pool: Mapping[str, Sequence[Turn]]
    test: Mapping[str, Sequence[Turn]]


def halves(dialogues: Mapping[str, Sequence[Turn]], seed: int) -> tuple[Split, Split]:
    """Two splits of which each one's pool is the other's test; drawn by `seed`.

    Raises:
        DataError: there are fewer than two dialogues.
    """
    names = sorted(dialogues)
    if len(names) < 2:
        raise DataError(
            f"expected two dialogues or more to split into pool and test, got {len(names)}."
        )
    order = np.random.default_rng(seed).permutation(len(names))
    first = {names[place]: dialogues[names[place]] for place in sorted(order[: len(names) // 2])}
    second = {name: turns for name, turns in sorted(dialogues.items()) if name not in first}
    return Split(first, second), Split(second, first)


def held_out_scores(
    pool: Pool, make: MakeRouter, queries: Sequence[Query], *, seed: int
) -> np.ndarray:
    """The score that each query of a pool's dialogues gets from a pool without its dialogue.

    Args:
        make: a router of a pool; where a part of the pool has one side only, its queries get the
            scores of a router of all of it.
        queries: all of the pool's dialogues, also those that are no exemplars.

    Returns:
        float64 [N]
    """
    groups = sorted({query.group for query in queries})
    if len(groups) < 2:
        raise DataError(f"expected a pool of two groups or more, got {len(groups)}.")
    order = np.random.default_rng(seed).permutation(len(groups))
    fold = {groups[place]: number % _FOLDS for number, place in enumerate(order.tolist())}
    scores = np.zeros(len(queries))
    for number in range(_FOLDS):
        own = [place for place, query in enumerate(queries) if fold[query.group] == number]
        if not own:
            continue
        rest = tuple(e for e in pool.exemplars if fold[e.query.group] != number)
        large = sum(exemplar.large for exemplar in rest)
        kept = replace(pool, exemplars=rest) if 0 < large < len(rest) else pool
        scores[own] = make(kept).scores([queries[place] for place in own])
    return scores


def thresholds(scores: np.ndarray, rates: Sequence[float]) -> list[float]:
    """For each wanted share of large calls the threshold that gives it on held-out scores.

    A rate of 0 gives infinity and of 1 minus infinity, whatever the scores. Between, the threshold
    lies half-way between neighbouring different scores, so that ties are not split by rounding.

    Raises:
        ConfigError: a rate outside 0 … 1.
    """
    values = np.sort(scores)[::-1]
    found = []
    for rate in rates:
        if not 0 <= rate <= 1:
            raise ConfigError(f"expected a share of large calls from 0 to 1, got {rate}.")
        count = round(rate * len(values))
        if count == 0 or rate == 0:
            found.append(float("inf"))
        elif count >= len(values):
            found.append(float("-inf"))
        else:
            found.append(_between(values, count))
    return found


def _between(values: np.ndarray, count: int) -> float:
    """A threshold with as nearly `count` of the falling values at or above it as ties allow."""
    at = values[count - 1]
    above, with_ties = int((values > at).sum()), int((values >= at).sum())
    if with_ties - count <= count - above:
        below = values[with_ties] if with_ties < len(values) else -np.inf
        return float((at + below) / 2) if np.isfinite(below) else float(at)
    higher = values[above - 1]
    return float((at + higher) / 2) if np.isfinite(higher) else float(np.nextafter(at, np.inf))
