"""Expert-aware grades: contexts for which the same model is needed should be near.

After OrchestraLLM (Lee et al., NAACL 2024), where such pairs come from the pool of exemplars.
"""

from __future__ import annotations

import numpy as np

from sparseft.errors import DataError
from sparseft.routing.pairs.grades import Grades
from sparseft.routing.pools import Pool

__all__ = ["expert_grades"]


def expert_grades(pool: Pool) -> Grades:
    """1 for two exemplars of the same side, 0 for others; each epoch sees as many of either side.

    Raises:
        DataError: the pool has one side only.
    """
    large = pool.large
    if large.all() or not large.any():
        raise DataError(
            f"expected exemplars of both sides to tell apart, got {int(large.sum())} of "
            f"{len(large)} for the large model; give a larger pool."
        )

    def between(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return (large[rows][:, None] == large[columns][None, :]).astype(np.float32)

    return Grades(
        tuple(pool.texts),
        tuple(exemplar.query.group for exemplar in pool.exemplars),
        between,
        sides=large.astype(np.int64),
        facts={"grades": "expert", "pool": dict(pool.provenance)},
    )
