"""Exact nearest neighbours by cosine: one matrix product and a top-k.

On a CPU this is exact and as fast as approximate indexes up to some hundred thousand vectors of a
sentence encoder, so there is nothing to build and nothing to tune.
"""

from __future__ import annotations

import numpy as np
import torch

from sparseft.errors import DataError

__all__ = ["Index"]

_CELLS = 1 << 24  # products held at once: 64 MiB of float32
_WIDTH = 16  # columns are filled up to: at a ragged end a product is added up in another order


class Index:
    """Vectors to search.

    Args:
        vectors: float [N, d], rows of any length but 0; they are normalised here.
        device: where the product is taken.

    Raises:
        DataError: there is no vector, or one is not finite or 0.
    """

    def __init__(self, vectors: np.ndarray, device: torch.device | str = "cpu") -> None:
        if vectors.ndim != 2 or not len(vectors):
            raise DataError(
                f"expected vectors [N, d] with N of 1 or more, got {vectors.shape}; a pool must "
                "hold an exemplar."
            )
        self.device = torch.device(device)
        self._count = len(vectors)
        # A column each: for one query this is read three times as fast as a row each.
        unit = _unit(vectors)
        columns = unit.new_zeros((unit.shape[1], -(-self._count // _WIDTH) * _WIDTH))
        columns[:, : self._count] = unit.T
        self._columns = columns.to(self.device)  # [d, N and some]

    def __len__(self) -> int:
        return self._count

    def nearest(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of each query, the nearest first; of equals the earlier one.

        Args:
            queries: float [Q, d].
            k: at most N are given.

        Returns:
            cosines float32 [Q, min(k, N)], positions int64 [Q, min(k, N)]
        """
        k = min(k, len(self))
        wanted = _unit(queries).to(self.device)
        cosines = np.empty((len(queries), k), dtype=np.float32)
        places = np.empty((len(queries), k), dtype=np.int64)
        rows = max(1, _CELLS // self._columns.shape[1])
        for start in range(0, len(queries), rows):
            products = (wanted[start : start + rows] @ self._columns)[:, : len(self)]
            best, at = products.topk(k, dim=1)
            # topk leaves open which of equals it takes at its end: there, all are sorted.
            more = ((products >= best[:, -1:]).sum(dim=1) > k).nonzero()[:, 0]
            if len(more):
                order = products[more].argsort(dim=1, descending=True, stable=True)[:, :k]
                at[more], best[more] = order, products[more].gather(1, order)
            # And in which order they come: sorting by place first makes it one.
            at, by_place = at.sort(dim=1)
            best = best.gather(1, by_place)
            best, by_value = best.sort(dim=1, descending=True, stable=True)
            at = at.gather(1, by_value)
            cosines[start : start + rows] = best.cpu().numpy()
            places[start : start + rows] = at.cpu().numpy()
        return cosines, places


def _unit(vectors: np.ndarray) -> torch.Tensor:
    rows = torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32))
    norms = rows.norm(dim=1, keepdim=True)
    if not bool(torch.isfinite(norms).all()) or bool((norms == 0).any()):
        raise DataError(
            "expected finite vectors other than 0, got one that is not; look at the texts that "
            "were embedded."
        )
    return rows / norms
