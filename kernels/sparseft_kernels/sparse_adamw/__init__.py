"""AdamW and SGD over the compact values of a whole model, written through to its weights."""

from sparseft_kernels.sparse_adamw import problem as problem
from sparseft_kernels.sparse_adamw.common import AdamWOptions, SGDOptions
from sparseft_kernels.sparse_adamw.ops import adamw_, decide, sgd_

__all__ = ["AdamWOptions", "SGDOptions", "adamw_", "decide", "sgd_"]
