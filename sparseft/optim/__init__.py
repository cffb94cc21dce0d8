"""Optimizers over compact values, for anybody's trainer. Needs torch alone."""

from sparseft.optim.sparse import SparseAdamW, SparseSGD

__all__ = ["SparseAdamW", "SparseSGD"]
