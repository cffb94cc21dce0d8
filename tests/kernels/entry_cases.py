"""Weights with selected entries of every structure, for the tests of what writes them."""

from __future__ import annotations

import torch
from torch import Tensor

from sparseft_kernels.entries import Entries
from tests.kernels.common import some

# Structure, shape of the weight, edge; with quads of neighbours and without.
CASES = (
    ("rows", (20, 12), 0),
    ("rows", (9, 7), 0),
    ("embedding", (30, 16), 0),
    ("columns", (16, 33), 0),
    ("blocks", (32, 48), 16),
    ("blocks", (6, 9), 3),
    ("elements", (9, 70), 0),
    ("elements", (33,), 0),
)


def limit_of(structure: str, shape: tuple[int, ...], edge: int) -> int:
    """How many units of a structure a weight has."""
    if structure in ("rows", "embedding"):
        return shape[0]
    if structure == "columns":
        return shape[1]
    if structure == "blocks":
        return (shape[0] // edge) * (shape[1] // edge)
    return shape[0] * (shape[1] if len(shape) == 2 else 1)


def select(
    structure: str, weight: Tensor, edge: int, share: float, seed: int, wide: bool = False
) -> Entries:
    """A random share of a weight's units; `wide` indices are int64."""
    limit = limit_of(structure, tuple(weight.shape), edge)
    index = some(limit, share, seed, weight.device)
    return Entries(weight, structure, index.long() if wide else index, edge)


def model_entries(
    dtype: torch.dtype, device: torch.device, share: float, seed: int, misaligned: bool = False
) -> list[Entries]:
    """One weight of every case; `misaligned` weights begin at no multiple of 16 bytes."""
    found = []
    for number, (structure, shape, edge) in enumerate(CASES):
        generator = torch.Generator().manual_seed(seed + number)
        memory = torch.randn(torch.Size(shape).numel() + 1, generator=generator)
        memory = memory.to(device, dtype)
        weight = memory[1:] if misaligned else memory[1:].clone()
        weight = weight.view(shape)
        found.append(select(structure, weight, edge, share, seed + number, wide=number % 2 == 1))
    return found
