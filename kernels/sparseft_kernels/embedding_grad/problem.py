"""What the dispatcher and the benchmarks know: sizes, work, settings, rule."""

from __future__ import annotations

from sparseft_kernels.dispatch import Operation, register, settings
from sparseft_kernels.work import Work

__all__ = ["EMBEDDING_ROWS"]

# L tokens of a chunk; tiles of BT tokens x BD features for gradients, BC chunks x BDC features for
# partial sums.
_CONFIGS = settings(
    "L=64 BT=8 BD=256 BC=32 BDC=32 num_warps=2 num_stages=1",
    "L=32 BT=8 BD=512 BC=32 BDC=32 num_warps=4 num_stages=1",
    "L=128 BT=16 BD=128 BC=32 BDC=32 num_warps=2 num_stages=1",
)

EMBEDDING_ROWS = register(
    Operation(
        name="embedding_grad.embedding_rows",
        dims=("tokens", "d", "m"),
        implementations=("triton",),
        # If every token is one of the selected: fewer hits need fewer bytes.
        work=lambda d, size: Work(
            1.0 * d["tokens"] * d["d"],
            size * d["tokens"] * d["d"] + 8.0 * d["tokens"] + 4.0 * d["m"] * (d["d"] + 1),
        ),
        rule=lambda d, dtype: ("triton", "reads only the selected tokens' gradients"),
        configs=lambda d, dtype: _CONFIGS,
    )
)
