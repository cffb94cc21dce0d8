"""A cascade that looks at the small model's answer: is it wrong where the large is not?"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from sparseft.errors import DataError
from sparseft.routing.pools import Pool
from sparseft.routing.retriever import Embedder
from sparseft.routing.router import Query

__all__ = ["Verifier"]

_WORD = re.compile(r"\w+")


class Verifier:
    """Logistic regression over a query and the small model's answer to it.

    What is looked at: the embedding of both together, how long the answer is, how many of its
    words stand in the query, and the model's confidence where it gives one. For models that give
    none, as many endpoints do, it is the cascade that is left (after FrugalGPT's scorer, Chen et
    al. 2023). The sides weigh alike.

    Args:
        pool: exemplars with answers.
        strength: the inverse of the L2 penalty, as scikit-learn's C.

    Raises:
        DataError: the pool has one side only, or no answers.
    """

    name = "verifier"
    needs_confidence = True

    def __init__(self, pool: Pool, embedder: Embedder, strength: float = 0.3) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        large, queries = pool.large, [exemplar.query for exemplar in pool.exemplars]
        if large.all() or not large.any() or any(query.answer is None for query in queries):
            raise DataError(
                f"expected exemplars of both sides with the small model's answers, got "
                f"{int(large.sum())} of {len(large)} for the large model and "
                f"{sum(query.answer is None for query in queries)} without an answer; build a "
                "larger pool from answers."
            )
        self.embedder = embedder
        known = [query.confidence for query in queries if query.confidence is not None]
        self._usual = float(np.median(known)) if known else 0.0
        self._model = make_pipeline(
            StandardScaler(with_std=False),
            LogisticRegression(C=strength, class_weight="balanced", max_iter=1000),
        )
        looks = self._looks(queries)
        # Few plain figures beside hundreds of small coordinates: brought to one scale.
        self._spread = np.maximum(looks.std(axis=0), 1e-6)
        self._model.fit(self._features(queries, looks), large)

    def scores(self, queries: Sequence[Query]) -> np.ndarray:
        """See `Router`; in 0 … 1."""
        if not queries:
            return np.zeros(0)
        found: np.ndarray = self._model.predict_proba(
            self._features(queries, self._looks(queries))
        )[:, 1]
        return found

    def _features(self, queries: Sequence[Query], looks: np.ndarray) -> np.ndarray:
        texts = [f"{query.text} [answer] {query.answer or ''}" for query in queries]
        vectors = self.embedder.embed(texts)
        return np.hstack([vectors, looks / self._spread])

    def _looks(self, queries: Sequence[Query]) -> np.ndarray:
        rows = []
        for query in queries:
            words = _WORD.findall((query.answer or "").lower())
            seen = set(_WORD.findall(query.text.lower()))
            copied = sum(word in seen for word in words) / len(words) if words else 1.0
            sure = self._usual if query.confidence is None else query.confidence
            rows.append((len(words), not words, copied, sure, len(query.text)))
        return np.array(rows, dtype=np.float64)
