"""Routers without a pool: the ends of the curve, chance, a cascade, and the oracle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from sparseft.errors import DataError
from sparseft.routing.router import Query

__all__ = ["AlwaysLarge", "AlwaysSmall", "Cascade", "Chance", "Oracle"]


class AlwaysSmall:
    """Every query goes to the small model, at any threshold above 0."""

    name = "always_small"
    needs_confidence = False

    def scores(self, queries: Sequence[Query]) -> np.ndarray:
        """See `Router`."""
        return np.zeros(len(queries))


class AlwaysLarge:
    """Every query goes to the large model, at any threshold up to 1."""

    name = "always_large"
    needs_confidence = False

    def scores(self, queries: Sequence[Query]) -> np.ndarray:
        """See `Router`."""
        return np.ones(len(queries))


class Chance:
    """A number in [0, 1) drawn from a query's id: a threshold of t sends a share of 1 - t up."""

    name = "random"
    needs_confidence = False

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def scores(self, queries: Sequence[Query]) -> np.ndarray:
        """See `Router`."""
        digests = [hashlib.sha256(f"{self.seed}:{query.id}".encode()).digest() for query in queries]
        return np.array([int.from_bytes(d[:8], "big") / 2.0**64 for d in digests])


class Cascade:
    """The small model answers first; the less sure it is, the more the large one is wanted.

    A query without a confidence wants the large model most (FrugalGPT, Chen et al. 2023).
    """

    name = "cascade"
    needs_confidence = True

    def scores(self, queries: Sequence[Query]) -> np.ndarray:
        """See `Router`; minus the confidence."""
        return np.array([np.inf if q.confidence is None else -q.confidence for q in queries])


class Oracle:
    """Knows which queries only the large model gets right: the bound, and no router.

    Args:
        large: by the query's id.
    """

    name = "oracle"
    needs_confidence = False

    def __init__(self, large: Mapping[str, bool]) -> None:
        self._large = dict(large)

    def scores(self, queries: Sequence[Query]) -> np.ndarray:
        """See `Router`; 0 or 1.

        Raises:
            DataError: a query is not known.
        """
        try:
            return np.array([float(self._large[query.id]) for query in queries])
        except KeyError as error:
            raise DataError(
                f"expected queries whose answers are known, got {error.args[0]!r}; give the oracle "
                "all of them."
            ) from error
