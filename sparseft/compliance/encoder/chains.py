"""The chain of a list, or one for each value of the field that the list depends on.

What is done about a request depends on the request, and what is done tells what it was. With a
chain for each request, the two are read together: the probability of a request is multiplied by
how well the list can be read under its chain.

Legend: n segments of one text, K items, V values of the field that the list is given; 1 without.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sparseft.compliance.encoder.chain import Array, Chain, log_sum, shares_of
from sparseft.errors import ConfigError

__all__ = ["Chains", "Seen", "fit_chains", "learn_chains"]

_PRIOR = 2.0  # items as if seen after each item, in the proportion in which they occur otherwise
_HEATS = (1.0, 1.5, 2.0, 3.0)
_WEIGHTS = (0.0, 0.4, 0.7, 1.0)
_BOOSTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
_USUAL = {"heat": 1.5, "weight": 0.7, "boost": 1.0}  # before any fit
_WORST = -50.0  # of a text: one list that the scores rule out must not decide between settings


@dataclass(frozen=True, eq=False)
class Chains:
    """How likely each item is after each other one, for each value that the list is given.

    Attributes:
        follows: [V, K + 1, K + 1], see `Chain`.
        heat, weight, boost: see `Chain`.
    """

    follows: Array
    heat: float = 1.0
    weight: float = 1.0
    boost: float = 0.0

    def __post_init__(self) -> None:
        if self.follows.ndim != 3 or len(set(self.follows.shape[1:])) != 1:
            raise ConfigError(
                "expected square tables of which item follows which, got "
                f"{self.follows.shape}; finetune again."
            )

    @classmethod
    def independent(cls, items: int) -> Chains:
        """The chain that changes nothing: every segment for itself."""
        return cls(np.zeros((1, items + 1, items + 1)))

    @cached_property
    def of(self) -> tuple[Chain, ...]:
        """The chain of each value."""
        return tuple(Chain(own, self.heat, self.weight, self.boost) for own in self.follows)

    def posterior(self, scores: Array, prior: Array) -> Array:
        """The probability of each value, given the segments as well [V].

        Args:
            scores: log-probabilities of the reader [n, K + 1].
            prior: the reader's own log-probabilities of the values [V].
        """
        if len(self.of) == 1:
            return np.ones(1)
        return shares_of(prior + [chain.log_weight(scores) for chain in self.of])

    def chance(self, scores: Array, posterior: Array, items: Sequence[int]) -> float:
        """The probability that the list is `items`, whatever the value."""
        likely = np.flatnonzero(posterior > 1e-9)
        return math.fsum(
            posterior[value]
            * math.exp(
                self.of[value].log_weight_of(scores, items) - self.of[value].log_weight(scores)
            )
            for value in likely
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        tables = [[[round(float(v), 4) for v in row] for row in own] for own in self.follows]
        return {"follows": tables, "heat": self.heat, "weight": self.weight, "boost": self.boost}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Chains:
        """What `to_json` gave.

        Raises:
            ConfigError: something else.
        """
        try:
            return cls(
                np.array(content["follows"], dtype=np.float64),
                float(content["heat"]),
                float(content["weight"]),
                float(content["boost"]),
            )
        except ConfigError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"expected a chain of list items as sparseft wrote it, got: {error!r}; finetune "
                "again."
            ) from error


@dataclass(frozen=True, eq=False)
class Seen:
    """What was read of one validation text, and what is true of it.

    Attributes:
        scores: log-probabilities of the reader [n, K + 1].
        prior: its log-probabilities of the values [V].
        items: the true list, of 1 … K.
        value: the true value's number.
    """

    scores: Array
    prior: Array
    items: Sequence[int]
    value: int


def learn_chains(
    lists: Sequence[Sequence[int]], given: Sequence[int], items: int, values: int
) -> Chains:
    """The chains of training lists of items 1 … `items`, with the usual settings.

    An item after another is as likely as it was there under the same value, as if it had been seen
    before as often as under all values, and there as often as anywhere.

    Args:
        given: of each list the number of its value, below `values`.
    """
    seen = np.zeros((values, items + 1, items + 1))
    for each, value in zip(lists, given, strict=True):
        last = 0
        for item in each:
            seen[value, last, item - 1] += 1
            last = item
        seen[value, last, items] += 1
    every = seen.sum(axis=0)
    total = every.sum(axis=0) + 0.5
    share = total / total.sum()
    chances = (every + _PRIOR * share) / (every.sum(axis=1, keepdims=True) + _PRIOR)
    if values == 1:
        return Chains(np.log(chances / share)[None], **_USUAL)
    own = (seen + _PRIOR * chances) / (seen.sum(axis=2, keepdims=True) + _PRIOR)
    return Chains(np.log(own / share), **_USUAL)


def fit_chains(chains: Chains, seen: Sequence[Seen]) -> Chains:
    """The chains with the heat, weight and boost under which validation's truth is likeliest."""
    if not seen:
        return chains
    # The grid is walked one setting at a time, which needs a tenth of the steps of all of it.
    best = chains
    reached = _fit_of(best, seen)
    moves: list[tuple[str, float]] = [
        *(("heat", heat) for heat in _HEATS),
        *(("weight", weight) for weight in _WEIGHTS),
        *(("boost", boost) for boost in _BOOSTS),
    ]
    for _ in range(3):
        before = reached
        for name, value in moves:
            if getattr(best, name) == value:
                continue
            settings = {"heat": best.heat, "weight": best.weight, "boost": best.boost, name: value}
            other = Chains(chains.follows, **settings)
            found = _fit_of(other, seen)
            if found > reached:
                best, reached = other, found
        if reached == before:
            break
    return best


def _fit_of(chains: Chains, seen: Sequence[Seen]) -> float:
    """The summed log-probability of values and lists together."""
    fits = []
    for each in seen:
        weights = [chain.log_weight(each.scores) for chain in chains.of]
        whole = float(log_sum((each.prior + weights)[:, None])[0])
        own = chains.of[each.value].log_weight_of(each.scores, each.items)
        fits.append(max(float(each.prior[each.value]) + own - whole, _WORST))
    return math.fsum(fits)
