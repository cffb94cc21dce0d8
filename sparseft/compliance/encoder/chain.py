"""Which item of a list follows which: a prior over lists for a reader of single segments.

A reader scores each segment on its own, so an item in unseen words is easily taken for nothing.
What happened before says a good deal: after an account number an identity check is due. The list
is read as a hidden Markov model whose states are the item said last, with the reader's
probabilities as scaled likelihoods (Bourlard and Morgan, "Connectionist Speech Recognition", 1994):
where item k follows item j, its probability is multiplied by (P(k | j) / P(k))^weight and by
exp(boost). As in connectionist temporal classification an item may cover neighbouring segments.
Weight, boost and the heat of the scores are those that make the lists of validation likeliest.

Legend: n segments of one text, K items, S = 2K + 1 states: nothing yet; each item, its stretch
being over; each item, its stretch still open. D draws.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseft.errors import ConfigError

__all__ = ["Chain", "fit_chain", "learn_chain"]

Array = NDArray[np.float64]

_PRIOR = 2.0  # items as if seen after each item, in the proportion in which they occur at all
_HEATS = (1.0, 1.5, 2.0, 3.0)
_WEIGHTS = (0.0, 0.4, 0.7, 1.0)
_BOOSTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
_NEVER = -1e9


@dataclass(frozen=True, eq=False)
class Chain:
    """How likely each item is after each other one, against how likely it is at all.

    Attributes:
        follows: log(P(k | j) / P(k)), [K + 1, K + 1]; rows: the start, then each item; columns:
            each item, then the end.
        heat: divides the reader's scores.
        weight: of `follows`.
        boost: added to the score of an item that begins.
    """

    follows: Array
    heat: float = 1.0
    weight: float = 1.0
    boost: float = 0.0

    def __post_init__(self) -> None:
        if self.follows.ndim != 2 or len(set(self.follows.shape)) != 1:
            raise ConfigError(
                f"expected a square table of which item follows which, got {self.follows.shape}; "
                "finetune again."
            )

    @classmethod
    def independent(cls, items: int, heat: float = 1.0) -> Chain:
        """The chain that changes nothing: every segment for itself."""
        return cls(np.zeros((items + 1, items + 1)), heat)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        rows = [[round(float(value), 4) for value in row] for row in self.follows]
        return {"follows": rows, "heat": self.heat, "weight": self.weight, "boost": self.boost}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Chain:
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
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"expected a chain of list items as sparseft wrote it, got: {error!r}; finetune "
                "again."
            ) from error

    def path(self, scores: Array) -> NDArray[np.int64]:
        """The likeliest tags, int64 [n]; 0 is nothing.

        Args:
            scores: log-probabilities of the reader [n, K + 1], -inf where a tag cannot be.
        """
        best, came = self._start, []
        for row in scores:
            reached = best[:, None] + self._step(row)  # [S, S]
            came.append(reached.argmax(axis=0))
            best = reached.max(axis=0)
        state = int((best + self._end).argmax())
        tags = np.zeros(len(came), dtype=np.int64)
        for place in range(len(came) - 1, -1, -1):
            tags[place] = self._tag(state)
            state = int(came[place][state])
        return tags

    def draws(self, scores: Array, random: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Tags drawn by their probability, int64 [D, n]: filtered forward, sampled backward."""
        forward = [self._start]
        for row in scores:
            forward.append(_log_sum(forward[-1][:, None] + self._step(row)))
        states = random.choice(len(self._end), size=count, p=_shares(forward[-1] + self._end))
        tags = np.zeros((count, len(scores)), dtype=np.int64)
        for place in range(len(scores) - 1, -1, -1):
            before = np.empty(count, dtype=np.int64)
            step = self._step(scores[place])
            for state in np.unique(states):
                own = np.flatnonzero(states == state)
                tags[own, place] = self._tag(int(state))
                chances = _shares(forward[place] + step[:, state])
                before[own] = random.choice(len(chances), size=len(own), p=chances)
            states = before
        return tags

    def log_likelihood(self, scores: Array, items: Sequence[int]) -> float:
        """The log-probability that the list is `items` (1 … K), over all their places.

        Below -1e8 where the scores allow no such list.
        """
        every, size, final = self._start, self._items, self._end
        # Of the list: how many items are begun, and whether the last is still open.
        closed = np.full(len(items) + 1, _NEVER)
        opened = np.full(len(items) + 1, _NEVER)
        closed[0] = 0.0
        over = np.array([0, *items])  # state in which nothing goes on after so many items
        still = np.array([0, *(size + k for k in items)])
        for row in scores:
            step = self._step(row)
            every = _log_sum(every[:, None] + step)
            rest = np.logaddexp(closed + step[over, over], opened + step[still, over])
            going = opened + step[still, still]
            begun = np.full(len(items) + 1, _NEVER)
            begun[1:] = np.logaddexp(
                closed[:-1] + step[over[:-1], still[1:]],
                # The same item next to itself is one item.
                np.where(over[:-1] == over[1:], _NEVER, opened[:-1] + step[still[:-1], still[1:]]),
            )
            closed, opened = rest, np.logaddexp(going, begun)
            opened[0] = _NEVER
        whole = float(_log_sum((every + final)[:, None])[0])
        end = over[-1]
        own = float(np.logaddexp(closed[-1] + final[end], opened[-1] + final[still[-1]]))
        return own - whole

    @property
    def _items(self) -> int:
        return len(self.follows) - 1

    def _tag(self, state: int) -> int:
        return max(0, state - self._items)

    @cached_property
    def _start(self) -> Array:
        start = np.full(2 * self._items + 1, _NEVER)
        start[0] = 0.0
        return start

    @cached_property
    def _last(self) -> NDArray[np.int64]:
        """Of each state the item said last, 0 none."""
        return np.array([*range(self._items + 1), *range(1, self._items + 1)])

    @cached_property
    def _begins(self) -> Array:
        """Of each state what is added to the score of each item, [S, K]."""
        size = self._items
        begins = self.weight * self.follows[self._last, :size] + self.boost
        opened = np.arange(size + 1, 2 * size + 1)
        begins[opened, opened - size - 1] = 0.0  # an open stretch goes on
        found: Array = begins
        return found

    @cached_property
    def _end(self) -> Array:
        """Of each state the log-weight of ending there, [S]."""
        found: Array = self.weight * self.follows[self._last, self._items]
        return found

    def _step(self, row: Array) -> Array:
        """The log-weights from state to state [S, S] over a segment of scores [K + 1]."""
        heated = row / self.heat
        sure = np.maximum(heated - np.logaddexp.reduce(heated), _NEVER)
        step = np.full((len(self._last), len(self._last)), _NEVER)
        step[np.arange(len(self._last)), self._last] = sure[0]
        step[:, self._items + 1 :] = np.maximum(self._begins + sure[1:], _NEVER)
        return step


