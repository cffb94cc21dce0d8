"""Token-weighted sensitivities against a dense weight gradient and against plain torch."""

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
)
from bench.cases import TOKENS, WIDTHS, Axes, Case
from sparseft_kernels import unit_scores

__all__ = ["ADAPTERS"]

_EDGES = (16, 64)
_AXES = Axes(WIDTHS, TOKENS, (0.0,))
_WITH_RESULT_OF_W = Axes(WIDTHS, (4096, 256, 32768), (0.0,))


def _inputs(case: Case, device: torch.device, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """dY [T, d], X [T, d], w [T]."""
    generator = generator_for(case, device, seed)
    dtype = dtype_of(case)
    dY = random(case.tokens, case.d, generator=generator, dtype=dtype, scale=0.1)
    X = random(case.tokens, case.d, generator=generator, dtype=dtype)
    return dY, X, torch.rand(case.tokens, generator=generator, device=device)


def _squares_of_dense(dY: Tensor, X: Tensor) -> Rival:
    """What is done elsewhere: the batch's whole dW, then its squares. Another quantity, which
    knows no tokens."""

    def run() -> list[Tensor]:
        squares = (dY.t() @ X).float().square_()
        return [squares.sum(1), squares.sum(0)]

    return Rival(lambda: run, checked=False)


def _rows_and_columns(case: Case, device: torch.device, seed: int) -> Problem:
    dY, X, w = _inputs(case, device, seed)
    rows, columns = (torch.zeros(case.d, device=device) for _ in range(2))

    def expected() -> list[Tensor]:
        y, x = dY.double(), X.double()
        return [
            (w.double() * x.square().sum(1)) @ y.square(),
            (w.double() * y.square().sum(1)) @ x.square(),
        ]

    def added() -> list[Tensor]:
        unit_scores.accumulate_(dY, X, w, rows=rows, columns=columns)
        return [rows, columns]

    return Problem(
        run=lambda: list(unit_scores.rows_and_columns(dY, X, w)),
        expected=expected,
        bytes=bytes_of(dY, X, w),
        rivals={"dense": _squares_of_dense(dY, X)},
        variants={"into": added, "rows": lambda: [unit_scores.rows(dY, X, w)]},
    )


def _energies(dY: Tensor, X: Tensor, w: Tensor) -> Tensor:
    """[n, k] in float64."""
    return (w.double()[:, None] * dY.double().square()).t() @ X.double().square()


def _blocks(case: Case, device: torch.device, seed: int) -> Problem:
    dY, X, w = _inputs(case, device, seed)
    edge = int(case.option("edge"))
    side = case.d // edge
    return Problem(
        run=lambda: [unit_scores.blocks(dY, X, w, edge)],
        expected=lambda: [
            _energies(dY, X, w).reshape(side, edge, side, edge).sum((1, 3)).reshape(-1)
        ],
        bytes=bytes_of(dY, X, w),
        rivals={"dense": _squares_of_dense(dY, X)},
    )


def _elements(case: Case, device: torch.device, seed: int) -> Problem:
    dY, X, w = _inputs(case, device, seed)
    return Problem(
        run=lambda: [unit_scores.elements(dY, X, w)],
        expected=lambda: [_energies(dY, X, w).reshape(-1)],
        bytes=bytes_of(dY, X, w),
        rivals={"dense": _squares_of_dense(dY, X)},
    )


ADAPTERS = (
    Adapter(
        "unit_scores.rows_and_columns",
        _rows_and_columns,
        axes=_AXES,
        better_of=("dense",),
        reference_is_timed=True,
        compiled_widths=(384, 768, 1024, 2048, 4096, 14336),
    ),
    Adapter(
        "unit_scores.blocks",
        _blocks,
        axes=_WITH_RESULT_OF_W,
        options=tuple((("edge", edge),) for edge in _EDGES),
        dtypes=("bfloat16",),
    ),
    Adapter("unit_scores.elements", _elements, axes=_WITH_RESULT_OF_W, dtypes=("bfloat16",)),
)
