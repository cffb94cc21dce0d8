"""AdamW and SGD over the compact values of a whole model, written through to its weights."""

from sparseft_kernels.sparse_adamw.common import AdamWOptions, SGDOptions
from sparseft_kernels.sparse_adamw.ops import adamw_, sgd_

__all__ = ["AdamWOptions", "SGDOptions", "adamw_", "sgd_"]
