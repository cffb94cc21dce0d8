"""Apply a selection to a model; save, load, swap, disable and merge its trained values."""

from sparseft.sparse.apply import (
    disabled,
    merge,
    selection_of,
    sparsify,
    sync,
    trainable,
    unload,
)
from sparseft.sparse.delta import Delta, load_delta, read_delta, save_delta, swap

__all__ = [
    "Delta",
    "disabled",
    "load_delta",
    "merge",
    "read_delta",
    "save_delta",
    "selection_of",
    "sparsify",
    "swap",
    "sync",
    "trainable",
    "unload",
]
