"""Input checks that cost nothing on the hot path.

Shapes and dtypes are host data and are always checked. The *contents* of an index are read only on
the CPU, once for each tensor: on a CUDA device reading them would make the host wait. There
SPARSEFT_KERNELS_CHECK=1 asks for it.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from sparseft_kernels.errors import KernelInputError

__all__ = ["check_index", "check_matrices", "check_target", "index_dtype", "require"]

CHECK_VARIABLE = "SPARSEFT_KERNELS_CHECK"
_INT32_LIMIT = 2**31

# Index tensors whose contents were read and found good: version and limit at that time.
_good: WeakIdKeyDictionary = WeakIdKeyDictionary()


def require(condition: bool, message: str) -> None:
    """Raise KernelInputError with `message` ("expected …, got …; do …") unless `condition`."""
    if not condition:
        raise KernelInputError(message)


def index_dtype(limit: int) -> torch.dtype:
    """The narrower of int32 and int64 that holds every number below `limit`."""
    return torch.int32 if limit <= _INT32_LIMIT else torch.int64


def check_matrices(dY: Tensor, X: Tensor) -> None:
    """dY [T, n] and X [T, k]: two matrices with the same tokens, dtype and device.

    Raises:
        KernelInputError: they are not.
    """
    # The messages are put together only when they are needed: this runs in every backward pass.
    if dY.ndim != 2 or X.ndim != 2 or dY.shape[0] != X.shape[0]:
        raise KernelInputError(
            f"expected dY [T, n] and X [T, k] with the same T, got {tuple(dY.shape)} and "
            f"{tuple(X.shape)}; flatten batch and sequence into tokens first."
        )
    if dY.dtype != X.dtype or not dY.dtype.is_floating_point:
        raise KernelInputError(
            f"expected dY and X of one floating dtype, got {dY.dtype} and {X.dtype}; cast one."
        )
    if dY.device != X.device:
        raise KernelInputError(
            f"expected dY and X on one device, got {dY.device} and {X.device}; move one."
        )


def check_index(index: Tensor, limit: int, what: str) -> None:
    """[m] int32 or int64, strictly ascending, every entry in [0, limit).

    Args:
        what: the noun for the message, such as "rows".

    Raises:
        KernelInputError: another shape or dtype; duplicates, disorder or entries out of range.
    """
    if index.ndim != 1 or index.dtype not in (torch.int32, torch.int64):
        raise KernelInputError(
            f"expected the selected {what} as a vector of int32 or int64, got {index.dtype} of "
            f"shape {tuple(index.shape)}; pass index.reshape(-1).to(torch.int32)."
        )
    if index.device.type != "cpu" and os.environ.get(CHECK_VARIABLE) != "1":
        return
    if _good.get(index) == (index._version, limit):
        return
    if index.numel():
        ascending = bool((index[1:] > index[:-1]).all())
        require(
            ascending,
            f"expected the selected {what} sorted ascending without duplicates, got an index that "
            "is not; pass index.unique().",
        )
        low, high = int(index[0]), int(index[-1])
        require(
            low >= 0 and high < limit,
            f"expected the selected {what} in [0, {limit}), got {low} to {high}; "
            "the index belongs to another weight.",
        )
    _good[index] = (index._version, limit)


def check_target(
    out: Tensor, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    """A tensor to add results to: contiguous, of this shape, dtype and device.

    Raises:
        KernelInputError: it is not.
    """
    if (
        tuple(out.shape) != shape
        or out.dtype != dtype
        or out.device != device
        or not out.is_contiguous()
    ):
        raise KernelInputError(
            f"expected `{name}` as a contiguous {dtype} tensor of shape {shape} on {device}, got "
            f"{out.dtype} {tuple(out.shape)} on {out.device}; allocate it so."
        )
