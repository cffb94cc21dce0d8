"""The gradient of selected embedding rows against the dense [V, d] one.

The batch's words follow Zipf's law over the selected rows: all tokens hit, which is the most that
there can be to do, and a few rows take most of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.adapters.common import (
    Adapter,
    Problem,
    Rival,
    bytes_of,
    dtype_of,
    generator_for,
    random,
    selected,
    selected_count,
)
from bench.cases import Axes, Case
from sparseft_kernels import embedding_grad

__all__ = ["ADAPTERS", "VOCABULARY"]

VOCABULARY = 32768


def _rows(case: Case, device: torch.device, seed: int) -> Problem:
    generator = generator_for(case, device, seed)
    dY = random(case.tokens, case.d, generator=generator, dtype=dtype_of(case), scale=0.1)
    m = selected_count(VOCABULARY, case.density)
    index = selected(VOCABULARY, m, generator)
    shares = 1.0 / torch.arange(1, m + 1, device=device, dtype=torch.float32)
    drawn = torch.multinomial(shares, case.tokens, replacement=True, generator=generator)
    ids = index.index_select(0, drawn).long()
    into = torch.zeros(m, case.d, device=device)

    def dense() -> list[Tensor]:
        whole = torch.ops.aten.embedding_dense_backward(dY, ids, VOCABULARY, -1, False)
        return [whole.index_select(0, index)]

    def expected() -> list[Tensor]:
        out = torch.zeros(m, case.d, dtype=torch.float64, device=device)
        return [out.index_add_(0, drawn, dY.double())]

    return Problem(
        run=lambda: [embedding_grad.embedding_rows(dY, ids, index)],
        expected=expected,
        bytes=bytes_of(dY, ids, index),
        # It sums in the dtype of dY, and rounds each time; some versions of it wait for the device.
        rivals={"dense": Rival(lambda: dense, checked=False, graph=False)},
        variants={"into": lambda: [embedding_grad.embedding_rows(dY, ids, index, into=into)]},
    )


ADAPTERS = (
    Adapter(
        "embedding_grad.embedding_rows",
        _rows,
        # Up to 6554 rows; a selection seldom has more.
        axes=Axes(densities=(0.01, 0.001, 0.20)),
        better_of=("dense",),
    ),
)
