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
from sparseft.saliency.scores import UnitScore, make_score
from sparseft.saliency.tokens import ConstructWeights, token_weights
from sparseft.selection.layout import ModelLayout
from sparseft.selection.units import Piece, UnitGroup

__all__ = ["Sensitivities", "magnitudes", "unit_sensitivities"]


@dataclass(frozen=True, eq=False)
class Sensitivities:
    """Scores by saliency method, aligned with the groups; and what they were taken from.

    `plain_fisher` is the Fisher without token weights of the same pass, where it was asked for.
    """

    by_saliency: Mapping[str, tuple[NDArray[np.float64], ...]]
    examples: int
    tokens: int
    mean_length: float
    plain_fisher: tuple[NDArray[np.float64], ...] = ()


@dataclass(frozen=True, eq=False)
class _Linear:
    """One linear in one batch, as the scores see it."""

    x: Tensor
    dY: Tensor
    weight: Tensor
    labels: Tensor | None


def unit_sensitivities(
    model: nn.Module,
    layout: ModelLayout,
    groups: Sequence[UnitGroup],
    batches: Iterable[Mapping[str, Tensor]],
    *,
    saliencies: Sequence[str] = ("gradient_x_input",),
    score: str = "fisher",
    plain_fisher: bool = False,
    lowest_layer: int = 0,
    block_edge: int = 32,
    seed: int = 0,
    constructs: ConstructWeights | None = None,
    loss_fn: LossFunction = loss_of,
) -> Sensitivities:
    """One number per unit: how much its weights matter for the batches' loss.

    One forward and one backward of the activations alone for each batch; no weight gradient. X
    and dY of the scored linears are held until the end of each batch, because the token weights
    are known only when the backward pass has reached the lowest layer.

    Args:
        model: returns an object with `.loss`; its modes and gradient flags are restored.
        groups: units to score; all at or above `lowest_layer`.
        batches: labelled batches; the loss must be a mean over the batch's examples.
        saliencies: token weights to score with, see `sparseft.saliency.token_saliency`; those
            that need no pass of their own come from the same one.
        score: see `sparseft.saliency.scores`.
        plain_fisher: whether to take the Fisher without token weights as well.
        lowest_layer: where the backward pass may stop.
        seed: of the random sketches of some scores.
        constructs: raw token weights for the saliency "constructs".

    Raises:
        SelectionError: no batch, a loss that is not finite, or a score that does not fit.
        ConfigError: an unknown saliency, or "constructs" without any.
    """
    totals = {name: make_score(score, edge=block_edge, seed=seed) for name in saliencies}
    plain = make_score("fisher", edge=block_edge, seed=seed) if plain_fisher else None
    pieces = {piece.module: piece for group in groups for piece in group.pieces}
    examples = tokens = padded = 0
    with frozen(model):
        for batch in batches:
            captured = captured_backward(
                model,
                layout,
                batch,
                lowest_layer=lowest_layer,
                modules=tuple(pieces),
                loss_fn=loss_fn,
            )
            mask = batch["attention_mask"]
            weights = {
                name: token_weights(
                    model,
                    batch,
                    name,
                    captured=captured,
                    constructs=constructs,
                    loss_fn=None if loss_fn is loss_of else loss_fn,
                )
                for name in saliencies
            }  # [B, S]
            for module, piece in pieces.items():
                linear = _linear(captured, layout, module, batch)
                for name in saliencies:
                    totals[name].add(piece, linear, weights[name])
                if plain is not None:
                    plain.add(piece, linear, mask.to(torch.float32))
            examples += int(mask.shape[0])
            tokens += int(mask.sum())
            padded += mask.numel()
    if examples == 0:
        raise SelectionError("expected at least one labelled batch to analyse, got none.")
    scores = {
        name: tuple(_group_score(group, totals[name]) for group in groups) for name in saliencies
    }
    reference = () if plain is None else tuple(_group_score(group, plain) for group in groups)
    return Sensitivities(scores, examples, tokens, padded / examples, reference)


def _linear(
    captured: Captured, layout: ModelLayout, module: str, batch: Mapping[str, Tensor]
) -> _Linear:
    x, dY = captured.inputs[module], captured.gradients[module]
    rows = batch["attention_mask"].numel()
    if dY.shape[0] != rows:
        raise SelectionError(
            f"expected {rows} token rows at {module}, got {dY.shape[0]}; "
            "use an attention implementation that keeps padding (sdpa or eager)."
        )
    weight = layout.modules[module].weight
    assert isinstance(weight, Tensor)
    # The loss is a batch mean: times the batch size makes every example count alike.
    return _Linear(x, dY * len(batch["attention_mask"]), weight, batch.get("labels"))


def _group_score(group: UnitGroup, total: UnitScore) -> NDArray[np.float64]:
    score = torch.zeros(group.count, dtype=torch.float64)
    for piece in group.pieces:
        entries = total.entries(piece)
        score += entries if piece.index is None else entries[piece.index].sum(1)
    return score.numpy()


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
