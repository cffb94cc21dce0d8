"""What a unit is worth, from X and dY of the linears: one small accumulator for each score.

| score | of a unit with weights W and token-weighted gradients G_i of example i |
|---|---|
| fisher | sum over tokens of the squared gradient: the empirical Fisher's diagonal, by token |
| scaled_fisher | the same, each entry times its squared weight |
| first_order | mean over examples of abs(sum W * G_i): the change of the loss when W goes to zero |
| agreement | mean over pairs of different examples of the inner product of G_i and G_j |
| class_agreement | the same over pairs of one class |

`agreement` is an unbiased estimate of the squared norm of the expected gradient, which is what a
step of gradient descent on this unit gains for examples that the step has not seen; `fisher` also
counts what examples want one against the other. An example's own square is left out of
`agreement`, so a unit that only separates noise has an expected score of zero, and may be negative.

Sources: Fisher, Sung et al. 2021 (arXiv 2111.09839); first order, Molchanov et al. 2019
(arXiv 1906.10771); agreement over pairs of examples, gradient coherence, Chatterjee 2020
(arXiv 2002.10657) and the U-statistic of Hoeffding 1948; sketches, Johnson and Lindenstrauss 1984.

Legend: T tokens = B x S, n outputs, k inputs, s sketch width, E entries of a piece.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from sparseft.errors import SelectionError
from sparseft.selection.units import Piece
from sparseft_kernels import embedding_grad, unit_scores

__all__ = ["Sample", "Score", "UnitScore", "make_score"]

Score = Literal["fisher", "scaled_fisher", "first_order", "agreement", "class_agreement"]

_SKETCH = 128  # the product of the norms, divided by its root, is the error of an inner product


class Sample(Protocol):
    """One linear in one batch."""

    @property
    def x(self) -> Tensor: ...  # [T, k], or ids [T] of an embedding

    @property
    def dY(self) -> Tensor: ...  # [T, n], of the mean loss times the batch size

    @property
    def weight(self) -> Tensor: ...  # [n, k]

    @property
    def labels(self) -> Tensor | None: ...  # [B]


class UnitScore(Protocol):
    """Adds up batches, then gives one number per entry (row, column, block, …) of every piece."""

    def add(self, piece: Piece, sample: Sample, tokens: Tensor) -> None:
        """Add one linear of one batch; `tokens` [B, S] are the token weights."""
        ...

    def entries(self, piece: Piece) -> Tensor:
        """float64 [E], a mean over examples or pairs."""
        ...


def make_score(name: str, *, edge: int, seed: int) -> UnitScore:
    """An empty accumulator.

    Args:
        name: see the table of this file.
        edge: of blocks.
        seed: of the sketches.

    Raises:
        SelectionError: unknown name.
    """
    if name == "fisher":
        return _Fisher(edge)
    if name == "scaled_fisher":
        return _ScaledFisher()
    if name == "first_order":
        return _FirstOrder()
    if name in ("agreement", "class_agreement"):
        return _Agreement(by_class=name == "class_agreement", seed=seed)
    raise SelectionError(
        f"expected a score of {', '.join(get_args(Score))}, got {name!r}; correct `score`."
    )


class _Totals:
    """float accumulators by module, and the number of examples seen at each."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.examples: dict[str, int] = {}

    def of(self, piece: Piece, like: Tensor, *widths: int) -> Tensor:
        if piece.module not in self.sums:
            wide = torch.promote_types(like.dtype, torch.float32)
            self.sums[piece.module] = like.new_zeros((piece.entries, *widths), dtype=wide)
        return self.sums[piece.module]

    def seen(self, piece: Piece, examples: int) -> None:
        self.examples[piece.module] = self.examples.get(piece.module, 0) + examples

    def mean(self, piece: Piece) -> Tensor:
        return self.sums[piece.module].to("cpu", torch.float64) / self.examples[piece.module]


class _Fisher:
    """E[w dW_t^2] summed over an entry's weights: factorises over tokens, so needs no dW."""

    def __init__(self, edge: int) -> None:
        self.totals = _Totals()
        self.edge = edge

    def add(self, piece: Piece, sample: Sample, tokens: Tensor) -> None:
        x, dY, weights = sample.x, sample.dY, tokens.reshape(-1)  # [T]
        like = (
            dY
            if not x.is_floating_point()
            else dY.new_empty(0, dtype=torch.promote_types(dY.dtype, x.dtype))
        )
        total = self.totals.of(piece, like)
        self.totals.seen(piece, tokens.shape[0])
        if piece.structure == "rows":
            unit_scores.accumulate_(dY, x, weights, rows=total)
        elif piece.structure == "columns":
            unit_scores.accumulate_(dY, x, weights, columns=total)
        elif piece.structure == "blocks":
            total += unit_scores.blocks(dY, x, weights, self.edge)
        elif piece.structure == "elements":
            total += unit_scores.elements(dY, x, weights)
        else:
            energy = (weights.to(total.dtype) * dY.to(total.dtype).square().sum(1))[:, None]
            every_row = torch.arange(piece.entries, device=x.device)
            embedding_grad.embedding_rows(energy, x, every_row, into=total[:, None])

    def entries(self, piece: Piece) -> Tensor:
        return self.totals.mean(piece)


