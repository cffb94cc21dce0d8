"""k-nearest-neighbour votes of a pool of exemplars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparseft.errors import ConfigError
from sparseft.routing.index import Index
from sparseft.routing.pools import Pool
from sparseft.routing.retriever import Embedder
from sparseft.routing.router import Query

__all__ = ["MajorityVote", "WeightedVote"]


class _Neighbours:
    needs_confidence = False

    def __init__(self, pool: Pool, embedder: Embedder, k: int) -> None:
        if k < 1:
            raise ConfigError(f"expected k of 1 or more neighbours, got {k}; change it.")
        self.k = k
        self.embedder = embedder
        self._large = pool.large
        self._index = Index(embedder.embed(pool.texts))

    def _nearest(self, queries: Sequence[Query]) -> tuple[np.ndarray, np.ndarray]:
        vectors = self.embedder.embed([query.text for query in queries])
        return self._index.nearest(vectors, self.k)


class MajorityVote(_Neighbours):
    """The share of the k nearest exemplars that speak for the large model (Lee et al. 2024).

    More than half of them is the seed's rule; a tie goes to the small model.
    """

    name = "knn"

    def __init__(self, pool: Pool, embedder: Embedder, k: int = 10) -> None:
        super().__init__(pool, embedder, k)

    def scores(self, queries: Sequence[Query]) -> np.ndarray:
        """See `Router`; in 0 … 1."""
        if not queries:
            return np.zeros(0)
        _, places = self._nearest(queries)
        return self._large[places].mean(axis=1, dtype=np.float64)


class WeightedVote(_Neighbours):
    """Votes weighed by similarity and by the rarity of their side.

    A vote weighs exp((cosine - nearest cosine) / temperature), so that those far behind count for
    little; with `even`, the sides are divided by how many exemplars each has, so that a pool of 90%
    small exemplars does not decide beforehand. One further half vote of either side keeps a single
    neighbour from being certain.

    Args:
        temperature: in units of cosine.
        even: whether the sides count alike.
    """

    name = "weighted_knn"

    def __init__(
        self,
        pool: Pool,
        embedder: Embedder,
        k: int = 50,
        temperature: float = 0.05,
        even: bool = True,
    ) -> None:
        if temperature <= 0:
            raise ConfigError(f"expected a temperature above 0, got {temperature}; change it.")
        super().__init__(pool, embedder, k)
        self.temperature = temperature
        share = float(self._large.mean())
        self._weights = (share, 1 - share) if even and 0 < share < 1 else (0.5, 0.5)

    def scores(self, queries: Sequence[Query]) -> np.ndarray:
        """See `Router`; in 0 … 1."""
        if not queries:
            return np.zeros(0)
        cosines, places = self._nearest(queries)
        near = cosines.astype(np.float64)
        votes = np.exp((near - near[:, :1]) / self.temperature)  # [Q, k]
        large = self._large[places]
        for_large = ((votes * large).sum(1) + 0.5) * self._weights[1]
        for_small = ((votes * ~large).sum(1) + 0.5) * self._weights[0]
        found: np.ndarray = for_large / (for_large + for_small)
        return found
