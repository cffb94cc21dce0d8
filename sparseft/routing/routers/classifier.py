"""Routers trained on a pool: logistic regression, and a ranking by similarity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparseft.errors import DataError
from sparseft.routing.index import Index
from sparseft.routing.pools import Pool
from sparseft.routing.retriever import Embedder
from sparseft.routing.router import Query

__all__ = ["Classifier", "SimilarityRanking"]


class Classifier:
    """Logistic regression over embeddings: the probability that only the large model is right.

    The sides weigh alike. RouteLLM's classifier (Ong et al. 2024), with a frozen encoder.

    Args:
        strength: the inverse of the L2 penalty, as scikit-learn's C.

    Raises:
        DataError: the pool has one side only.
    """

    name = "classifier"
    needs_confidence = False

    def __init__(self, pool: Pool, embedder: Embedder, strength: float = 1.0) -> None:
        from sklearn.linear_model import LogisticRegression

        large = pool.large
        if large.all() or not large.any():
            raise DataError(
                f"expected exemplars of both sides to learn from, got {int(large.sum())} of "
                f"{len(large)} for the large model; give a larger pool."
            )
        self.embedder = embedder
        self._model = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
        self._model.fit(embedder.embed(pool.texts), large)

    def scores(self, queries: Sequence[Query]) -> np.ndarray:
        """See `Router`; in 0 … 1."""
        if not queries:
            return np.zeros(0)
        vectors = self.embedder.embed([query.text for query in queries])
        found: np.ndarray = self._model.predict_proba(vectors)[:, 1]
        return found


class SimilarityRanking:
    """RouteLLM's similarity-weighted ranking (Ong et al. 2024) with two models.

    Every exemplar is a battle that the large model won or lost, weighed 10^(cosine / greatest
    cosine); with two models the Bradley-Terry fit is the log-odds of the weighed wins.
    """

    name = "routellm_sw"
    needs_confidence = False

    def __init__(self, pool: Pool, embedder: Embedder) -> None:
        self.embedder = embedder
        self._large = pool.large
        self._index = Index(embedder.embed(pool.texts))

    def scores(self, queries: Sequence[Query]) -> np.ndarray:
        """See `Router`; the probability that the large model wins, 0 … 1."""
        if not queries:
            return np.zeros(0)
        vectors = self.embedder.embed([query.text for query in queries])
        cosines, places = self._index.nearest(vectors, len(self._index))
        best = np.maximum(cosines[:, :1].astype(np.float64), 1e-6)
        weights = 10.0 ** (cosines / best)  # [Q, N]
        found: np.ndarray = (weights * self._large[places]).sum(1) / weights.sum(1)
        return found
