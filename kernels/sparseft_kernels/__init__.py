"""Operations of sparse finetuning: compact gradients, unit scores, embedding gradients.

Each operation is a package with its plain-torch `reference.py`, which is the truth for every
other implementation.
"""

from sparseft_kernels import embedding_grad, masked_grad, unit_scores

__all__ = ["embedding_grad", "masked_grad", "unit_scores"]
