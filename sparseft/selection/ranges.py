"""Sorted indices as readable text: "0-3,7,9-12"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparseft.errors import SelectionError

__all__ = ["from_ranges", "to_ranges"]


def to_ranges(index: NDArray[np.int64]) -> str:
    """Write sorted distinct indices as comma-separated runs."""
    if index.size == 0:
        return ""
    breaks = np.flatnonzero(np.diff(index) != 1)
    starts = index[np.concatenate([[0], breaks + 1])]
    ends = index[np.concatenate([breaks, [index.size - 1]])]
    return ",".join(
        str(a) if a == b else f"{a}-{b}"
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
    )


def from_ranges(text: str) -> NDArray[np.int64]:
    """Read what `to_ranges` wrote.

    Raises:
        SelectionError: the text is no list of runs.
    """
    if not text:
        return np.empty(0, dtype=np.int64)
    parts = []
    try:
        for run in text.split(","):
            first, _, last = run.partition("-")
            parts.append(np.arange(int(first), int(last or first) + 1, dtype=np.int64))
    except (ValueError, AttributeError) as error:
        raise SelectionError(
            f"expected runs such as '0-3,7', got {str(text)[:40]!r}; the selection is damaged."
        ) from error
    return np.concatenate(parts)
