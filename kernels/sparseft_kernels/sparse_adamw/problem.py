"""What the dispatcher and the benchmarks know of the updates: sizes, work, settings, rules."""

from __future__ import annotations

from sparseft_kernels.dispatch import Operation, register, settings
from sparseft_kernels.work import Work

__all__ = ["ADAMW", "SGD"]

# A chunk of values for each program; `make gpu` measures them all. Four values a thread take
# about 56 registers, eight take 150: the correctly rounded divisions are long.
_CONFIGS = settings(
    "BLOCK=1024 num_warps=8",
    "BLOCK=512 num_warps=4",
    "BLOCK=2048 num_warps=8",
    "BLOCK=1024 num_warps=4",
)
_ONE_LAUNCH = "one launch for all tensors, and the weights are written on the way"

# Sizes: `tensors` of compact values, `values` in all of them, `weight_bytes` written to weights in
# all (the weight's bytes a number for every value that stands in one). The element size that `work`
# takes is that of the values, which are float32.
ADAMW = register(
    Operation(
        name="sparse_adamw.adamw",
        dims=("tensors", "values", "weight_bytes"),
        implementations=("triton",),
        # Gradient, value and both moments are read, value and moments are written.
        work=lambda d, size: Work(14.0 * d["values"], 7.0 * size * d["values"] + d["weight_bytes"]),
        rule=lambda d, dtype: ("triton", _ONE_LAUNCH),
        configs=lambda d, dtype: _CONFIGS,
    )
)

SGD = register(
    Operation(
        name="sparse_adamw.sgd",
        dims=("tensors", "values", "weight_bytes"),
        implementations=("triton",),
        # As with momentum: gradient, value and buffer are read, value and buffer are written.
        work=lambda d, size: Work(7.0 * d["values"], 5.0 * size * d["values"] + d["weight_bytes"]),
        rule=lambda d, dtype: ("triton", _ONE_LAUNCH),
        configs=lambda d, dtype: _CONFIGS,
    )
)
