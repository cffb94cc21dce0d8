"""What the dispatcher and the benchmarks know of each score: sizes, work, settings, rules."""

from __future__ import annotations

import torch

from sparseft_kernels.dispatch import Config, Dims, Operation, register, settings
from sparseft_kernels.work import Work

__all__ = ["BLOCKS", "ELEMENTS", "ROWS_AND_COLUMNS"]

# Rows of this many numbers (dY's and X's together, each padded to a power of two) fit in registers
# without spills on sm_80 and sm_90, with their sums; the second where loads cannot be wide.
_WHOLE_LIMIT, _UNALIGNED_LIMIT = 20480, 8192
_TILES = settings(
    "BT=4 BF=1024 num_warps=8 num_stages=1 PROGRAMS=2",
    "BT=8 BF=512 num_warps=8 num_stages=1 PROGRAMS=1",
)


def _configs(dims: Dims, dtype: torch.dtype) -> tuple[Config, ...]:
    """Whole rows in registers, about 32 numbers a thread, where they fit; else feature tiles."""
    row = _padded(dims["n"]) + _padded(dims["k"])
    aligned = dims["n"] % 16 == 0 and dims["k"] % 16 == 0
    if row > (_WHOLE_LIMIT if aligned else _UNALIGNED_LIMIT):
        return _TILES
    warps = 4 if row <= 2048 else 8 if row <= 8192 else 16
    BT = min(16, 1 << max(0, (4096 // row).bit_length() - 1))
    stages = 2 if dtype == torch.float32 and row > 8192 else 3
    whole = {"WHOLE": 1, "BT": BT, "num_warps": warps, "num_stages": stages}
    further = ({"num_stages": 2}, {"BT": max(1, BT // 2)})
    resident = 16 // warps  # programs of one multiprocessor
    return (
        {**whole, "PROGRAMS": resident},
        *({**whole, **change, "PROGRAMS": 2 * resident} for change in further),
        _TILES[0],
    )


def _padded(size: int) -> int:
    """The next power of two: the width of a row in registers."""
    return 1 << max(0, size - 1).bit_length()


ROWS_AND_COLUMNS = register(
    Operation(
        name="unit_scores.rows_and_columns",
        dims=("tokens", "n", "k"),
        implementations=("triton",),
        # A square, a norm and a weighted sum for each number; scores of rows and columns alike.
        work=lambda d, size: Work(
            5.0 * d["tokens"] * (d["n"] + d["k"]),
            size * d["tokens"] * (d["n"] + d["k"]) + 4.0 * (d["tokens"] + d["n"] + d["k"]),
        ),
        rule=lambda d, dtype: ("triton", "dY and X are read once, and no squares are written"),
        configs=_configs,
    )
)

BLOCKS = register(
    Operation(
        name="unit_scores.blocks",
        dims=("tokens", "n", "k", "edge"),
        implementations=("cublas",),
        work=lambda d, size: Work(
            2.0 * d["tokens"] * (d["n"] + d["k"])
            + 2.0 * d["tokens"] * d["n"] * d["k"] / d["edge"] ** 2,
            size * d["tokens"] * (d["n"] + d["k"]) + 4.0 * d["n"] * d["k"] / d["edge"] ** 2,
        ),
        rule=lambda d, dtype: ("cublas", "a dense product of squares summed over each block"),
        configs=lambda d, dtype: ({},),
        exact=("edge",),
    )
)

ELEMENTS = register(
    Operation(
        name="unit_scores.elements",
        dims=("tokens", "n", "k"),
        implementations=("cublas",),
        work=lambda d, size: Work(
            2.0 * d["tokens"] * d["n"] * d["k"],
            size * d["tokens"] * (d["n"] + d["k"]) + 4.0 * d["n"] * d["k"],
        ),
        rule=lambda d, dtype: ("cublas", "a dense product of squares: every entry is wanted"),
        configs=lambda d, dtype: ({},),
    )
)