def learn_chain(lists: Sequence[Sequence[int]], items: int) -> Chain:
    """The chain of training lists of items 1 … `items`; without any it changes nothing."""
    seen = np.zeros((items + 1, items + 1))
    for each in lists:
        last = 0
        for item in each:
            seen[last, item - 1] += 1
            last = item
        seen[last, items] += 1
    total = seen.sum(axis=0) + 0.5
    share = total / total.sum()
    chances = (seen + _PRIOR * share) / (seen.sum(axis=1, keepdims=True) + _PRIOR)
    return Chain(np.log(chances / share))


def fit_chain(chain: Chain, seen: Sequence[tuple[Array, Sequence[int]]]) -> Chain:
    """The chain with the heat, weight and boost under which the lists of validation are likeliest.

    Args:
        seen: of each text the reader's log-probabilities [n, K + 1] and the true list.
    """
    if not seen:
        return chain
    # The grid is walked one setting at a time, which needs a tenth of the steps of all of it.
    best = replace(chain, heat=_HEATS[1], weight=_WEIGHTS[2], boost=_BOOSTS[2])
    reached = _fit_of(best, seen)
    for _ in range(3):
        before = reached
        for heat, weight, boost in itertools.chain(
            ((heat, None, None) for heat in _HEATS),
            ((None, weight, None) for weight in _WEIGHTS),
            ((None, None, boost) for boost in _BOOSTS),
        ):
            other = replace(
                best,
                heat=best.heat if heat is None else heat,
                weight=best.weight if weight is None else weight,
                boost=best.boost if boost is None else boost,
            )
            if (other.heat, other.weight, other.boost) == (best.heat, best.weight, best.boost):
                continue
            found = _fit_of(other, seen)
            if found > reached:
                best, reached = other, found
        if reached == before:
            break
    return best


def _fit_of(chain: Chain, seen: Sequence[tuple[Array, Sequence[int]]]) -> float:
    # One list that the scores rule out must not decide between settings.
    return math.fsum(max(chain.log_likelihood(scores, items), -50.0) for scores, items in seen)


def _log_sum(values: Array) -> Array:
    """log(sum(exp)) over the first axis; of nothing but the impossible, the impossible."""
    most = values.max(axis=0)
    found: Array = most + np.log(np.exp(values - most).sum(axis=0))
    return found


def _shares(values: Array) -> Array:
    chances = np.exp(values - values.max())
    found: Array = chances / chances.sum()
    return found
