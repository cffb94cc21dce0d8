"""Deletion and insertion curves: does the answer go with the salient tokens, and come with them?

Petsiuk et al. 2018 (arXiv 1806.07421), on tokens. A saliency that knows what the model reads makes
the true class's probability fall sooner than a random order where tokens are deleted, and rise
sooner where they are put into an emptied text.

Legend: B rows, S positions, P + 1 points of a curve, N texts, V variants of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparseft.errors import ConfigError, SelectionError
from sparseft.saliency.areas import Comparison, against_random, area
from sparseft.saliency.capture import frozen
from sparseft.saliency.target import (
    Target,
    gold_probability,
    is_multi_label,
    logits_of,
    target_labels,
)

__all__ = ["CurveSet", "Curves", "saliency_curves"]

Weigh = Callable[[Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True, eq=False)
class Curves:
    """The true class's probability of every text while tokens go, and while they come.

    Attributes:
        deletion: float64 [N, P + 1]; point i lacks the i / P most salient tokens.
        insertion: float64 [N, P + 1]; point i has these alone.
    """

    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]

    @property
    def deletion_area(self) -> NDArray[np.float64]:
        """The area under each text's deletion curve, [N], of 0 to 1; the less, the better."""
        return area(self.deletion)

    @property
    def insertion_area(self) -> NDArray[np.float64]:
        """The area under each text's insertion curve, [N], of 0 to 1; the more, the better."""
        return area(self.insertion)


@dataclass(frozen=True, eq=False)
class CurveSet:
    """The curves of each saliency and of random orders, of the same texts.

    Attributes:
        by_method: the curves of each saliency by its name.
        random: those of one random order for each seed.
        tokens: int64 [N], how many tokens of each text could be removed.
    """

    by_method: Mapping[str, Curves]
    random: tuple[Curves, ...]
    tokens: NDArray[np.int64]

    def deletion(self, method: str, *, resamples: int = 10_000, seed: int = 0) -> Comparison:
        """The method's deletion areas against the random orders'; below 0 is better."""
        others = np.stack([curves.deletion_area for curves in self.random])
        mine = self.by_method[method].deletion_area
        return against_random(mine, others, resamples=resamples, seed=seed)

    def insertion(self, method: str, *, resamples: int = 10_000, seed: int = 0) -> Comparison:
        """The method's insertion areas against the random orders'; above 0 is better."""
        others = np.stack([curves.insertion_area for curves in self.random])
        mine = self.by_method[method].insertion_area
        return against_random(mine, others, resamples=resamples, seed=seed)


def saliency_curves(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    weigh: Mapping[str, Weigh],
    *,
    replacement: int,
    special_ids: Collection[int] = (),
    points: int = 10,
    seeds: Sequence[int] = (0, 1, 2),
    target: Target = "label",
    batch_size: int = 64,
) -> CurveSet:
    """Deletion and insertion curves of saliencies, and of random orders of the same texts.

    A deleted token becomes `replacement` in its place, so positions and lengths stay. Equal weights
    are put in a random order. Texts that come about twice (all orders begin with the same one) are
    run once. A text without a token to remove has flat curves and counts.

    Args:
        model: a classifier, such as the finetuned one; unchanged.
        batches: input_ids, attention_mask [B, S], labels.
        weigh: by name, a function of a batch that gives token weights [B, S].
        replacement: the id of the tokenizer's mask token, or of its padding token.
        special_ids: tokens that are never removed, such as [CLS] and [SEP].
        points: P, steps of each curve.
        seeds: of the random orders, one order for each; also of the order of ties.
        target: whose probability is followed.
        batch_size: texts in one forward pass.

    Raises:
        ConfigError: no point, seed or batch size, or weights that do not fit the batch.
        SelectionError: no batch, or labels are missing.
    """
    if points < 1 or batch_size < 1 or not seeds:
        raise ConfigError(
            "expected points and batch_size of 1 or more and at least one seed, got "
            f"{points}, {batch_size} and {list(seeds)}; change them."
        )
    found: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
    tokens: list[NDArray[np.int64]] = []
    row = 0
    for batch in batches:
        mask, ids = batch["attention_mask"].bool(), batch["input_ids"]
        special = torch.tensor(sorted(special_ids), dtype=ids.dtype, device=ids.device)
        ordinary = (mask & ~torch.isin(ids, special)).cpu().numpy()
        orders = {("", seed): _draws(ordinary, seed, row) for seed in seeds}
        for name, function in weigh.items():
            orders[name, seeds[0]] = _checked(function(batch), name, mask)
        ranks = [
            _ranks(weights, ordinary, _draws(ordinary, seed, row, of_ties=True))
            for (_, seed), weights in orders.items()
        ]
        probability = _run(
            model, batch, np.stack(ranks), ordinary, points, replacement, target, batch_size
        )
        for key, curves in zip(orders, probability, strict=True):
            found.setdefault(key, []).append(curves)
        tokens.append(ordinary.sum(1))
        row += len(ordinary)
    if not tokens:
        raise SelectionError(
            "expected at least one batch of texts to remove tokens from, got none."
        )
    joined = {key: Curves(*np.concatenate(parts, axis=1)) for key, parts in found.items()}
    return CurveSet(
        {name: curves for (name, _), curves in joined.items() if name},
        tuple(joined["", seed] for seed in seeds),
        np.concatenate(tokens),
    )


