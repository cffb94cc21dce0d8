"""The cases: which sizes each operation is measured at, and in which order.

The order is such that a run that stops early leaves a useful table: first the corners of the grid
and its middle (`quick`), then finer and finer; all operations advance together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["DENSITIES", "TOKENS", "WIDTHS", "Axes", "Case", "grid", "interleave", "quick_points"]

# Each axis from the most to the least informative value: the order is the order of refinement.
WIDTHS = (1024, 4096, 384, 2048, 768)
TOKENS = (4096, 256, 32768, 1024, 16384)
DENSITIES = (0.05, 0.005, 0.20, 0.01, 0.10, 0.02)


@dataclass(frozen=True)
class Axes:
    """Which axes an operation has: an optimizer has no tokens, a score no density."""

    widths: tuple[int, ...] = WIDTHS
    tokens: tuple[int, ...] = TOKENS
    densities: tuple[float, ...] = DENSITIES


@dataclass(frozen=True)
class Case:
    """One measurement of one operation.

    Attributes:
        operation: such as "masked_grad.rows".
        dtype: of activations (of weights, for optimizers and swaps), such as "bfloat16".
        d: width of the square weights; of an embedding row.
        tokens: of the batch; 0 where the operation has none.
        density: share selected; 0 where the operation has none.
        options: further sizes, such as (("edge", 32),).
    """

    operation: str
    dtype: str
    d: int
    tokens: int
    density: float
    options: tuple[tuple[str, int | str], ...] = ()

    @property
    def key(self) -> str:
        """A readable name that no other case has."""
        extra = "".join(f" {name}={value}" for name, value in self.options)
        return (
            f"{self.operation} {self.dtype} d={self.d} tokens={self.tokens} "
            f"density={self.density:g}{extra}"
        )

    def option(self, name: str) -> int | str:
        """One of the options."""
        return dict(self.options)[name]


def quick_points(axes: Axes) -> list[tuple[int, int, float]]:
    """Corners of the grid, its middle, and two sizes that models have: (d, tokens, density)."""
    middle = (axes.widths[0], axes.tokens[0], axes.densities[0])
    corners = [
        (d, tokens, density)
        for d in sorted({min(axes.widths), max(axes.widths)})
        for tokens in sorted({min(axes.tokens), max(axes.tokens)})
        for density in sorted({min(axes.densities), max(axes.densities)})
    ]
    known = [
        (d, tokens, density)
        for d, tokens, density in ((768, 4096, 0.05), (2048, 16384, 0.02))
        if d in axes.widths and tokens in axes.tokens and density in axes.densities
    ]
    return list(dict.fromkeys([middle, *known, *corners]))


def grid(axes: Axes, quick: bool) -> list[tuple[int, int, float]]:
    """The points of an operation in their order: the quick ones, then from the middle outwards."""
    first = quick_points(axes)
    if quick:
        return first
    ranked = sorted(
        ((i + j + k, i, j, k), (d, tokens, density))
        for i, d in enumerate(axes.widths)
        for j, tokens in enumerate(axes.tokens)
        for k, density in enumerate(axes.densities)
    )
    return list(dict.fromkeys([*first, *(point for _, point in ranked)]))


def interleave(lists: Iterable[Sequence[Case]]) -> list[Case]:
    """One from each list in turn, until all are used up."""
    rounds = itertools.zip_longest(*lists)
    return [case for row in rounds for case in row if case is not None]
