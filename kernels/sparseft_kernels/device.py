"""Facts of the device that a launch needs."""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["multiprocessors", "on_device", "widen"]

# Stands for a device where there is none: small, so that interpreted kernels split their tokens
# only where a test gives them many.
_INTERPRETED = 4


@lru_cache(maxsize=32)
def multiprocessors(device: torch.device) -> int:
    """Streaming multiprocessors of a CUDA device."""
    if device.type != "cuda":
        return _INTERPRETED
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def on_device(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Triton launches on the current device: make it the tensor's."""
    if tensor.device.type == "cuda":
        return torch.cuda.device(tensor.device)
    return contextlib.nullcontext()


def widen(tensor: Tensor) -> bool:
    """Whether a kernel must widen this tensor itself: Triton's interpreter has no bfloat16 dot."""
    return tensor.dtype == torch.bfloat16 and os.environ.get("TRITON_INTERPRET") == "1"