def _draws(
    ordinary: NDArray[np.bool_], seed: int, first: int, of_ties: bool = False
) -> NDArray[np.float64]:
    """Uniform draws [B, S] on the ordinary tokens; of a text alone, whatever its batch."""
    drawn = np.zeros(ordinary.shape)
    for place, here in enumerate(ordinary):
        generator = np.random.default_rng([seed, int(of_ties), first + place])
        drawn[place, here] = generator.random(int(here.sum()))
    return drawn


def _checked(weights: Tensor, name: str, mask: Tensor) -> NDArray[np.float64]:
    if weights.shape != mask.shape or not bool(torch.isfinite(weights).all()):
        raise ConfigError(
            f"expected finite weights {list(mask.shape)} from {name!r}, got {list(weights.shape)}"
            f"{'' if weights.shape != mask.shape else ' with values that are not'}; correct it."
        )
    return weights.detach().double().cpu().numpy()


def _ranks(
    weights: NDArray[np.float64], ordinary: NDArray[np.bool_], ties: NDArray[np.float64]
) -> NDArray[np.int64]:
    """0 for the heaviest ordinary token of each row, and so on; the others come last: [B, S]."""
    order = np.lexsort((ties, -weights, ~ordinary), axis=-1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None, :], axis=1)
    return ranks


def _run(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    ranks: NDArray[np.int64],
    ordinary: NDArray[np.bool_],
    points: int,
    replacement: int,
    target: Target,
    batch_size: int,
) -> NDArray[np.float64]:
    """Probabilities [orders, 2, B, P + 1]: deletion, then insertion."""
    count = ordinary.sum(1)  # [B]
    kept = np.floor(count * np.arange(points + 1)[:, None] / points + 0.5)  # [P + 1, B]
    salient = ranks[:, None] < kept[None, :, :, None]  # [orders, P + 1, B, S]
    removed = torch.from_numpy(np.stack([salient, ~salient], axis=1) & ordinary)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    variants = ids.masked_fill(removed.to(ids.device), replacement).flatten(0, -2)  # [V, S]
    copies = len(variants) // len(ids)
    rows = torch.cat([variants, mask.to(ids.dtype).repeat(copies, 1)], dim=1)  # [V, 2 S]
    distinct, back = rows.unique(dim=0, return_inverse=True)
    with frozen(model), torch.no_grad():
        labels = target_labels(model, batch, target)
        logits = torch.cat(
            [
                logits_of(model, {"input_ids": part, "attention_mask": shown})
                for part, shown in zip(
                    distinct[:, : ids.shape[1]].split(batch_size),
                    distinct[:, ids.shape[1] :].to(mask.dtype).split(batch_size),
                    strict=True,
                )
            ]
        )
        several = is_multi_label(model, batch)
        everyone = labels.repeat(copies, *[1] * (labels.ndim - 1))
        found = gold_probability(logits[back], everyone, several)
    shape = (*removed.shape[:-1],)  # [orders, 2, P + 1, B]
    return found.double().cpu().numpy().reshape(shape).swapaxes(2, 3)
