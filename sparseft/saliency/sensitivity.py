"""One sensitivity per unit from activations and output gradients, weighted by token saliency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparseft.errors import SelectionError
from sparseft.saliency.capture import Captured, LossFunction, captured_backward, frozen, loss_of
from sparseft.saliency.tokens import saliency_of
from sparseft.selection.layout import ModelLayout
from sparseft.selection.units import Piece, UnitGroup
from sparseft_kernels import embedding_grad, unit_scores

__all__ = ["Sensitivities", "magnitudes", "unit_sensitivities"]


@dataclass(frozen=True, eq=False)
class Sensitivities:
    """Scores by saliency method, aligned with the groups; and what they were taken from."""

    by_saliency: Mapping[str, tuple[NDArray[np.float64], ...]]
    examples: int
    tokens: int
    mean_length: float


def unit_sensitivities(
    model: nn.Module,
    layout: ModelLayout,
    groups: Sequence[UnitGroup],
    batches: Iterable[Mapping[str, Tensor]],
    *,
    saliencies: Sequence[str] = ("gradient_x_input",),
    lowest_layer: int = 0,
    block_edge: int = 32,
    loss_fn: LossFunction = loss_of,
) -> Sensitivities:
    """Token-weighted empirical Fisher of every unit: sum over its entries of E[w dW_t^2].

    One forward and one backward of the activations alone for each batch; no weight gradient. X
    and dY of the scored linears are held until the end of each batch, because the token weights
    are known only when the backward pass has reached the lowest layer.

    Args:
        model: returns an object with `.loss`; its modes and gradient flags are restored.
        groups: units to score; all at or above `lowest_layer`.
        batches: labelled batches; the loss must be a mean over the batch's examples.
        saliencies: token weights to score with, all from the same pass.
        lowest_layer: where the backward pass may stop.

    Raises:
        SelectionError: no batch, or a loss that is not finite.
    """
    totals: dict[str, dict[str, Tensor]] = {name: {} for name in saliencies}
    pieces = _distinct_pieces(groups)
    modules = tuple(pieces)
    examples = tokens = padded = 0
    with frozen(model):
        for batch in batches:
            captured = captured_backward(
                model, layout, batch, lowest_layer=lowest_layer, modules=modules, loss_fn=loss_fn
            )
            mask = batch["attention_mask"]
            size = int(mask.shape[0])
            for name in saliencies:
                weights = saliency_of(captured, mask, name).reshape(-1)  # [T]
                # The loss is a batch mean: times the batch size makes every example count alike.
                _accumulate(totals[name], pieces, captured, weights * float(size) ** 2, block_edge)
            examples += size
            tokens += int(mask.sum())
            padded += mask.numel()
    if examples == 0:
        raise SelectionError("expected at least one labelled batch to analyse, got none.")
    scores = {
        name: tuple(_group_score(group, totals[name], examples) for group in groups)
        for name in saliencies
    }
    return Sensitivities(scores, examples, tokens, padded / examples)


def _distinct_pieces(groups: Sequence[UnitGroup]) -> dict[str, Piece]:
    return {piece.module: piece for group in groups for piece in group.pieces}


def _accumulate(
    totals: dict[str, Tensor],
    pieces: Mapping[str, Piece],
    captured: Captured,
    weights: Tensor,
    edge: int,
) -> None:
    """Add the scores of one batch to the entries of every piece: each total is [entries]."""
    for name, piece in pieces.items():
        x, dY = captured.inputs[name], captured.gradients[name]
        if dY.shape[0] != weights.shape[0]:
            raise SelectionError(
                f"expected {weights.shape[0]} token rows at {piece.module}, got {dY.shape[0]}; "
                "use an attention implementation that keeps padding (sdpa or eager)."
            )
        if name not in totals:
            widest = torch.promote_types(torch.promote_types(dY.dtype, x.dtype), torch.float32)
            totals[name] = dY.new_zeros(piece.entries, dtype=widest)
        _add_entry_scores(totals[name], piece, x, dY, weights, edge)


def _add_entry_scores(
    total: Tensor, piece: Piece, x: Tensor, dY: Tensor, weights: Tensor, edge: int
) -> None:
    if piece.structure == "rows":
        unit_scores.accumulate_(dY, x, weights, rows=total)
    elif piece.structure == "columns":
        unit_scores.accumulate_(dY, x, weights, columns=total)
    elif piece.structure == "blocks":
        total += unit_scores.blocks(dY, x, weights, edge)
    elif piece.structure == "elements":
        total += unit_scores.elements(dY, x, weights)
    else:
        energy = (weights.to(total.dtype) * dY.to(total.dtype).square().sum(1))[:, None]  # [T, 1]
        every_row = torch.arange(piece.entries, device=x.device)
        embedding_grad.embedding_rows(energy, x, every_row, into=total[:, None])


def _group_score(
    group: UnitGroup, totals: Mapping[str, Tensor], examples: int
) -> NDArray[np.float64]:
    total = torch.zeros(group.count, dtype=torch.float64)
    for piece in group.pieces:
        entries = totals[piece.module].to("cpu", torch.float64) / examples
        total += entries if piece.index is None else entries[piece.index].sum(1)
    return total.numpy()


def magnitudes(layout: ModelLayout, groups: Sequence[UnitGroup], edge: int) -> list[Any]:
    """Sum of squared weights of every unit: the data-free control. One array per group."""
    scores = []
    for group in groups:
        total = torch.zeros(group.count, dtype=torch.float64)
        for piece in group.pieces:
            weight = layout.modules[piece.module].weight
            assert isinstance(weight, Tensor)
            entries = _entry_energy(piece, weight.detach().to("cpu", torch.float64), edge)
            total += entries if piece.index is None else entries[piece.index].sum(1)
        scores.append(total.numpy())
    return scores


def _entry_energy(piece: Piece, weight: Tensor, edge: int) -> Tensor:
    square = weight.square()
    if piece.structure in ("rows", "embedding"):
        return square.sum(1)
    if piece.structure == "columns":
        return square.sum(0)
    if piece.structure == "elements":
        return square.reshape(-1)
    n, k = square.shape
    return square.reshape(n // edge, edge, k // edge, edge).sum((1, 3)).reshape(-1)
