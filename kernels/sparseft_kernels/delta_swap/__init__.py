"""Exchange a model's trained entries with the base's, bit for bit, in one launch."""

from sparseft_kernels.delta_swap.ops import read_, swap_, write_

__all__ = ["read_", "swap_", "write_"]
