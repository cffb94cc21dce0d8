"""What the dispatcher and the benchmarks know of each structure: sizes, work, settings, rules."""

from __future__ import annotations

import torch

from sparseft_kernels.dispatch import Config, Dims, Operation, register, settings
from sparseft_kernels.work import Work

__all__ = ["BLOCKS", "COLUMNS", "ELEMENTS", "ROWS", "TRITON_EDGES"]

TRITON_EDGES = (16, 32, 64, 128)
_FULL_FLOAT32 = "full float32 products do not use the matrix units"


# Best guesses from tile sizes and registers; `make gpu` measures them all.
_PRODUCT = settings(
    "BM=64 BN=128 BT=64 GROUP=8 num_warps=4 num_stages=3",
    "BM=128 BN=128 BT=64 GROUP=8 num_warps=8 num_stages=3",
    "BM=32 BN=128 BT=64 GROUP=8 num_warps=4 num_stages=4",
    "BM=16 BN=128 BT=128 GROUP=8 num_warps=4 num_stages=3",
)
_PRODUCT_32 = settings(
    "BM=64 BN=64 BT=32 GROUP=8 num_warps=4 num_stages=3",
    "BM=16 BN=64 BT=64 GROUP=8 num_warps=4 num_stages=3",
)
_BLOCKS = settings(
    "BT=64 num_warps=4 num_stages=4",
    "BT=128 num_warps=4 num_stages=3",
)
_BLOCKS_LARGE = settings(
    "BT=64 num_warps=8 num_stages=3",
    "BT=32 num_warps=8 num_stages=4",
)
_BLOCKS_32 = settings("BT=32 num_warps=4 num_stages=3")
_BLOCKS_LARGE_32 = settings("BT=32 num_warps=8 num_stages=2")
_DIRECT = settings("DIRECT=1 BE=64 BT=64 num_warps=4 num_stages=3")
_ELEMENTS = settings(
    "BM=64 BN=64 BT=64 BE=64 num_warps=4 num_stages=4",
    "BM=128 BN=128 BT=64 BE=256 num_warps=8 num_stages=3",
)
_ELEMENTS_32 = settings("BM=64 BN=64 BT=32 BE=64 num_warps=4 num_stages=3")


def _product_configs(selected: int, dtype: torch.dtype) -> tuple[Config, ...]:
    """First the smallest tile height that holds the selection: then X is read only once."""
    known = _PRODUCT_32 if dtype == torch.float32 else _PRODUCT
    return tuple(sorted(known, key=lambda c: (c["BM"] < selected, abs(c["BM"] - selected))))


def _rows_rule(dims: Dims, dtype: torch.dtype) -> tuple[str, str]:
    if dtype == torch.float32:
        return "cublas", _FULL_FLOAT32
    if dims["m"] <= 128:
        return "triton", "few rows: X is read once and dY's gather is fused"
    return "cublas", "many rows: the gather is a small share of a large product"


ROWS = register(
    Operation(
        name="masked_grad.rows",
        dims=("tokens", "n", "k", "m"),
        implementations=("triton", "cublas"),
        work=lambda d, size: Work(
            2.0 * d["tokens"] * d["m"] * d["k"],
            size * d["tokens"] * (d["m"] + d["k"]) + 4.0 * d["m"] * d["k"],
        ),
        rule=_rows_rule,
        configs=lambda d, dtype: _product_configs(d["m"], dtype),
    )
)

COLUMNS = register(
    Operation(
        name="masked_grad.columns",
        dims=("tokens", "n", "m"),
        implementations=("triton", "cublas"),
        work=lambda d, size: Work(
            2.0 * d["tokens"] * d["n"] * d["m"],
            size * d["tokens"] * (d["n"] + d["m"]) + 4.0 * d["n"] * d["m"],
        ),
        rule=lambda d, dtype: ("cublas", "a plain dense product: nothing to fuse"),
        configs=lambda d, dtype: _product_configs(d["n"], dtype),
    )
)

# Above these shares of the blocks a dense product is predicted to be faster (docs/kernels.md).
_DENSE_FROM = {16: 0.07, 32: 0.14, 64: 0.27, 128: 0.55}


def _blocks_rule(dims: Dims, dtype: torch.dtype) -> tuple[str, str]:
    edge = dims["edge"]
    if edge not in TRITON_EDGES:
        return "cublas", f"no kernel for blocks of {edge}"
    share = dims["m"] * edge**2 / (dims["n"] * dims["k"])
    if share > _DENSE_FROM[edge]:
        return "cublas", f"{share:.0%} of the blocks: a dense product is faster than skipping"
    return "triton", f"{share:.1%} of the blocks: the rest is skipped"


def _block_configs(dims: Dims, dtype: torch.dtype) -> tuple[Config, ...]:
    if dims["edge"] == 128:
        return _BLOCKS_LARGE_32 if dtype == torch.float32 else _BLOCKS_LARGE
    return _BLOCKS_32 if dtype == torch.float32 else _BLOCKS


BLOCKS = register(
    Operation(
        name="masked_grad.blocks",
        dims=("tokens", "n", "k", "m", "edge"),
        implementations=("triton", "cublas"),
        # The selected blocks' strips of dY and X, at most the whole of both, are read once.
        work=lambda d, size: Work(
            2.0 * d["tokens"] * d["m"] * d["edge"] ** 2,
            size * d["tokens"] * (min(d["n"], d["m"] * d["edge"]) + min(d["k"], d["m"] * d["edge"]))
            + 4.0 * d["m"] * d["edge"] ** 2,
        ),
        rule=_blocks_rule,
        configs=_block_configs,
        exact=("edge",),
    )
)


def _element_configs(dims: Dims, dtype: torch.dtype) -> tuple[Config, ...]:
    tiled = _ELEMENTS_32 if dtype == torch.float32 else _ELEMENTS
    share = dims["m"] / max(1, dims["n"] * dims["k"])
    return (*_DIRECT, *tiled) if share < 0.004 else (*tiled, *_DIRECT)


ELEMENTS = register(
    Operation(
        name="masked_grad.elements",
        dims=("tokens", "n", "k", "m"),
        implementations=("triton", "cublas"),
        work=lambda d, size: Work(
            2.0 * d["tokens"] * d["m"],
            size * d["tokens"] * (min(d["n"], d["m"]) + min(d["k"], d["m"])) + 8.0 * d["m"],
        ),
        rule=lambda d, dtype: ("triton", "only the selected entries leave the chip"),
        configs=_element_configs,
    )
)
