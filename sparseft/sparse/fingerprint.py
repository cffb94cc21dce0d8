"""The identity of a base model: a hash of its pretrained weights."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

__all__ = ["base_hash"]


def base_hash(
    model: nn.Module,
    head: Collection[str],
    tables: Mapping[str, Tensor] | None = None,
    names: Collection[str] | None = None,
) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of every parameter outside the head.

    Args:
        model: a model that carries no delta, or one inside `disabled` with its plain `names`.
        head: names of the root children to leave out.
        tables: what to take in place of some parameters, by their names.
        names: the only parameters that count; None: all.

    Returns:
        Hexadecimal digest. It is the same on every device and for tied or untied listings.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if name.split(".")[0] in head or (names is not None and name not in names):
            continue
        value = (tables or {}).get(name, parameter)
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        data = value.detach().to("cpu").contiguous().reshape(-1)
        digest.update(data.view(torch.uint8).numpy().data)
    return digest.hexdigest()
