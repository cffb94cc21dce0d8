"""The identity of a base model: a hash of its pretrained weights."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import torch
from torch import nn

__all__ = ["base_hash"]


def base_hash(model: nn.Module, head: Collection[str]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of every parameter outside the head.

    Args:
        model: a model that carries no delta.
        head: names of the root children to leave out.

    Returns:
        Hexadecimal digest. It is the same on every device and for tied or untied listings.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if name.split(".")[0] in head:
            continue
        digest.update(f"{name}|{parameter.dtype}|{tuple(parameter.shape)}|".encode())
        data = parameter.detach().to("cpu").contiguous().reshape(-1)
        digest.update(data.view(torch.uint8).numpy().data)
    return digest.hexdigest()
