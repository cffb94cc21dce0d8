"""Operations of sparse finetuning: compact gradients, updates, unit scores, swaps.

Each operation is a package with its plain-torch `reference.py`, which is the truth for every
other implementation. `explain` says which implementation a call takes, and why.
"""

from sparseft_kernels import (
    delta_swap,
    embedding_grad,
    entries,
    masked_grad,
    sparse_adamw,
    unit_scores,
)
from sparseft_kernels.dispatch import Decision, explain, operations
from sparseft_kernels.errors import KernelInputError

__all__ = [
    "Decision",
    "KernelInputError",
    "delta_swap",
    "embedding_grad",
    "entries",
    "explain",
    "masked_grad",
    "operations",
    "sparse_adamw",
    "unit_scores",
]
