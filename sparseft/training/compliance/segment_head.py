"""The head of a reader of segments before any method starts: fitted to the frozen features.

As `sparseft.training.head` does for one label: every method starts from the same head, and the
body's first gradients are not those of a random one.

Legend: B texts, N segments, H hidden size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from sparseft.data.segments import SegmentBatches
from sparseft.models import SegmentModel
from sparseft.models.segments import SegmentLabels, segment_loss
from sparseft.training.compliance.side import WarmUp
from sparseft.training.devices import autocast
from sparseft.training.held_out import folds_of

__all__ = ["warm_up_segments"]

_TEXTS, _TOKENS = 256, 8192  # looked at together, and of one call of the frozen backbone


def warm_up_segments(
    model: SegmentModel,
    rows: SegmentBatches,
    *,
    steps: int,
    l2: float,
    precision: str,
    seed: int,
) -> WarmUp:
    """Fit the head by full-batch L-BFGS to the mean loss plus `l2` / 2 times its squared weights.

    Args:
        model: only its head changes.
        rows: the training rows.
        steps: most iterations, 1 or more.
        l2: strength of the penalty.
        precision: the `training.autocast` setting.
        seed: of the folds and draws of `held_out`.
    """
    start = time.perf_counter()
    features = _Features(model, rows, precision)
    everything = list(range(rows.rows))
    fitted_to = features.of(everything)
    _fit(model, *fitted_to, steps=steps, l2=l2)
    seconds = time.perf_counter() - start

    def held_out(count: int, folds: int) -> Iterator[dict[str, Tensor]]:
        fold = folds_of(np.zeros(rows.rows, np.int64), folds, seed)
        random = np.random.default_rng([seed, folds, 1])
        wanted = np.zeros(rows.rows, bool)
        wanted[random.permutation(rows.rows)[: count * rows.batch_size]] = True
        kept = [p.detach().clone() for p in model.head.parameters()]
        try:
            for number in range(folds):
                inside = np.flatnonzero((fold == number) & wanted)
                outside = np.flatnonzero(fold != number).tolist()
                if not len(inside) or not outside:
                    continue
                _put(model, kept)
                _fit(model, *features.of(outside), steps=steps, l2=l2)
                inside = inside[np.argsort(-rows.lengths[inside], kind="stable")]
                for begin in range(0, len(inside), rows.batch_size):
                    batch = rows.collate(inside[begin : begin + rows.batch_size])
                    yield {key: batch[key] for key in ("input_ids", "attention_mask", "labels")}
        finally:
            _put(model, kept)

    return WarmUp(seconds, held_out)


class _Features:
    """The frozen backbone's vectors of all rows, row by row."""

    def __init__(self, model: SegmentModel, rows: SegmentBatches, precision: str) -> None:
        self._rows = rows
        self._vectors: list[tuple[Tensor, dict[str, Tensor]]] = []
        mode = model.training
        model.eval()
        try:
            with torch.no_grad():
                # Many at once: what is said twice goes through the backbone once.
                for start in range(0, rows.rows, _TEXTS):
                    numbers = np.arange(start, min(start + _TEXTS, rows.rows))
                    batch = rows.collate(numbers)
                    places = batch["labels"].places
                    with autocast(precision, rows.device):
                        segments, candidates = model.vectors(
                            batch["input_ids"], batch["attention_mask"], places, _TOKENS
                        )
                    for text in range(len(numbers)):
                        more = {n: v[places.owners[n] == text] for n, v in candidates.items()}
                        self._vectors.append((segments[places.owner == text], more))
        finally:
            model.train(mode)

    def of(self, numbers: Sequence[int]) -> tuple[Tensor, dict[str, Tensor], SegmentLabels]:
        """Vectors and labels of some rows."""
        labels: SegmentLabels = self._rows.collate(np.array(numbers))["labels"]
        own = [self._vectors[number] for number in numbers]
        names = own[0][1]
        return (
            torch.cat([segments for segments, _ in own]),
            {name: torch.cat([more[name] for _, more in own]) for name in names},
            labels,
        )


def _fit(
    model: SegmentModel,
    segments: Tensor,
    candidates: dict[str, Tensor],
    labels: SegmentLabels,
    *,
    steps: int,
    l2: float,
) -> None:
    head, targets = model.head, labels.targets
    assert targets is not None
    parameters = list(head.parameters())
    flags = [p.requires_grad for p in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=steps, history_size=10, line_search_fn="strong_wolfe"
    )

    def objective() -> float:
        optimizer.zero_grad()
        loss = segment_loss(head(segments, candidates, labels.places), labels.places, targets)
        penalty = head.segment.weight.square().sum() + head.token.weight.square().sum()
        whole = loss + 0.5 * l2 * penalty
        whole.backward()
        return float(whole.detach())

    with torch.enable_grad():
        optimizer.step(objective)
    for parameter, flag in zip(parameters, flags, strict=True):
        parameter.grad = None
        parameter.requires_grad_(flag)


@torch.no_grad()
def _put(model: SegmentModel, values: Sequence[Tensor]) -> None:
    for parameter, value in zip(model.head.parameters(), values, strict=True):
        parameter.copy_(value)
