"""Offsets of a step of tokens from its first one, in as few bits as will do."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

__all__ = ["needs_64_bits", "token_offsets"]


@triton.jit
def token_offsets(step, feature, stride_t, stride_f, WIDE: tl.constexpr):
    """[BT, features] from the first token of a step; 32 bits halve the registers they take."""
    if WIDE:
        step, feature = step.to(tl.int64), feature.to(tl.int64)
    else:
        step, feature = step.to(tl.int32), feature.to(tl.int32)
    return step[:, None] * stride_t + feature[None, :] * stride_f


def needs_64_bits(BT: int, features: int | None, *matrices: Tensor) -> bool:
    """Whether offsets from the first of BT tokens need more than 32 bits.

    Args:
        BT: tokens of a step.
        features: of a tile; None for all that the matrix has.
        matrices: [T, features], any strides.
    """
    return any(
        BT * abs(a.stride(0)) + (features or a.shape[1]) * abs(a.stride(1)) >= 2**31
        for a in matrices
    )
