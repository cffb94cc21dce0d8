"""Swapping a model's trained values against copying whole weights and against torch's copies."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.adapters.common import Adapter, Problem, Rival, Run, generator_for, random
from bench.adapters.sparse_adamw import model_entries
from bench.cases import DENSITIES, WIDTHS, Axes, Case
from sparseft_kernels import delta_swap
from sparseft_kernels.entries import read, write

__all__ = ["ADAPTERS"]


def _swap(case: Case, device: torch.device, seed: int) -> Problem:
    generator = generator_for(case, device, seed)
    entries = model_entries(case, generator)
    buffers = [
        random(*one.shape, generator=generator, dtype=one.weight.dtype) for one in entries
    ]  # fmt: skip
    results = [t for i in (0, -1) for t in (entries[i].weight, buffers[i])]

    def exchange() -> list[Tensor]:
        with torch.no_grad():
            delta_swap.swap_(entries, buffers)
        return results

    def both_ways() -> list[Tensor]:
        with torch.no_grad():
            delta_swap.read_(entries, buffers)
            delta_swap.write_(entries, buffers)
        return results

    def expected() -> list[Tensor]:
        found = []
        for i in (0, -1):
            weight = entries[i].weight.clone()
            write(weight, *entries[i][1:], buffers[i])
            found += [weight, read(*entries[i])]
        return found

    def dense() -> Run:
        """Another model's whole weights over this one's, as a merged checkpoint needs it."""
        weights = [one.weight for one in entries]
        others = [weight.clone() for weight in weights]

        def copy() -> list[Tensor]:
            for weight, other in zip(weights, others, strict=True):
                weight.copy_(other)
            return []

        return copy

    def copies() -> Run:
        indices = [one.index.long() for one in entries]

        def exchange() -> list[Tensor]:
            for one, index, buffer in zip(entries, indices, buffers, strict=True):
                old = read(one.weight, one.structure, index, one.edge)
                write(one.weight, one.structure, index, one.edge, buffer)
                buffer.copy_(old)
            return results

        return exchange

    size = entries[0].weight.element_size()
    return Problem(
        run=exchange,
        expected=expected,
        bytes=sum(4 * size * buffer.numel() for buffer in buffers),
        rivals={"dense": Rival(dense, checked=False), "copies": Rival(copies)},
        variants={"read and write": both_ways},
        exact=True,
        most_sets=64,
    )


ADAPTERS = (
    Adapter(
        "delta_swap",
        _swap,
        axes=Axes(WIDTHS, (0,), DENSITIES),
        options=((("structure", "rows"),), (("structure", "elements"),)),
        dtypes=("bfloat16", "float32"),
        better_of=("dense", "copies"),
    ),
)
