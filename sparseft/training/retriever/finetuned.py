"""What a finetuning of the retriever gives, and how it is judged on held-out dialogues.

Legend: N texts, d width of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sparseft.errors import DataError
from sparseft.routing.pairs.grades import Grades
from sparseft.routing.retriever import Embedder, SentenceEncoder

__all__ = ["FinetunedRetriever", "agreement", "rank_correlation"]

_MOST = 400  # held-out texts that are compared: 80,000 pairs


@dataclass(frozen=True)
class FinetunedRetriever:
    """A finetuned encoder.

    Attributes:
        encoder: ready to embed.
        folder: where it was written: a delta (`load_encoder(config, delta=folder)`), or a whole
            model (source "path").
        facts: figures of the training, plain data: rank_correlation on held-out dialogues before
            and after, seconds, and what was trained.
    """

    encoder: SentenceEncoder
    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)


def agreement(embedder: Embedder, grades: Grades) -> float:
    """Spearman's rank correlation of cosines and grades over all pairs of different dialogues.

    Of many texts an even part is looked at.

    Raises:
        DataError: all pairs have the same grade, so that there is no order to agree with.
    """
    rows = np.unique(np.linspace(0, len(grades) - 1, min(_MOST, len(grades))).astype(np.int64))
    vectors = embedder.embed([grades.texts[row] for row in rows])  # [N, d]
    wanted = grades.matrix(rows)
    above = np.triu(np.ones_like(wanted, dtype=bool), 1) & ~np.isnan(wanted)
    if len(np.unique(wanted[above])) < 2:
        raise DataError(
            f"expected pairs of different grades among the {len(rows)} held-out texts, got one "
            "grade; hold out more dialogues."
        )
    return rank_correlation((vectors @ vectors.T)[above], wanted[above])


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, ties at their mean rank; nan where one side does not vary."""
    ranks = [_ranks(values) for values in (a, b)]
    if len(a) < 2 or any(rank.std() == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[inverse]
