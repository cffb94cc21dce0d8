"""When an operation may be called without torch's dispatcher."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["plainly"]


def plainly(*tensors: Tensor) -> bool:
    """Whether nothing but the result is wanted: no tracing, no derivative, no tensor subclass.

    The dispatcher's way through a Python operation takes some 50 us, more than many of the kernels:
    eager backward passes, which are always of this kind, go straight to the implementation.
    """
    if torch.compiler.is_compiling():
        return False
    needs_graph = torch.is_grad_enabled()
    return all(
        type(tensor) is Tensor and not (needs_graph and tensor.requires_grad) for tensor in tensors
    )
