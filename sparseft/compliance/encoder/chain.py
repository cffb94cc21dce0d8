"""Which item of a list follows which: a prior over lists for a reader of single segments.

A reader scores each segment on its own, so an item in unseen words is easily taken for nothing.
What happened before says a good deal: after an account number an identity check is due. The list
is read as a hidden Markov model whose states are the item said last, with the reader's
probabilities as scaled likelihoods (Bourlard and Morgan, "Connectionist Speech Recognition", 1994):
where item k follows item j, its probability is multiplied by (P(k | j) / P(k))^weight and by
exp(boost). As in connectionist temporal classification an item may cover neighbouring segments.

Legend: n segments of one text, K items, S = 2K + 1 states: nothing yet; each item, its stretch
being over; each item, its stretch still open. D draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Chain", "log_sum", "shares_of"]

Array = NDArray[np.float64]

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
            forward.append(log_sum(forward[-1][:, None] + self._step(row)))
        states = random.choice(len(self._end), size=count, p=shares_of(forward[-1] + self._end))
        tags = np.zeros((count, len(scores)), dtype=np.int64)
        for place in range(len(scores) - 1, -1, -1):
            before = np.empty(count, dtype=np.int64)
            step = self._step(scores[place])
            for state in np.unique(states):
                own = np.flatnonzero(states == state)
                tags[own, place] = self._tag(int(state))
                chances = shares_of(forward[place] + step[:, state])
                before[own] = random.choice(len(chances), size=len(own), p=chances)
            states = before
        return tags

    def log_weight(self, scores: Array) -> float:
        """The log of the summed weights of all tags."""
        every = self._start
        for row in scores:
            every = log_sum(every[:, None] + self._step(row))
        return float(log_sum((every + self._end)[:, None])[0])

    def log_weight_of(self, scores: Array, items: Sequence[int]) -> float:
        """The log of the summed weights of the tags whose list is `items` (1 … K).

        Below -1e8 where the scores allow no such list.
        """
        size, final = self._items, self._end
        # Of the list: how many items are begun, and whether the last is still open.
        closed = np.full(len(items) + 1, _NEVER)
        opened = np.full(len(items) + 1, _NEVER)
        closed[0] = 0.0
        over = np.array([0, *items])  # state in which nothing goes on after so many items
        still = np.array([0, *(size + k for k in items)])
        for row in scores:
            step = self._step(row)
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
        end = over[-1]
        return float(np.logaddexp(closed[-1] + final[end], opened[-1] + final[still[-1]]))

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


def log_sum(values: Array) -> Array:
    """log(sum(exp)) over the first axis; of nothing but the impossible, the impossible."""
    most = values.max(axis=0)
    found: Array = most + np.log(np.exp(values - most).sum(axis=0))
    return found


def shares_of(values: Array) -> Array:
    """Weights of a sum of 1 from log-weights."""
    chances = np.exp(values - values.max())
    found: Array = chances / chances.sum()
    return found
