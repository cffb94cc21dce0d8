"""Token-driven sparse finetuning: train the few pretrained weights that a task needs, in place.

    selection = sparseft.analyze(model, batches, budget=sparseft.Budget(density=0.05))
    sparseft.sparsify(model, selection)
    optimizer = sparseft.optim.SparseAdamW(sparseft.trainable(model), lr=1e-3)

Names are loaded when they are first used; importing the package loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparseft import optim
    from sparseft.analysis import analyze
    from sparseft.saliency import token_saliency
    from sparseft.selection import Budget, Selection
    from sparseft.sparse import (
        disabled,
        load_delta,
        merge,
        read_delta,
        save_delta,
        sparsify,
        swap,
        sync,
        trainable,
        unload,
    )

__version__ = "0.1.0"

_HOMES = {
    "Budget": "sparseft.selection",
    "Selection": "sparseft.selection",
    "analyze": "sparseft.analysis",
    "disabled": "sparseft.sparse",
    "load_delta": "sparseft.sparse",
    "merge": "sparseft.sparse",
    "read_delta": "sparseft.sparse",
    "save_delta": "sparseft.sparse",
    "sparsify": "sparseft.sparse",
    "swap": "sparseft.sparse",
    "sync": "sparseft.sparse",
    "token_saliency": "sparseft.saliency",
    "trainable": "sparseft.sparse",
    "unload": "sparseft.sparse",
}
_MODULES = ("optim",)

__all__ = [
    "Budget",
    "Selection",
    "analyze",
    "disabled",
    "load_delta",
    "merge",
    "optim",
    "read_delta",
    "save_delta",
    "sparsify",
    "swap",
    "sync",
    "token_saliency",
    "trainable",
    "unload",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"sparseft.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sparseft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
