"""Texts with a wanted similarity of every two of them, and pairs drawn from these.

Legend: N texts, n and m rows of them, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sparseft.errors import ConfigError, DataError

__all__ = ["Grades", "Pairs", "apart_from", "draw_pairs"]

Between = Callable[[np.ndarray, np.ndarray], np.ndarray]
_CANDIDATES = 20  # that are drawn for each wanted pair, to have some of every grade


@dataclass(frozen=True)
class Grades:
    """Texts and how alike they should be.

    Attributes:
        texts: N of them, as a router's retriever reads them.
        groups: of each: its dialogue. Two texts of one group are never compared, since no query
            ever meets its own dialogue in a pool.
        between: float32 [n, m] in 0 … 1 of the rows int64 [n] and [m].
        sides: int64 [N], where texts are of a few kinds and each epoch should see as many of each;
            None: all texts.
        facts: where they come from, plain data.
    """

    texts: tuple[str, ...]
    groups: tuple[str, ...]
    between: Between
    sides: np.ndarray | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.groups):
            raise DataError(
                f"expected a group for each of {len(self.texts)} texts, got {len(self.groups)}."
            )
        if len(set(self.groups)) < 2:
            raise DataError(
                f"expected texts of two dialogues or more to compare, got "
                f"{len(set(self.groups))}; give more dialogues."
            )

    def __len__(self) -> int:
        return len(self.texts)

    def matrix(self, rows: np.ndarray) -> np.ndarray:
        """Every two of some rows, float32 [n, n]; nan on the diagonal and within a group."""
        return self.table(rows, rows)

    def table(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Rows against columns, float32 [n, m]; nan within a group."""
        found = np.array(self.between(rows, columns), dtype=np.float32)
        own = np.array([self.groups[row] for row in rows])
        other = np.array([self.groups[column] for column in columns])
        found[own[:, None] == other[None, :]] = np.nan
        return found

    def subset(self, rows: Sequence[int] | np.ndarray) -> Grades:
        """The grades of some texts only."""
        kept = np.asarray(rows, dtype=np.int64)
        between = self.between
        return replace(
            self,
            texts=tuple(self.texts[row] for row in kept),
            groups=tuple(self.groups[row] for row in kept),
            between=lambda a, b: between(kept[a], kept[b]),
            sides=None if self.sides is None else self.sides[kept],
        )

    def split(self, share: float, seed: int) -> tuple[Grades, Grades]:
        """Two parts of different groups, the second with about `share` of them.

        Raises:
            ConfigError: a share outside 0 … 1 (both excluded).
            DataError: fewer than four groups, so that a part could not be compared.
        """
        if not 0 < share < 1:
            raise ConfigError(f"expected a held-out share between 0 and 1, got {share}; change it.")
        names = sorted(set(self.groups))
        if len(names) < 4:
            raise DataError(
                f"expected texts of four dialogues or more to hold some out, got {len(names)}; "
                "give more dialogues."
            )
        count = min(max(2, round(share * len(names))), len(names) - 2)
        order = np.random.default_rng(seed).permutation(len(names))
        held = {names[place] for place in order[:count]}
        inside = np.array([group in held for group in self.groups])
        return self.subset(np.flatnonzero(~inside)), self.subset(np.flatnonzero(inside))


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts with a grade, as sentence-transformers reads them.

    Attributes:
        first, second: P texts each.
        grades: float32 [P], 0 … 1.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    grades: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


def draw_pairs(grades: Grades, count: int, seed: int) -> Pairs:
    """Pairs of different groups, of which some of every grade: most pairs are not alike at all.

    Candidates are drawn at random and sorted into ten bins of their grades, which give in turn
    until there are enough (no pair twice, either way round).

    Raises:
        ConfigError: a count below 1.
    """
    if count < 1:
        raise ConfigError(f"expected 1 pair or more, got {count}; change it.")
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(grades), size=(_CANDIDATES * count, 2))
    drawn = np.unique(np.sort(drawn, axis=1), axis=0)
    drawn = rng.permutation(drawn)
    names = np.unique(np.asarray(grades.groups), return_inverse=True)[1]
    drawn = drawn[names[drawn[:, 0]] != names[drawn[:, 1]]]
    values = _each(grades.between, drawn)
    kept = ~np.isnan(values)
    drawn, values = drawn[kept], values[kept]
    bins = np.minimum((values * 10).astype(np.int64), 9)
    # The place of each candidate within its bin: the first ones of all bins come before the second.
    turn = np.zeros(len(bins), dtype=np.int64)
    for number in range(10):
        own = np.flatnonzero(bins == number)
        turn[own] = np.arange(len(own))
    chosen = rng.permutation(np.argsort(turn, kind="stable")[:count])
    return Pairs(
        tuple(grades.texts[a] for a in drawn[chosen, 0]),
        tuple(grades.texts[b] for b in drawn[chosen, 1]),
        values[chosen].astype(np.float32),
    )


def _each(between: Between, pairs: np.ndarray) -> np.ndarray:
    """The grade of each pair int64 [P, 2], by blocks of few rows."""
    found = np.zeros(len(pairs), dtype=np.float32)
    order = np.argsort(pairs[:, 0], kind="stable")
    for start in range(0, len(order), 512):
        own = order[start : start + 512]
        rows, at = np.unique(pairs[own, 0], return_inverse=True)
        columns, to = np.unique(pairs[own, 1], return_inverse=True)
        found[own] = between(rows, columns)[at, to]
    return found


def apart_from(grades: Grades, tested: Collection[str]) -> Grades:
    """The same grades, when none of their texts is of a dialogue that will be tested.

    Raises:
        DataError: one is.
    """
    seen = sorted(set(grades.groups) & set(tested))
    if seen:
        raise DataError(
            f"expected texts of dialogues that are not tested, got {len(seen)} that are (such as "
            f"{seen[0]!r}); finetune on the pool's dialogues or on training dialogues only."
        )
    return grades
