"""Data sets: texts and labels from the package, files or the hub, their splits, and batches.

`load_data` resolves a `DataConfig` into a `TaskData` of three splits without leakage;
`BatchLoader` turns a split into tokenised, length-bucketed batches.
"""

from sparseft.data.batches import Batch, BatchLoader
from sparseft.data.loading import load_data, normalised
from sparseft.data.task import OUT_OF_SCOPE, Split, TaskData

__all__ = [
    "OUT_OF_SCOPE",
    "Batch",
    "BatchLoader",
    "Split",
    "TaskData",
    "load_data",
    "normalised",
]