class _ScaledFisher:
    """E[w (W dW_t)^2]: what matters where relative, not absolute, changes of weights are equal."""

    def __init__(self) -> None:
        self.totals = _Totals()

    def add(self, piece: Piece, sample: Sample, tokens: Tensor) -> None:
        _only(piece, "scaled_fisher", "rows", "columns")
        x, dY, W = sample.x.float(), sample.dY.float(), sample.weight.detach().float().square()
        weights = tokens.reshape(-1, 1)
        total = self.totals.of(piece, dY)
        self.totals.seen(piece, tokens.shape[0])
        if piece.structure == "rows":
            total += (weights * dY.square() * (x.square() @ W.T)).sum(0)
        else:
            total += (weights * x.square() * (dY.square() @ W)).sum(0)

    def entries(self, piece: Piece) -> Tensor:
        return self.totals.mean(piece)


class _FirstOrder:
    """Mean over examples of abs(sum over the entry's weights of W * G_i)."""

    def __init__(self) -> None:
        self.totals = _Totals()

    def add(self, piece: Piece, sample: Sample, tokens: Tensor) -> None:
        _only(piece, "first_order", "rows", "columns")
        x, dY, W = sample.x.float(), sample.dY.float(), sample.weight.detach().float()
        weights = tokens.reshape(-1, 1)
        product = dY * (x @ W.T) if piece.structure == "rows" else x * (dY @ W)  # [T, E]
        each = (weights * product).reshape(*tokens.shape, -1).sum(1)  # [B, E]
        self.totals.of(piece, dY).add_(each.abs().sum(0))
        self.totals.seen(piece, tokens.shape[0])

    def entries(self, piece: Piece) -> Tensor:
        return self.totals.mean(piece)


class _Agreement:
    """Mean of <G_i, G_j> over pairs i != j, from sums of sketched gradients and of their squares.

    |sum_i G_i|^2 - sum_i |G_i|^2 is the sum over ordered pairs. G_i of an entry is multiplied by a
    random sign matrix with s columns, which keeps inner products in expectation, so that memory is
    E x s instead of E x k. Where k <= s the gradient itself is kept.
    """

    def __init__(self, by_class: bool, seed: int) -> None:
        self.by_class = by_class
        self.seed = seed
        self.sums: dict[str, dict[int, Tensor]] = {}  # module -> class -> [E, s]
        self.squares: dict[str, Tensor] = {}  # module -> [E]
        self.counts: dict[str, dict[int, int]] = {}
        self.signs: dict[str, Tensor | None] = {}

    def add(self, piece: Piece, sample: Sample, tokens: Tensor) -> None:
        name = "class_agreement" if self.by_class else "agreement"
        _only(piece, name, "rows", "columns")
        B, S = tokens.shape
        own, other = sample.dY.float(), sample.x.float()
        if piece.structure == "columns":
            own, other = other, own
        signs = self._signs(piece, other)
        if signs is not None:
            other = other @ signs  # [T, s]
        own = own * tokens.reshape(-1, 1)
        # One gradient per example and entry: [B, E, s].
        each = torch.bmm(own.reshape(B, S, -1).transpose(1, 2), other.reshape(B, S, -1))
        squares = each.square().sum((0, 2))
        module = piece.module
        if module not in self.squares:
            self.squares[module] = torch.zeros_like(squares)
            self.sums[module], self.counts[module] = {}, {}
        self.squares[module] += squares
        for label, rows in self._classes(sample, B):
            part = each.sum(0) if rows is None else each[rows].sum(0)
            known = self.sums[module].get(label)
            self.sums[module][label] = part if known is None else known.add_(part)
            count = B if rows is None else int(rows.numel())
            self.counts[module][label] = self.counts[module].get(label, 0) + count

    def entries(self, piece: Piece) -> Tensor:
        counts = self.counts[piece.module]
        pairs = sum(count * (count - 1) for count in counts.values())
        if pairs == 0:
            raise SelectionError(
                "expected at least two examples "
                + ("of one class " if self.by_class else "")
                + f"to compare, got {sum(counts.values())} examples; analyse more batches, or use "
                "score='fisher'."
            )
        total = -self.squares[piece.module].to("cpu", torch.float64)
        for part in self.sums[piece.module].values():
            total += part.square().sum(1).to("cpu", torch.float64)
        return total / pairs

    def _classes(self, sample: Sample, rows: int) -> list[tuple[int, Tensor | None]]:
        if not self.by_class:
            return [(0, None)]
        labels = sample.labels
        if labels is None or labels.ndim != 1:
            raise SelectionError(
                "expected one label for each text with score='class_agreement', got "
                f"{'none' if labels is None else 'several'}; use score='agreement'."
            )
        return [(int(c), (labels == c).nonzero()[:, 0]) for c in labels.unique()]

    def _signs(self, piece: Piece, other: Tensor) -> Tensor | None:
        """[k, s] of plus and minus 1 / sqrt(s), the same in every batch; None where k <= s."""
        if piece.module not in self.signs:
            width = other.shape[1]
            generator = torch.Generator().manual_seed(self.seed)
            signs = torch.randint(0, 2, (width, _SKETCH), generator=generator) * 2 - 1
            scaled = (signs / _SKETCH**0.5).to(other.device)
            self.signs[piece.module] = scaled if width > _SKETCH else None
        return self.signs[piece.module]


def _only(piece: Piece, score: str, *structures: str) -> None:
    if piece.structure not in structures:
        raise SelectionError(
            f"expected units of {' and '.join(structures)} (rows, columns, neurons, heads) for "
            f"score={score!r}, got {piece.structure}; change `units`, or use score='fisher'."
        )
