"""Operations of sparse finetuning: compact gradients, unit scores, embedding gradients.

Each operation is a package with its plain-torch `reference.py`, which is the truth for every
other implementation. `explain` says which implementation a call takes, and why.
"""

from sparseft_kernels import embedding_grad, masked_grad, unit_scores
from sparseft_kernels.dispatch import Decision, explain, operations
from sparseft_kernels.errors import KernelInputError

__all__ = [
    "Decision",
    "KernelInputError",
    "embedding_grad",
    "explain",
    "masked_grad",
    "operations",
    "unit_scores",
]
