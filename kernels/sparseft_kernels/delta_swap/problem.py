"""What the dispatcher and the benchmarks know of the exchange: sizes, work, settings, rule."""

from __future__ import annotations

from sparseft_kernels.dispatch import Operation, register, settings
from sparseft_kernels.work import Work

__all__ = ["SWAP"]

# A chunk of entries for each program; `make gpu` measures them all.
_CONFIGS = settings(
    "BLOCK=1024 num_warps=8",
    "BLOCK=512 num_warps=4",
    "BLOCK=2048 num_warps=8",
    "BLOCK=1024 num_warps=4",
)

# Sizes: `tensors` of compact values, `values` in all of them. The element size that `work` takes is
# that of the weights.
SWAP = register(
    Operation(
        name="delta_swap",
        dims=("tensors", "values"),
        implementations=("triton",),
        # Entries and buffers are read and written.
        work=lambda d, size: Work(0.0, 4.0 * size * d["values"]),
        rule=lambda d, dtype: ("triton", "one launch for all weights"),
        configs=lambda d, dtype: _CONFIGS,
    )
)
